"""OmegaConf's ``${a.b.c}`` written out, in circles and to nothing as well."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from critical.errors import ExportError
from critical.frameworks.documents.interpolation import resolved


def test_a_reference_becomes_what_stands_there() -> None:
    """Numbers, texts and whole mappings are taken over, from the root downwards."""
    values = {
        "variables": {"width": 2048, "block": {"heads": 16}},
        "model": {"d_model": "${variables.width}", "attention": "${variables.block}"},
        "tokenizer": "${model.d_model}",
    }
    found = resolved(values, "run.yaml")
    assert found["model"] == {"d_model": 2048, "attention": {"heads": 16}}
    assert found["tokenizer"] == 2048
    assert values["tokenizer"] == "${model.d_model}"


def test_a_reference_into_a_list_is_followed() -> None:
    """An index is a key of a list."""
    values = {"sizes": [{"width": 8}, {"width": 16}], "width": "${sizes.1.width}"}
    assert resolved(values, "run.yaml")["width"] == 16


def test_references_in_circles_and_to_nothing_stay_texts() -> None:
    """Neither hangs, and each is left for whoever needs the number."""
    values = {
        "a": "${b}",
        "b": "${a}",
        "own": "${own}",
        "inside": {"x": "${inside}"},
        "gone": "${not.there}",
        "beyond": "${a.b.c.d}",
        "list": [1],
        "past": "${list.7}",
    }
    found = resolved(values, "run.yaml")
    assert {key: found[key] for key in ("a", "b", "own", "gone", "beyond", "past")} == {
        key: values[key] for key in ("a", "b", "own", "gone", "beyond", "past")
    }
    assert found["inside"]["x"] == {"x": "${inside}"}


@pytest.mark.parametrize(
    "text", ["${oc.env:HOME}", "${.width}", "${width} ", "x${width}", "$width", "${}", "${a..b}"]
)
def test_what_is_no_plain_reference_stays(text: str) -> None:
    """Resolvers, relative references and references inside a text are left as they are."""
    assert resolved({"width": 1, "key": text}, "run.yaml")["key"] == text


def test_references_that_double_each_other_are_refused() -> None:
    """2⁴⁰ values are not written out; the message says what to write."""
    values: dict[str, Any] = {"v0": [1, 1]}
    for number in range(1, 40):
        values[f"v{number}"] = [f"${{v{number - 1}}}", f"${{v{number - 1}}}"]
    with pytest.raises(ExportError, match=r"run\.yaml holds too many values.*write a training"):
        resolved(values, "run.yaml")


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.integers() | st.sampled_from(["${a}", "${b.a}", "${a.0}", "x"]),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
        ),
        max_leaves=12,
    )
)
def test_any_tree_resolves_or_is_refused(tree: object) -> None:
    """Nothing but a sentence for the user ever comes out; keys stay."""
    try:
        found = resolved({"a": tree, "b": {"a": 1}}, "run.yaml")
    except ExportError:
        return
    assert set(found) == {"a", "b"}
