"""A JSON configuration as text: read within bounds, and parsed so that nothing in it is ambiguous.

Python's parser takes what other readers refuse or read differently: NaN, Infinity, numbers that
overflow, and a key that is given twice. Here each of them is an error.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from critical.errors import CriticalError

LARGEST_BYTES = 10 * 1024 * 1024
"""A real config.json is under 100 kB; a file of weights given by mistake is over this."""


class _AmbiguousError(ValueError):
    """A document that JSON readers disagree about."""


def read_text(path: Path, error: type[CriticalError], what: str = "a config.json") -> str:
    """Read a text file with its line ends as they are.

    Args:
        path: The file that the user named.
        error: What to raise.
        what: What it should be, with its article.

    Raises:
        CriticalError: Of the class ``error``, where the file is missing, a folder, not a regular
            file, unreadable, empty, over 10 MiB or not UTF-8.
    """
    try:
        if path.is_dir():
            raise error(f"{path} is a folder: write the file in it, as {path / 'config.json'}")
        if not path.exists():
            raise error(f"{path} does not exist: write the path of {what}")
        if not path.is_file():
            raise error(f"{path} is not a regular file: write the path of {what}")
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except (OSError, ValueError) as reason:
        why = getattr(reason, "strerror", None) or str(reason)
        raise error(f"{str(path)[:200]!r} cannot be read: {why}") from reason
    if len(content) > LARGEST_BYTES:
        raise error(f"{path} is over 10 MiB: write the path of {what}, not of weights")
    if not content.strip():
        raise error(f"{path} is empty: write the path of {what}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as reason:
        raise error(
            f"{path} is not UTF-8 text (byte {reason.start}): write the path of {what}"
        ) from reason


def parse_object(text: str, name: str, error: type[CriticalError]) -> dict[str, Any]:
    """Parse a JSON object strictly.

    Args:
        text: The document.
        name: The file's name, for messages.
        error: What to raise.

    Raises:
        CriticalError: Of the class ``error``, where the text is not JSON, is not an object, gives
            a key twice in one object, or holds a number that is not finite.
    """
    try:
        document = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except _AmbiguousError as reason:
        raise error(f"{name} {reason}") from None
    except json.JSONDecodeError as reason:
        raise error(
            f"{name} is not JSON at line {reason.lineno}, column {reason.colno}: {reason.msg}"
        ) from None
    except (ValueError, RecursionError):
        raise error(
            f"{name} is not JSON that can be read: a number is too long or it is nested too deeply"
        ) from None
    if not isinstance(document, dict):
        raise error(f"{name} holds {kind_of(document)}: write a JSON object, {{…}}")
    return document


def kind_of(value: object) -> str:
    """Name a JSON value's type with its article, as in ``a string``."""
    if value is None:
        return "null"
    names = {bool: "a boolean", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key, value in pairs:
        if key in document:
            raise _AmbiguousError(
                f"gives the key {key[:80]!r} twice in one object: keep one of them"
            )
        document[key] = value
    return document


def _refuse_constant(constant: str) -> NoReturn:
    raise _AmbiguousError(f"holds {constant}, which is not JSON: write a number")


def _finite(literal: str) -> float:
    number = float(literal)
    if not math.isfinite(number):
        raise _AmbiguousError(
            f"holds the number {literal[:40]}, which overflows: write a smaller one"
        )
    return number
