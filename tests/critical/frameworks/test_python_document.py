"""Python read and never run: literals, arithmetic on numbers, and the names that stay unknown."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from critical.errors import ExportError
from critical.frameworks.documents.python_document import EVERY_NAME, PythonDocument

Within = Callable[[float], AbstractContextManager[None]]

CONFIG = '''\
"""train a miniature character-level model"""
out_dir = 'out-char'  # keep it
eval_interval = 250
dataset: str = 'shakespeare_char'
gradient_accumulation_steps = 5 * 8
batch_size = block_size = 64
n_layer, n_head = 6, 6
learning_rate = -1e-3 * 2 ** -1
dropout = 0.2
bias = False
init = None
betas = (0.9, 0.95)
sizes = {'small': [1, 2], 'large': 3.0}
'''


def read(text: str) -> PythonDocument:
    """Return a text as a document."""
    return PythonDocument(text, "train.py")


def test_literals_and_arithmetic_are_values() -> None:
    """Tuples as lists, and every kind of assignment to a plain name."""
    assert read(CONFIG).values == {
        "out_dir": "out-char",
        "eval_interval": 250,
        "dataset": "shakespeare_char",
        "gradient_accumulation_steps": 40,
        "batch_size": 64,
        "block_size": 64,
        "learning_rate": -0.0005,
        "dropout": 0.2,
        "bias": False,
        "init": None,
        "betas": [0.9, 0.95],
        "sizes": {"small": [1, 2], "large": 3.0},
    }
    assert read(CONFIG).unread == {"n_layer": 7, "n_head": 7}


def test_the_last_assignment_stands() -> None:
    """As it does in Python, whatever came before it."""
    assert read("a = 1\na = f()\na = 2\n").values == {"a": 2}
    document = read("a = 1\na = 2\na = f()\n")
    assert (document.values, document.unread) == ({}, {"a": 3})


@pytest.mark.parametrize(
    "statement",
    [
        "a = b",
        "a = [1, b]",
        "a = f'{1}'",
        "a = 1 if x else 2",
        "a = (1, 2)[0]",
        "a = b'x'",
        "a = {1: 2}",
        "a = {**b}",
        "a = 1j",
        "a = 1e999",
        "a = 1 / 0",
        "a = 1 % 0",
        "a = 'x' * 3",
        "a = True + 1",
        "a = ~1",
        "a = 10 ** 20 ** 20",
        "a = 9 ** 9 ** 9 ** 9",
        "a = 2 ** 100000",
        "a = (-8) ** 0.5",
        "a = 10 ** 10 * 10 ** 10 * 10 ** 10 * 10 ** 10",
        "a += 1",
        "a, b = 1, 2",
        "(a := 2)",
        "del a",
        "if x: a = 1",
        "for a in [1]: pass",
        "while x: a = 1",
        "with open('x') as a: pass",
        "try:\n  a = 1\nexcept E: pass",
        "import a",
        "import a.b",
        "import x as a",
        "from x import a",
        "def a(): pass",
        "class a: pass",
        "def f():\n  global a\n  a = 1",
        "a.b = 1",
        "a['b'] = 1",
        "a['b'][0] = 1",
        "[a, *b] = [1, 2]",
        "try: pass\nexcept E as a: pass",
        "match x:\n  case a: pass",
        "match x:\n  case [1, *a]: pass",
        "match x:\n  case {1: 2, **a}: pass",
    ],
)
def test_what_only_running_it_would_tell_stays_unknown(statement: str) -> None:
    """No default is taken for such a name, and no older value either."""
    document = read(f"z = 1\na = 5\n{statement}\n")
    assert document.values == {"z": 1}
    assert document.unread["a"] == 3


def test_a_function_has_names_of_its_own() -> None:
    """What is assigned within, and the arguments, are not the module's."""
    assert read("a = 1\ndef f(a):\n  a = 2\n  return lambda: a\n").values == {"a": 1}
    assert read("a = 1\nclass C:\n  a = 2\n").values == {"a": 1}


def test_importing_every_name_makes_all_before_it_unknown() -> None:
    """Any of them may come from there; what is assigned after it is known."""
    document = read("a = 1\nfrom x import *\nb = 2\n")
    assert document.values == {"b": 2}
    assert document.unread == {"a": 2, EVERY_NAME: 2}


def test_nothing_is_ever_run(tmp_path: Path) -> None:
    """Not a call, not an import, not a decorator, not an annotation."""
    made = tmp_path / "made"
    call = f"__import__('pathlib').Path({str(made)!r}).touch()"
    text = f"a = {call}\n@({call})\ndef f(x={call}): pass\nb: ({call}) = 1\n{call}\n"
    assert read(text).values == {"b": 1}
    assert not made.exists()


LITERALS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text("xyz", min_size=1, max_size=3), LITERALS, max_size=4))
def test_what_python_writes_reads_back(values: dict[str, Any]) -> None:
    """Every literal that repr makes of plain values."""
    text = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    assert read(text).values == values


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.integers(0, 100).map(str) | st.sampled_from(["0.5", "1e-3", "-2.0"]),
        lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner).map(
            lambda parts: f"({' '.join(parts)})"
        ),
        max_leaves=5,
    )
)
def test_arithmetic_is_pythons(expression: str) -> None:
    """Or unknown, where Python raises."""
    document = read(f"a = {expression}\n")
    try:
        value = eval(expression)
    except ArithmeticError:
        value = None
    if value is None:
        assert document.unread == {"a": 1}
    else:
        assert document.values == {"a": value}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a = \n", r"^train\.py is not Python at line 1: invalid syntax$"),
        ("def f(:\n", r"^train\.py is not Python at line 1: "),
        ("a = '\0'\n", r"^train\.py is not Python"),
        ("(" * 100_000, r"^train\.py is not Python"),
        ("a = " + "-" * 100_000 + "1\n", r"^train\.py is not Python"),
        ("a = " + "9" * 5000 + "\n", r"^train\.py is not Python at line 1: Exceeds the limit"),
        ("a = 1\n" * 100_000, r"^train\.py is over 512 KiB: write the path of a training"),
    ],
)
def test_what_is_no_python_is_refused_in_a_sentence(
    text: str, sentence: str, within: Within
) -> None:
    """However it is broken, and in no time."""
    with within(2), pytest.raises(ExportError, match=sentence) as caught:
        _ = read(text).values
    assert "\n" not in str(caught.value)


def test_arithmetic_nested_deeply_stays_unknown() -> None:
    """Or is refused, as Python's own parser may; nothing overflows."""
    text = "a = " + "+".join(["1"] * 5000) + "\n"
    try:
        assert read(text).unread == {"a": 1}
    except ExportError:
        with pytest.raises((RecursionError, MemoryError, SyntaxError)):
            ast.parse(text)


def test_a_files_own_warnings_are_not_ours() -> None:
    """An escape that Python has no meaning for is its author's."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read("a = '\\d'\nb = 1 is 2\n").values == {"a": "\\d"}


def test_the_text_is_never_edited() -> None:
    """Asked for nothing it comes back as it is, and asked for a value it says what to do."""
    document = read(CONFIG)
    assert document.edited({}) == CONFIG
    with pytest.raises(
        ExportError, match=r"train\.py is Python and stays as it is: set dropout by"
    ):
        document.edited({("dropout",): 0.1})
    assert document.with_text("a = 1\n").values == {"a": 1}
    assert re.fullmatch("python", document.format)
