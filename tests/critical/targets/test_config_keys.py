"""A number that YAML reads as a text is told, with what to write for it."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from critical.errors import ExportError, TargetError
from critical.targets.config_keys import Keys


def keys_of(value: object, *, lenient: bool = False) -> Keys:
    """Return the keys of a YAML file that gives one value."""
    values = {"a": {"std": value}}
    keys = Keys(values, "run.yaml", None, error=ExportError, lenient=lenient, yaml=True)
    return keys.inner("a")


@pytest.mark.parametrize(
    ("text", "meant"),
    [("2e-2", "2.0e-2"), ("1e-5", "1.0e-5"), ("-3E4", "-3.0e+4"), ("1.5e3", "1.5e+3")],
)
def test_a_number_without_a_point_or_sign_is_told_in_yaml(text: str, meant: str) -> None:
    """In a JSON file it can only be a string that somebody wrote, and is shown as one."""
    assert isinstance(yaml.safe_load(text), str)
    sentence = re.escape(f"run.yaml, a: YAML reads std {text} as a text: write {meant}")
    with pytest.raises(ExportError, match=f"^{sentence}$"):
        keys_of(text).positive(("std",), 0.02)
    with pytest.raises(TargetError, match=rf"std is the string '{text}': write a number"):
        Keys({"std": text}, "config.json", None).number(("std",), 0.02)
    assert keys_of(text, lenient=True).number(("std",), 0.02) == float(text)


@pytest.mark.parametrize("value", ["0.02", "wide", "e5", "1e", "1e5e5", "", "9" * 50 + "e1", [1]])
def test_what_is_no_such_number_is_not_called_one(value: object) -> None:
    """A plain number in quotes, a word, or a list."""
    with pytest.raises(ExportError, match=r"std is .*: write a number, as 0\.02"):
        keys_of(value).number(("std",), 0.02)


@given(st.from_regex(r"[-+]?[0-9]{1,6}(\.[0-9]{0,4})?[eE][-+]?[0-9]{1,2}", fullmatch=True))
def test_what_is_to_be_written_is_the_number_that_was_meant(text: str) -> None:
    """YAML reads it back as the number that Python reads the text as."""
    with pytest.raises(ExportError) as caught:
        keys_of(text).number(("std",), 0.02)
    meant = str(caught.value).rpartition("write ")[2]
    assert yaml.safe_load(meant) == float(text)
