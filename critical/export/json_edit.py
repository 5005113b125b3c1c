"""One top-level key of a JSON object set in its text, every other byte left as it is."""

from __future__ import annotations

import json
import re

_SPACE = re.compile(r"[ \t\r\n]*")


def with_number(text: str, key: str, value: float) -> str:
    """Return a JSON object's text with a top-level key set to a number.

    A key that is there keeps its place; one that is not is put last, spaced as its neighbours.

    Args:
        text: A JSON object with at least one member, valid and without duplicate keys.
        key: The key.
        value: Finite; written so that it reads back as the same double.
    """
    spans, gap = _members(text)
    if key in spans:
        start, end = spans[key]
        return f"{text[:start]}{value!r}{text[end:]}"
    end = max(end for _, end in spans.values())
    return f"{text[:end]},{gap}{json.dumps(key)}: {value!r}{text[end:]}"


def _members(text: str) -> tuple[dict[str, tuple[int, int]], str]:
    """Return where each member's value starts and ends, and the space before the last key."""
    decoder = json.JSONDecoder()
    spans: dict[str, tuple[int, int]] = {}
    position = _after_space(text, 0)
    gap = ""
    while text[position] != "}":
        before = position + 1  # Past the brace or the comma.
        opening = _after_space(text, before)
        gap = text[before:opening]
        key, position = decoder.raw_decode(text, opening)
        start = _after_space(text, _after_space(text, position) + 1)
        _, end = decoder.raw_decode(text, start)
        spans[key] = (start, end)
        position = _after_space(text, end)
    return spans, gap


def _after_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position
