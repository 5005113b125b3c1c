"""A training configuration as text: what it says, and the same text with some values set.

A document is read strictly, so that no two readers can take it differently, and edited as text:
nothing but the values that change is touched, and every edit is read back before it is returned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

Format = Literal["json", "yaml", "arguments", "python"]
Path = tuple[str, ...]
"""Keys from the outermost inwards."""
Scalar = str | bool | int | float


class Document(Protocol):
    """One configuration file."""

    @property
    def format(self) -> Format:
        """Return how it is written."""
        ...

    @property
    def name(self) -> str:
        """Return the file's name, without its folder."""
        ...

    @property
    def text(self) -> str:
        """Return the file's text, its line ends as they are."""
        ...

    @property
    def values(self) -> Mapping[str, Any]:
        """Return what it says, as plain mappings, lists, texts, numbers, booleans and None."""
        ...

    def with_text(self, text: str) -> Document:
        """Return the document of the same name and format with another text."""
        ...

    def edited(self, changes: Mapping[Path, Scalar]) -> str:
        """Return the text with some values set, every other byte untouched.

        A key that is there keeps its place; one that is not is put after its last neighbour, and
        mappings that are not there are made.

        Raises:
            ExportError: The text cannot be edited so that it reads back as wished.
        """
        ...


def with_changes(values: Mapping[str, Any], changes: Mapping[Path, Scalar]) -> dict[str, Any]:
    """Return what a document says once some values are set: what an edit must read back as."""
    changed = dict(values)
    for path, value in changes.items():
        changed[path[0]] = (
            with_changes(_mapping(changed.get(path[0])), {path[1:]: value}) if path[1:] else value
        )
    return changed


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
