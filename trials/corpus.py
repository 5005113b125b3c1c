"""Real text as a flat token file, read and tokenized once by the driver and mapped by workers.

Tokens are bytes, or those of a tokenizer, or whatever ids a file of tokens holds already. The
token file is named by its digest, so every node and Python version trains on the same tokens.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from critical.trials.errors import CorpusError
from critical.trials.text_files import read_text, standard_library
from critical.trials.token_ids import Ids, read_ids
from critical.trials.tokenizer import digest_of, encode

SYMBOLS = 256
"""Token ids of text whose tokens are bytes."""
FEWEST_TOKENS = 4096
TOKENS_SUFFIX = ".bin"
"""A corpus file of this suffix holds token ids; any other holds text."""
_DEFAULT_TEXT = "default-text"


@dataclass(frozen=True, slots=True)
class Corpus:
    """A token file.

    Attributes:
        path: Flat file of unsigned little-endian integers, one a token, with no header.
        tokens: Number of tokens.
        digest: SHA-256, hexadecimal, of the file where tokens are bytes; else of the number of
            symbols and the file. Whatever changes a token changes it.
        symbols: Number of token ids, all below it.
        cut: Whether the source holds more than ``MOST_BYTES`` of ``text_files``, which is left out.
    """

    path: Path
    tokens: int
    digest: str
    symbols: int = SYMBOLS
    cut: bool = False

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """The type of a token in the file: the smallest that holds every id."""
        return token_type(self.symbols)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a corpus is to be read, where it is not plain text taken byte by byte.

    Attributes:
        tokenizer: A ``tokenizer.json`` of Hugging Face's tokenizers, or None for bytes.
        text_field: What holds the text in each object of JSONL files, ``text`` if None.
        token_bytes: Bytes of an id in a file of token ids, 2 (if None) or 4.
        vocabulary: Number of ids of such a file; one more than the greatest that it holds if None.
    """

    tokenizer: Path | None = None
    text_field: str | None = None
    token_bytes: int | None = None
    vocabulary: int | None = None


def token_type(symbols: int) -> np.dtype[np.unsignedinteger]:
    """Return the smallest unsigned little-endian type for ids below ``symbols``."""
    return np.dtype("u1" if symbols <= 2**8 else "<u2" if symbols <= 2**16 else "<u4")


def prepare(source: Path | None, folder: Path, reading: Reading | None = None) -> Corpus:
    """Read a corpus, write its token file into ``folder`` under its digest, and describe it.

    Args:
        source: A text file or JSONL (``.jsonl``, ``.ndjson``), a folder of them, a file of token
            ids (``.bin``), or None for Python's standard library.
        folder: Where the token file goes; made where it is missing.
        reading: How to read the source.

    Raises:
        CorpusError: The source or the tokenizer is missing, unreadable, too small or not what its
            name says, ``reading`` does not suit it, or ``folder`` cannot be written to.
    """
    reading = reading or Reading()
    if source is not None and source.suffix == TOKENS_SUFFIX and not source.is_dir():
        _refuse_for_tokens(source, reading)
        ids = read_ids(source, reading.token_bytes, reading.vocabulary)
        return replace(_keep_ids(ids, source, folder), cut=ids.cut)
    _refuse_for_text(source, reading)
    tokenizer = reading.tokenizer
    by = None if tokenizer is None else digest_of(tokenizer)
    text, cut = _text_of(source, reading, folder)
    if tokenizer is None:
        return replace(_keep(text, SYMBOLS, folder), cut=cut)
    # Encoding takes seconds a megabyte, and the same command resumes: what it came to is kept.
    memory = "tokenized-" + hashlib.sha256(f"{by} ".encode() + text).hexdigest()[:16]
    corpus = _recall(folder, memory)
    if corpus is None:
        place = source or Path("Python's standard library")
        corpus = _keep_ids(encode(text, tokenizer), place, folder)
        _remember(folder, memory, corpus)
    return replace(corpus, cut=cut)


def _text_of(source: Path | None, reading: Reading, folder: Path) -> tuple[bytes, bool]:
    """Return the text of a source, and whether the source holds more; the default is as it is."""
    if source is None:
        return _default_text(folder), False
    text = read_text(source, reading.text_field)
    return text.data, text.cut


def _refuse_for_tokens(source: Path, reading: Reading) -> None:
    for name in ("tokenizer", "text_field"):
        if getattr(reading, name) is not None:
            flag = "--" + name.replace("_", "-")
            raise CorpusError(
                f"corpus {source} holds token ids already, so {flag} cannot be used: leave it "
                f"out, or give text (a name that does not end in {TOKENS_SUFFIX})"
            )


def _refuse_for_text(source: Path | None, reading: Reading) -> None:
    for name in ("token_bytes", "vocabulary"):
        if getattr(reading, name) is not None:
            flag = "--" + name.replace("_", "-")
            given = "no corpus is given" if source is None else f"corpus {source} is text"
            raise CorpusError(
                f"{flag} is for token ids, and {given}: leave it out, or give "
                f"a file whose name ends in {TOKENS_SUFFIX} with --corpus"
            )
    if source is None and reading.text_field is not None:
        raise CorpusError(
            "--text-field is for JSONL, and no corpus is given: leave it out, or give a .jsonl "
            "file with --corpus"
        )


def _default_text(folder: Path) -> bytes:
    """Return the text that this folder has had from the first, or else the standard library.

    Another version of Python has another library: a study that was begun with an older one goes
    on with the text that it has.
    """
    kept = _recall(folder, _DEFAULT_TEXT)
    if kept is not None:
        return kept.path.read_bytes()
    text = standard_library()
    _remember(folder, _DEFAULT_TEXT, _keep(text, SYMBOLS, folder))
    return text


def _remember(folder: Path, name: str, corpus: Corpus) -> None:
    document = {"digest": corpus.digest, "symbols": corpus.symbols}
    _write(folder / f"{name}.json", json.dumps(document).encode())


def _recall(folder: Path, name: str) -> Corpus | None:
    """Return a corpus that this folder has under a name, if it is there and whole."""
    try:
        document = json.loads((folder / f"{name}.json").read_bytes())
        digest, symbols = str(document["digest"]), int(document["symbols"])
        path = _path(folder, digest) if re.fullmatch("[0-9a-f]{64}", digest) else folder
        data = path.read_bytes()
    except (OSError, ValueError, TypeError, KeyError):
        return None
    whole = _digest(data, symbols) == digest
    return (
        Corpus(path, len(data) // token_type(symbols).itemsize, digest, symbols) if whole else None
    )


def _keep_ids(found: Ids, source: Path, folder: Path) -> Corpus:
    if len(found.ids) < FEWEST_TOKENS:
        raise CorpusError(
            f"corpus {source} comes to {len(found.ids)} tokens: give at least {FEWEST_TOKENS}"
        )
    data = found.ids.astype(token_type(found.symbols)).tobytes()
    return _keep(data, found.symbols, folder)


def _keep(data: bytes, symbols: int, folder: Path) -> Corpus:
    """Put a token file into the folder, unless it is there already."""
    digest = _digest(data, symbols)
    path = _path(folder, digest)
    _write(path, data)
    return Corpus(path, len(data) // token_type(symbols).itemsize, digest, symbols)


def _digest(data: bytes, symbols: int) -> str:
    prefix = b"" if symbols == SYMBOLS else f"{symbols} symbols\n".encode()
    return hashlib.sha256(prefix + data).hexdigest()


def _path(folder: Path, digest: str) -> Path:
    return folder / f"corpus-{digest[:16]}.bin"


def _write(path: Path, data: bytes) -> None:
    """Write a file that other processes see whole or not at all, under a name of our own first."""
    partial = path.with_suffix(f".{uuid.uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.read_bytes() == data:
            return
        try:
            partial.write_bytes(data)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise CorpusError(
            f"token file {path} cannot be written ({error.strerror}): give another --work-dir"
        ) from error
