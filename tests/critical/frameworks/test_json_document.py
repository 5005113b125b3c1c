"""JSON edited as text: what was not asked for stays, byte for byte, and the edit reads back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from critical.errors import ExportError
from critical.frameworks.documents.json_document import JsonDocument

NESTED = (
    '{\r\n\t"model" : {"d": 64,   "init":{"std":2e-2 , "name": "n"}},'
    '\r\n\t"keep": [1,2 ,3]\r\n}\r\n'
)
keys = st.text(max_size=8)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(keys, trees, max_size=5)
numbers = st.floats(min_value=1e-300, max_value=1e6)


def edited(text: str, **changes: float) -> str:
    """Set dotted keys; ``__`` stands for the dot."""
    paths = {tuple(key.split("__")): value for key, value in changes.items()}
    return JsonDocument(text, "c.json").edited(paths)


def test_a_nested_value_is_replaced_where_it_stands() -> None:
    """And nothing beside it moves, odd spaces and line ends included."""
    assert edited(NESTED, model__init__std=0.5) == NESTED.replace("2e-2", "0.5")


def test_a_new_key_is_spaced_as_its_neighbours() -> None:
    """At the end of its own object."""
    after = edited(NESTED, model__init__gain=0.5)
    assert after == NESTED.replace('"name": "n"', '"name": "n", "gain": 0.5')
    assert edited(NESTED, std=1.5) == NESTED.replace("3]", '3],\r\n\t"std": 1.5')


def test_missing_objects_are_made() -> None:
    """Also in an object that has no member yet."""
    assert edited('{"a": {}}', a__b__c=0.5) == '{"a": {"b": {"c": 0.5}}}'
    assert edited("{}", a__b=0.5) == '{"a": {"b": 0.5}}'
    assert edited("{ \n}", a=0.5) == '{"a": 0.5}'


def test_a_parent_that_is_no_object_is_refused() -> None:
    """Rather than replaced."""
    with pytest.raises(ExportError, match=r"c\.json: model is no object: write one"):
        edited('{"model": 3}', model__std=0.5)


@given(objects, st.lists(keys, min_size=1, max_size=3), numbers, st.sampled_from([None, 1, "\t"]))
def test_an_edit_reads_back(
    document: dict[str, Any], path: list[str], value: float, indent: int | str | None
) -> None:
    """As the same document with one value set; where it cannot be set, it says so."""
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    parent: Any = document
    for key in path[:-1]:
        parent = parent.get(key, {}) if isinstance(parent, dict) else parent
    try:
        after = JsonDocument(text, "c.json").edited({tuple(path): value})
    except ExportError as error:
        assert "write one" in str(error)
        assert not isinstance(parent, dict)
        return
    expected = json.loads(text)
    inner = expected
    for key in path[:-1]:
        inner = inner.setdefault(key, {})
    inner[path[-1]] = value
    assert json.loads(after) == expected


@given(objects.filter(bool), numbers, numbers)
def test_setting_twice_is_setting_once(
    document: dict[str, Any], first: float, second: float
) -> None:
    """Writing is idempotent, and a value can be put back to the byte."""
    document["std"] = first
    text = json.dumps(document, indent=2)
    once = edited(text, std=second)
    assert edited(once, std=second) == once
    assert edited(once, std=first) == text
