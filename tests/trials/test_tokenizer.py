"""A tokenizer of the tokenizers library, trained here: its ids as a corpus, and what is none."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from critical.trials.corpus import Reading, prepare
from critical.trials.errors import CorpusError
from critical.trials.token_file import TokenFile
from critical.trials.token_ids import Ids
from critical.trials.tokenizer import MOST_BYTES, PIECE, encode

SYMBOLS = 280


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Byte-level BPE with a few merges; it truncates and pads, as a model's own may."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SYMBOLS,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = "the sea at noon, the tea at ten; all in one great heap of words "
    made.train_from_iterator([words * 50], trainer)
    made.enable_truncation(16)
    made.enable_padding(length=16)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made.save(str(path))
    return path


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Enough of it for the fewest tokens."""
    path = tmp_path / "text.txt"
    path.write_text("the sea at noon.\n" * 3000)
    return path


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_ids_say_the_text(tokenizer: Path, text: str) -> None:
    """Nothing is truncated, padded or added, and every id is in the vocabulary."""
    found = encode(text.encode(), tokenizer)
    assert Tokenizer.from_file(str(tokenizer)).decode(found.ids.tolist()) == text
    assert found.symbols == SYMBOLS
    assert found.ids.max(initial=0) < SYMBOLS


def test_a_long_text_is_encoded_in_pieces(tokenizer: Path) -> None:
    """Cut after line ends, which changes nothing; a cut character at the end is left out."""
    line = "the tea at ten\n"
    text = line * (2 * PIECE // len(line) + 10)
    pieces = encode(text.encode() + "é".encode()[:1], tokenizer).ids.tolist()
    whole = Tokenizer.from_file(str(tokenizer))
    whole.no_truncation()
    whole.no_padding()
    assert pieces == whole.encode(text).ids


def test_a_corpus_of_a_tokenizer(tokenizer: Path, text: Path, tmp_path: Path) -> None:
    """Fewer tokens than bytes, of a type that holds them, under another digest."""
    as_bytes = prepare(text, tmp_path / "corpora")
    corpus = prepare(text, tmp_path / "corpora", Reading(tokenizer=tokenizer))
    assert corpus.symbols == SYMBOLS
    assert corpus.tokens < as_bytes.tokens
    assert corpus.digest != as_bytes.digest
    TokenFile(corpus)


def test_what_was_encoded_is_not_encoded_again(
    tokenizer: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the text, the tokenizer or the token file is another one."""
    runs: list[Path] = []

    def counted(text: bytes, tokenizer: Path) -> Ids:
        runs.append(tokenizer)
        return encode(text, tokenizer)

    monkeypatch.setattr("critical.trials.corpus.encode", counted)

    def made(by: Path = tokenizer) -> object:
        return prepare(text, tmp_path / "corpora", Reading(tokenizer=by))

    corpus = prepare(text, tmp_path / "corpora", Reading(tokenizer=tokenizer))
    assert made() == corpus
    assert len(runs) == 1
    corpus.path.write_bytes(b"damaged")
    assert made() == corpus
    assert len(runs) == 2
    other = tmp_path / "other.json"
    other.write_text(tokenizer.read_text() + "\n")
    assert made(other) == corpus
    assert len(runs) == 3
    text.write_text("ten at sea\n" * 3000)
    assert made() != corpus
    assert len(runs) == 4


def test_too_few_tokens(tokenizer: Path, tmp_path: Path) -> None:
    """Enough bytes may be too few tokens."""
    path = tmp_path / "text.txt"
    path.write_text("the " * 1100)
    with pytest.raises(CorpusError, match=r"text.txt comes to \d+ tokens: give at least 4096"):
        prepare(path, tmp_path / "corpora", Reading(tokenizer=tokenizer))


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1]", b"text", b"\xff", b'{"model": {"type": "BPE"}}', b"[" * 10_000]
)
def test_a_file_that_is_no_tokenizer(content: bytes, text: Path, tmp_path: Path) -> None:
    """The message gives the library's reason in one line, and what to give."""
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=r"tokenizer.json cannot be read \(.*\): give") as caught:
        prepare(text, tmp_path / "corpora", Reading(tokenizer=path))
    assert "\n" not in str(caught.value)


def test_a_missing_tokenizer(text: Path, tmp_path: Path) -> None:
    """Named, with what to give."""
    missing = Reading(tokenizer=tmp_path / "none.json")
    with pytest.raises(CorpusError, match=r"none.json does not exist: give the tokenizer.json of"):
        prepare(text, tmp_path / "corpora", missing)


@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
def test_a_tokenizer_that_is_no_regular_file(kind: str, text: Path, tmp_path: Path) -> None:
    """It is refused at once: reading a device or a pipe might never end."""
    place = Path("/dev/zero") if kind == "device" else tmp_path / kind
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    with pytest.raises(CorpusError, match=f"{place} is not a regular file: give the tokenizer"):
        prepare(text, tmp_path / "corpora", Reading(tokenizer=place))


def test_a_tokenizer_that_is_too_large(text: Path, tmp_path: Path) -> None:
    """As a file of weights that is given by mistake; no more than the bound is read."""
    place = tmp_path / "weights"
    with place.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(CorpusError, match=r"weights is over 64 MiB: give the tokenizer.json of"):
        prepare(text, tmp_path / "corpora", Reading(tokenizer=place))


def test_an_unreadable_tokenizer(
    tokenizer: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has the system's reason."""
    plain = Path.open

    def refuse(path: Path, *rest: Any, **more: Any) -> Any:
        if path == tokenizer:
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path, *rest, **more)

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(CorpusError, match=r"cannot be read \(Permission denied\): give the tok"):
        prepare(text, tmp_path / "corpora", Reading(tokenizer=tokenizer))


def test_a_tokenizer_that_cannot_encode(text: Path, tmp_path: Path) -> None:
    """A word-level one that has no id for an unknown word says so only when it meets one."""
    made = Tokenizer(models.WordLevel({"known": 0}, unk_token="[UNK]"))
    path = tmp_path / "tokenizer.json"
    made.save(str(path))
    with pytest.raises(CorpusError, match=r"cannot encode the corpus \(.*\): give another one"):
        prepare(text, tmp_path / "corpora", Reading(tokenizer=path))


def test_the_library_may_be_missing(
    tokenizer: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has the command that installs it."""
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(CorpusError, match=r"pip install 'critical\[tokenizers\]', or leave it out"):
        prepare(text, tmp_path / "corpora", Reading(tokenizer=tokenizer))
