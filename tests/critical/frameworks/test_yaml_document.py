"""YAML edited as text: comments, order, quoting and flow style stay, and the edit reads back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from critical.errors import ExportError
from critical.frameworks.documents.yaml_document import YamlDocument
from critical.frameworks.documents.yaml_edit import written

Within = Callable[[float], AbstractContextManager[None]]

BLOCK = """\
# The 1B run.
run_name: "olmo-1b"   # as in the table
model:
  d_model: 2048        # width
  init_std: 0.02       # the default
  layers:
  - a
  - {b: 1, c: [1, 2]}

optimizer:
  learning_rate: 3.0e-4
  betas: [0.9, 0.95]
  # decay comes last
"""
FLOW = """\
{
  # parallelism
  "pipe_parallel_size": 1,

  "hidden_size": 768,   # width
  "init": {"std": 0.02, "kind": 'normal'},
  "last": true,
}
"""


def edited(text: str, **changes: Any) -> str:
    """Set dotted keys; ``__`` stands for the dot."""
    paths = {tuple(key.split("__")): value for key, value in changes.items()}
    return YamlDocument(text, "c.yaml").edited(paths)


def test_a_value_is_replaced_and_its_comment_stays() -> None:
    """And every other byte, with either line end."""
    assert edited(BLOCK, model__init_std=0.005) == BLOCK.replace("0.02 ", "0.005 ")
    crlf = BLOCK.replace("\n", "\r\n")
    assert edited(crlf, model__init_std=0.005) == crlf.replace("0.02 ", "0.005 ")


def test_a_new_key_stands_after_its_last_neighbour() -> None:
    """With their indentation, before blank lines and comments that belong to what follows."""
    after = edited(BLOCK, model__emb_std=0.5)
    assert after == BLOCK.replace("[1, 2]}\n", "[1, 2]}\n  emb_std: 0.5\n")
    assert edited(BLOCK, top=0.5).endswith("betas: [0.9, 0.95]\ntop: 0.5\n  # decay comes last\n")
    assert edited("a: 1", b__c=True) == "a: 1\nb:\n  c: true\n"


def test_flow_style_keeps_its_shape() -> None:
    """Quoted keys, one a line, comments and the comma at the end."""
    after = edited(FLOW, init_method="normal", init__std=0.5)
    changed = FLOW.replace('"std": 0.02', '"std": 0.5')
    assert after == changed.replace('"last": true,', '"last": true,\n  "init_method": normal,')
    assert edited(FLOW, init__more__x=0.5) == FLOW.replace(
        "'normal'}", '\'normal\', "more": {"x": 0.5}}'
    )
    assert edited("{}", a__b=0.5) == "{a: {b: 0.5}}"


@pytest.mark.parametrize("comma", ["", ",", " ,"])
def test_a_comment_stays_with_its_entry(comma: str) -> None:
    """Though it stands after the comma that a new entry needs."""
    text = f'{{\n  "a": 1,  # one\n  "b": 2{comma}  # two\n}}\n'
    expected = text.replace(f"2{comma}", f"2{comma or ','}")
    expected = expected.replace("# two\n", f'# two\n  "c": 0.5{"," if comma else ""}\n')
    assert edited(text, c=0.5) == expected


def test_quotes_of_texts_are_kept() -> None:
    """Single and double ones; a plain text stays plain."""
    text = "a: 'x'\nb: \"x\"\nc: x\n"
    assert edited(text, a="it", b="it", c="it") == "a: 'it'\nb: \"it\"\nc: it\n"
    assert edited(text, c="no") == 'a: \'x\'\nb: "x"\nc: "no"\n'


def test_a_value_left_out_is_filled_in() -> None:
    """Right after its colon."""
    assert edited("a:\nb: 1\n", a=0.5) == "a: 0.5\nb: 1\n"


def test_no_number_is_written_that_yaml_reads_as_text() -> None:
    """PyYAML takes 1e-05 for a text."""
    assert edited("a: 1\n", a=1e-05) == "a: 1.0e-05\n"
    assert edited("a: 1\n", a=1.5e-07) == "a: 1.5e-07\n"


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_reads_back(number: float) -> None:
    """As the same double, by YAML 1.1."""
    assert yaml.safe_load(written(number)) == number
    assert isinstance(yaml.safe_load(written(number)), float)


@given(st.text())
def test_every_text_reads_back(text: str) -> None:
    """In whatever quotes it stood."""
    for quote in (None, "'", '"'):
        if quote != "'" or (text.isprintable() and text.isascii()):
            assert yaml.safe_load(written(text, quote)) == text


names = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True)
leaves = (
    st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | names
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(names, inner, min_size=1, max_size=3)
    ),
    max_leaves=10,
)


@settings(max_examples=60)
@given(
    st.dictionaries(names, trees, min_size=1, max_size=4),
    st.lists(names, min_size=1, max_size=3),
    st.floats(min_value=1e-12, max_value=10),
    st.sampled_from([True, False, None]),
)
def test_an_edit_reads_back(
    document: dict[str, Any], path: list[str], value: float, flow: bool | None
) -> None:
    """As the same document with one value set, idempotently; or it says that it cannot."""
    text = yaml.safe_dump(document, default_flow_style=flow)
    try:
        after = YamlDocument(text, "c.yaml").edited({tuple(path): value})
    except ExportError as error:
        assert str(error).startswith("c.yaml")
        return
    expected: Any = yaml.safe_load(text)
    inner = expected
    for key in path[:-1]:
        inner = inner.setdefault(key, {})
    inner[path[-1]] = value
    assert YamlDocument(after, "c.yaml").values == expected
    assert YamlDocument(after, "c.yaml").edited({tuple(path): value}) == after


@settings(max_examples=60)
@given(
    st.dictionaries(names, trees, min_size=1, max_size=4),
    st.floats(min_value=1e-12, max_value=10),
    st.floats(min_value=1e-12, max_value=10),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "  # why", "   #"]),
)
def test_what_was_not_asked_for_stays(
    document: dict[str, Any], before: float, after: float, newline: str, comment: str
) -> None:
    """To the byte: only the value's own characters differ, and it can be put back."""
    rest = yaml.safe_dump(document).replace("\n", f"{comment}\n")
    text = f"first:\n  std: {written(before)}{comment}\n{rest}".replace("\n", newline)
    if "first" in document:
        return
    changed = edited(text, first__std=after)
    assert changed == text.replace(written(before), written(after), 1)
    assert edited(changed, first__std=before) == text


def test_aliases_and_merges_are_written_out_in_values() -> None:
    """Own keys before merged ones."""
    text = "base: &b {std: 1, d: 2}\nmodel:\n  <<: *b\n  d: 3\nother: *b\n"
    values = YamlDocument(text, "c.yaml").values
    assert values["model"] == {"std": 1, "d": 3}
    assert values["other"] == {"std": 1, "d": 2}


@pytest.mark.parametrize("path", ["base__std", "other__std", "std", "again"])
def test_what_an_alias_shares_is_not_edited(path: str) -> None:
    """Since it would change two places at once."""
    text = "base: &b {std: 1}\nother: *b\nstd: &s 0.02\nagain: *s\n"
    with pytest.raises(ExportError, match="has an anchor or is an alias"):
        edited(text, **{path: 0.5})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no YAML mapping"),
        ("- 1\n- 2\n", "holds no YAML mapping"),
        ("a: 1\na: 2\n", "line 2, gives the key 'a' twice"),
        ("a: {b: 1, b: 2}\n", "line 1, gives the key 'b' twice"),
        ("a: [1, 2\n", "is not YAML at line 2"),
        ("a: 1\n---\nb: 2\n", "is not YAML"),
        ("a: !!python/object/apply:os.system ['ls']\n", "line 1, has the tag .*os.system"),
        ("a: !!set {x, y}\n", "has the tag"),
        ("a: !include other.yaml\n", "line 1, has the tag !include"),
        ("a: &a {b: *a}\n", "has an alias into itself"),
        ("? [1, 2]\n: 3\n", "has a key that is no text"),
        ("a: 2001-99-99\n", "has a value that cannot be read"),
        ("<<: 3\n", "merges"),
        ("\x00", "is not YAML"),
        ("[" * 20_000, "nested too deeply"),
        ("- " * 20_000, "nested too deeply"),
        ("? " * 20_000, "nested too deeply"),
        ("a: " + "{b: " * 20_000, "nested too deeply"),
        ("a: " + "x" * 600_000, "over 128 KiB"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(text: str, words: str, within: Within) -> None:
    """And quickly."""
    with within(5), pytest.raises(ExportError, match=words) as caught:
        _ = YamlDocument(text, "c.yaml").values
    assert "\n" not in str(caught.value)


def test_a_bomb_of_aliases_is_refused(within: Within) -> None:
    """A billion laughs: nine levels of nine."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 9):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]")
    with within(5), pytest.raises(ExportError, match="holds too many values"):
        _ = YamlDocument("\n".join(lines) + "\n", "c.yaml").values
