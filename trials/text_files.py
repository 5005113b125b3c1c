"""Text from files: plain text and JSONL, one file or a folder of them, and a default text.

Reading is bounded: what comes after ``MOST_BYTES`` is left out, and JSONL is read line by line.
"""

from __future__ import annotations

import codecs
import json
import os
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from critical.trials.errors import CorpusError

MOST_BYTES = 64 * 2**20
"""What is read of a user's text; the rest is left out."""
STANDARD_LIBRARY_BYTES = 4 * 2**20
FEWEST_BYTES = 4096
JSONL_SUFFIXES = (".jsonl", ".ndjson")
DEFAULT_FIELD = "text"


@dataclass(frozen=True, slots=True)
class Text:
    """What was read of a source.

    Attributes:
        data: UTF-8 without zero bytes, perhaps cut within its last character.
        cut: Whether the source holds more.
    """

    data: bytes
    cut: bool


def read_text(source: Path, field: str | None = None) -> Text:
    """Read a text file, a JSONL file, or a folder of them in the order of their paths.

    Each JSONL object's text is followed by a line end. In a folder, files that are not text are
    passed over.

    Args:
        source: The file or the folder.
        field: What holds the text in each object of a JSONL file, ``text`` if None.

    Raises:
        CorpusError: The source is missing, unreadable, too small or not text, a line is not a
            JSON object with that field, or there is a field and no JSONL.
    """
    try:
        if not source.exists():
            raise CorpusError(
                f"corpus {source} does not exist: give a text file or a folder of them"
            )
        if not source.is_dir() and not source.is_file():
            raise CorpusError(f"corpus {source} is neither a file nor a folder: give one of them")
        files = _files(source) if source.is_dir() else [source]
        if field is not None and not any(map(_is_jsonl, files)):
            raise CorpusError(
                f"--text-field is for JSONL, and corpus {source} has no file whose name ends in "
                f"{' or '.join(JSONL_SUFFIXES)}: leave it out"
            )
        text = _join(files, MOST_BYTES, field or DEFAULT_FIELD, skip_binary=source.is_dir())
    except OSError as error:
        raise _unreadable(source, error) from error
    if len(text.data) < FEWEST_BYTES:
        raise CorpusError(
            f"corpus {source} holds {len(text.data)} bytes of text: give at least {FEWEST_BYTES}"
        )
    return text


def standard_library() -> bytes:
    """Return the text that ships with every Python: sources, about half English documentation.

    Raises:
        CorpusError: This Python has no sources.
    """
    folder = Path(sysconfig.get_path("stdlib"))
    files = sorted(folder.glob("*.py"))
    data = _join(files, STANDARD_LIBRARY_BYTES, DEFAULT_FIELD, skip_binary=True).data
    if len(data) < FEWEST_BYTES:
        raise CorpusError(f"{folder} holds no sources to read: give your own text with --corpus")
    return data


def _is_jsonl(file: Path) -> bool:
    return file.suffix in JSONL_SUFFIXES


def _files(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:  # pathlib's rglob would pass over what it may not read
        raise error

    places = os.walk(folder, onerror=refuse)
    found = (Path(place, name) for place, _, names in places for name in names)
    return sorted(file for file in found if file.is_file())


def _join(files: Iterable[Path], most: int, field: str, *, skip_binary: bool) -> Text:
    parts: list[bytes] = []
    enough = most + 1  # the byte more tells whether there is one
    size = 0
    for file in files:
        try:
            with file.open("rb") as stream:
                part = (
                    _documents(stream, file, enough - size, field)
                    if _is_jsonl(file)
                    else stream.read(enough - size)
                )
        except OSError as error:
            raise _unreadable(file, error) from error
        if not _is_text(part):
            if skip_binary:
                continue
            raise CorpusError(f"corpus {file} is not text (UTF-8): give a text file or a folder")
        parts.append(part)
        size += len(part)
        if size >= enough:
            break
    return Text(b"".join(parts)[:most], cut=size > most)


def _documents(stream: BinaryIO, file: Path, most: int, field: str) -> bytes:
    """Return the texts of a JSONL file, as many of its lines as ``most`` bytes hold."""
    parts: list[bytes] = []
    size = 0
    for number, line in _lines(stream, file):
        where = f"line {number} of corpus {file}"
        example = f'write one object a line, as {{"{field}": "…"}}'
        try:
            document = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise CorpusError(f"{where} is not JSON ({reason}): {example}") from error
        text = document.get(field) if isinstance(document, dict) else None
        if not isinstance(text, str):
            raise CorpusError(f"{where} has no text in {field!r}: {example}, or give --text-field")
        parts.append(text.encode("utf-8", "replace") + b"\n")  # JSON can hold half a surrogate pair
        size += len(parts[-1])
        if size >= most:
            break
    return b"".join(parts)[:most]


def _lines(stream: BinaryIO, file: Path) -> Iterator[tuple[int, bytes]]:
    """Return the lines that are not blank, numbered from 1; none is longer than ``MOST_BYTES``."""
    number = 0
    while line := stream.readline(MOST_BYTES + 1):
        number += 1
        if len(line) > MOST_BYTES:
            raise CorpusError(
                f"line {number} of corpus {file} is longer than {MOST_BYTES} bytes: "
                "write one document a line"
            )
        if not line.isspace():
            yield number, line


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
