"""A JSON object edited as text: values replaced and members added, all else left as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from critical.errors import CriticalError, ExportError
from critical.frameworks.documents.document import Format, Path, Scalar, with_changes
from critical.targets.config_file import parse_object

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class JsonDocument:
    """A JSON object.

    Attributes:
        text: As in the file.
        name: The file's, for messages.
        error: What is raised where it cannot be read.
    """

    text: str
    name: str
    error: type[CriticalError] = ExportError

    format: Format = "json"

    @cached_property
    def values(self) -> Mapping[str, Any]:
        """What it says.

        Raises:
            CriticalError: Of the class ``error``, where it is no unambiguous JSON object.
        """
        return parse_object(self.text, self.name, self.error)

    def with_text(self, text: str) -> JsonDocument:
        """Return the document of the same name with another text."""
        return replace(self, text=text)

    def edited(self, changes: Mapping[Path, Scalar]) -> str:
        """Return the text with some values set, as ``Document`` says.

        Raises:
            ExportError: The object is empty, or a key's parent is no object.
        """
        wished, text = with_changes(self.values, changes), self.text
        for path, value in changes.items():
            text = self._with(text, 0, path, value)
        if parse_object(text, self.name, ExportError) != wished:
            keys = ", ".join(".".join(path) for path in changes)
            raise ExportError(f"{self.name} cannot be edited as text: set {keys} by hand")
        return text

    def _with(self, text: str, start: int, path: Path, value: Scalar) -> str:
        key, inner = path[0], path[1:]
        members = _members(text, start)
        if key in members.spans:
            first, last = members.spans[key]
            if not inner:
                return f"{text[:first]}{json.dumps(value)}{text[last:]}"
            if text[first] != "{":
                raise ExportError(f"{self.name}: {key} is no object: write one, {{…}}")
            return self._with(text, first, inner, value)
        for outer in reversed(inner):
            value = {outer: value}  # type: ignore[assignment]
        written = f"{json.dumps(key)}: {json.dumps(value)}"
        if not members.spans:
            return f"{text[: start + 1]}{written}{text[members.end :]}"
        last = max(end for _, end in members.spans.values())
        return f"{text[:last]},{members.gap}{written}{text[last:]}"


@dataclass(frozen=True, slots=True)
class _Members:
    """Where each member's value starts and ends, the space before the last key, the brace."""

    spans: dict[str, tuple[int, int]]
    gap: str
    end: int


def _members(text: str, start: int) -> _Members:
    """Find the members of the object whose opening brace is the first thing from ``start``."""
    position = _after_space(text, start)
    spans: dict[str, tuple[int, int]] = {}
    gap = ""
    while text[position] != "}":
        before = position + 1  # Past the brace or the comma.
        opening = _after_space(text, before)
        if text[opening] == "}":
            position = opening
            break
        gap = text[before:opening]
        key, position = _DECODER.raw_decode(text, opening)
        first = _after_space(text, _after_space(text, position) + 1)
        _, last = _DECODER.raw_decode(text, first)
        spans[key] = (first, last)
        position = _after_space(text, last)
    return _Members(spans, gap, position)


def _after_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position
