"""JSONL as a corpus: what is taken of it, how far it is read, and every line that is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from critical.trials.corpus import Reading, prepare
from critical.trials.errors import CorpusError
from critical.trials.text_files import FEWEST_BYTES, Text, read_text

GOOD = json.dumps({"text": "x" * FEWEST_BYTES}) + "\n"


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    """Where a test writes its lines."""
    return tmp_path / "documents.jsonl"


def test_the_texts_of_a_jsonl_file_are_its_documents(jsonl: Path, tmp_path: Path) -> None:
    """Each ends a line; blank lines and other fields are passed over."""
    texts = ["first " * 600, "zweites Stück\nmit Zeilen " * 200]
    lines = [json.dumps({"id": 1, "text": text}) for text in texts]
    jsonl.write_text("\n\n".join(lines) + "\n \n")
    corpus = prepare(jsonl, tmp_path / "corpora")
    assert corpus.path.read_text() == "".join(text + "\n" for text in texts)


@given(st.lists(st.text(st.characters(exclude_characters="\0")), min_size=1, max_size=5))
def test_any_text_survives_jsonl(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    """Whatever JSON may hold comes out as UTF-8, half a surrogate pair as a question mark."""
    path = tmp_path_factory.mktemp("jsonl") / "documents.ndjson"
    texts = [*texts, "x" * FEWEST_BYTES]
    path.write_text("".join(json.dumps({"body": text}) + "\n" for text in texts))
    expected = "".join(text + "\n" for text in texts).encode("utf-8", "replace")
    assert read_text(path, "body") == Text(expected, cut=False)


def test_a_folder_may_hold_jsonl_beside_text(tmp_path: Path) -> None:
    """Each file is read as its name says."""
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("a" * FEWEST_BYTES)
    (folder / "b.jsonl").write_text(json.dumps({"body": "b"}) + "\n")
    assert read_text(folder, "body").data == b"a" * FEWEST_BYTES + b"b\n"


def test_jsonl_is_read_no_further_than_needed(jsonl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after the bound is not even parsed, and the last document is cut."""
    jsonl.write_text(json.dumps({"text": "x" * 5000}) + "\n" + GOOD + "no JSON\n")
    monkeypatch.setattr("critical.trials.text_files.MOST_BYTES", 6000)
    assert read_text(jsonl) == Text(b"x" * 5000 + b"\n" + b"x" * 999, cut=True)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(-3, 3), st.booleans())
def test_it_is_told_when_a_text_is_cut(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], room: int, is_jsonl: bool
) -> None:
    """Exactly where there is more than is read, in one file or over several of them."""
    folder = tmp_path_factory.mktemp("texts")
    texts = [*["a" * 2048] * 3, *("b" * size for size in sizes)]
    for number, text in enumerate(texts):
        content = json.dumps({"text": text[:-1]}) if is_jsonl else text  # a line end is added
        (folder / f"{number}.{'jsonl' if is_jsonl else 'txt'}").write_text(content)
    whole = "".join(text[:-1] + "\n" if is_jsonl else text for text in texts).encode()
    most = len(whole) + room
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("critical.trials.text_files.MOST_BYTES", most)
        assert read_text(folder) == Text(whole[:most], cut=room < 0)


def test_a_line_without_end(jsonl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused before it fills the memory."""
    jsonl.write_text(GOOD)
    monkeypatch.setattr("critical.trials.text_files.MOST_BYTES", FEWEST_BYTES)
    with pytest.raises(CorpusError, match=r"line 1 of corpus .* is longer than 4096 bytes: write"):
        read_text(jsonl)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"is not JSON \(Expecting property name"),
        ("plain text", r"is not JSON"),
        ("\xff", r"is not JSON"),
        ("[" * 100_000, r"is not JSON"),
        ('{"body": "x"}', r"has no text in 'text'"),
        ('{"text": 7}', r"has no text in 'text'"),
        ('{"text": null}', r"has no text in 'text'"),
        ('["text"]', r"has no text in 'text'"),
        ('"text"', r"has no text in 'text'"),
    ],
)
def test_a_broken_line_is_named(line: str, message: str, jsonl: Path) -> None:
    """By its number and file, with what a line must look like."""
    jsonl.write_bytes((GOOD + "\n").encode() + line.encode("latin-1") + b"\n" + GOOD.encode())
    with pytest.raises(CorpusError, match=message) as caught:
        read_text(jsonl)
    assert f"line 3 of corpus {jsonl}" in str(caught.value)
    assert 'write one object a line, as {"text": "…"}' in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_little_text_in_jsonl(jsonl: Path, tmp_path: Path) -> None:
    """What counts is the text, not the size of the file."""
    jsonl.write_text(json.dumps({"text": "short", "other": "x" * FEWEST_BYTES}) + "\n")
    with pytest.raises(CorpusError, match="holds 6 bytes of text: give at least 4096"):
        prepare(jsonl, tmp_path / "corpora", Reading())
