"""Real text as a flat token file, read and tokenized once by the driver and mapped by workers.

Tokens are bytes. By default the text is what ships with every Python: the standard library's
sources, which are about half English documentation.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import sysconfig
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from critical.trials.errors import CorpusError

SYMBOLS = 256
"""Token ids that text uses."""
VALIDATION = 0.05
"""The corpus' last part, kept from training."""
MOST_BYTES = 64 * 2**20
"""What is read of a user's text; the rest is left out."""
STANDARD_LIBRARY_BYTES = 4 * 2**20
FEWEST_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Corpus:
    """A token file.

    Attributes:
        path: Flat file of one byte a token.
        tokens: Number of tokens.
        digest: SHA-256 of the file, hexadecimal.
    """

    path: Path
    tokens: int
    digest: str


class Text:
    """Random windows of a token file, from its training or its validation part.

    Raises:
        CorpusError: The token file is not on this machine, or is not the one that was prepared.
    """

    def __init__(self, corpus: Corpus, first_id: int) -> None:
        try:
            self._data = np.memmap(corpus.path, dtype=np.uint8, mode="r")
        except (OSError, ValueError) as error:
            raise CorpusError(
                f"token file {corpus.path} cannot be read ({error}): "
                "give a --work-dir that every worker sees"
            ) from error
        if len(self._data) != corpus.tokens:
            raise CorpusError(
                f"token file {corpus.path} holds {len(self._data)} tokens instead of "
                f"{corpus.tokens}: delete it and search again"
            )
        self._split = int(len(self._data) * (1 - VALIDATION))
        self._first_id = first_id

    def windows(
        self, count: int, length: int, generator: torch.Generator, *, validation: bool = False
    ) -> Tensor:
        """Draw windows of ``length`` + 1 tokens. Shape (count, length + 1), int64."""
        low, high = (self._split, len(self._data)) if validation else (0, self._split)
        start = torch.randint(low, high - length, (count, 1), generator=generator)
        index = (start + torch.arange(length + 1)).numpy()
        return torch.from_numpy(self._data[index].astype(np.int64)) + self._first_id


def prepare(source: Path | None, folder: Path) -> Corpus:
    """Read a corpus, write its token file into ``folder`` under its digest, and describe it.

    Args:
        source: A text file, a folder of text files, or None for Python's standard library.
        folder: Where the token file goes; made where it is missing.

    Raises:
        CorpusError: The source is missing, unreadable, too small or not text, or ``folder`` cannot
            be written to.
    """
    data = _standard_library() if source is None else _read(source)
    digest = hashlib.sha256(data).hexdigest()
    path = folder / f"corpus-{digest[:16]}.bin"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != data:
            _write(path, data)
    except OSError as error:
        raise CorpusError(
            f"token file {path} cannot be written ({error.strerror}): give another --work-dir"
        ) from error
    return Corpus(path, len(data), digest)


def _write(path: Path, data: bytes) -> None:
    """Write a file that other processes see whole or not at all, under a name of our own first."""
    partial = path.with_suffix(f".{uuid.uuid4().hex}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _read(source: Path) -> bytes:
    try:
        if not source.exists():
            raise CorpusError(
                f"corpus {source} does not exist: give a text file or a folder of them"
            )
        if not source.is_dir() and not source.is_file():
            raise CorpusError(f"corpus {source} is neither a file nor a folder: give one of them")
        files = _files(source) if source.is_dir() else [source]
        data = _join(files, MOST_BYTES, skip_binary=source.is_dir())
    except OSError as error:
        raise _unreadable(source, error) from error
    if len(data) < FEWEST_BYTES:
        raise CorpusError(
            f"corpus {source} holds {len(data)} bytes of text: give at least {FEWEST_BYTES}"
        )
    return data


def _files(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:  # pathlib's rglob would pass over what it may not read
        raise error

    places = os.walk(folder, onerror=refuse)
    found = (Path(place, name) for place, _, names in places for name in names)
    return sorted(file for file in found if file.is_file())


def _standard_library() -> bytes:
    folder = Path(sysconfig.get_path("stdlib"))
    data = _join(sorted(folder.glob("*.py")), STANDARD_LIBRARY_BYTES, skip_binary=True)
    if len(data) < FEWEST_BYTES:
        raise CorpusError(f"{folder} holds no sources to read: give your own text with --corpus")
    return data


def _join(files: Iterable[Path], most: int, *, skip_binary: bool) -> bytes:
    parts: list[bytes] = []
    size = 0
    for file in files:
        try:
            with file.open("rb") as stream:
                part = stream.read(most - size)
        except OSError as error:
            raise _unreadable(file, error) from error
        if not _is_text(part):
            if skip_binary:
                continue
            raise CorpusError(f"corpus {file} is not text (UTF-8): give a text file or a folder")
        parts.append(part)
        size += len(part)
        if size >= most:
            break
    return b"".join(parts)


def _unreadable(place: Path, error: OSError) -> CorpusError:
    return CorpusError(
        f"corpus {error.filename or place} cannot be read ({error.strerror}): "
        "give text that this user may read"
    )


def _is_text(data: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)  # may be cut within a character
    except UnicodeDecodeError:
        return False
    return b"\0" not in data
