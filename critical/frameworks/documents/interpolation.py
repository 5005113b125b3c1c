"""OmegaConf's plain references, ``${a.b.c}``, written out for reading; the file keeps them.

OmegaConf has more: references inside a longer text, relative ones (``${.b}``) and resolvers
(``${oc.env:HOME}``). None of these is followed: they stay the texts that they are, and a key that
is needed as a number is then refused as one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from critical.errors import ExportError

_REFERENCE = re.compile(r"\$\{([A-Za-z_][\w-]*(?:\.[\w-]+)*)\}")
_DEEPEST = 100
_MOST_VALUES = 50_000
"""Once references are written out: two of a mapping that holds two of another … double each."""


def resolved(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the values with every text that is exactly ``${a.b.c}`` replaced by what stands there.

    Args:
        values: A document's; they stay as they are.
        name: The file's, for messages.

    Returns:
        A copy. References that go in circles, or to nothing, stay texts.

    Raises:
        ExportError: Written out, the values are too many, or nested too deeply.
    """
    return _Resolver(values, name).mapping(values, frozenset(), 0)


class _Resolver:
    """Follows references from the root of one document."""

    def __init__(self, root: Mapping[str, Any], name: str) -> None:
        self._root, self._name = root, name
        self._left = _MOST_VALUES

    def mapping(
        self, values: Mapping[str, Any], open_: frozenset[str], depth: int
    ) -> dict[str, Any]:
        """Return a mapping with its references replaced; ``open_`` are those being followed."""
        return {key: self._value(value, open_, depth + 1) for key, value in values.items()}

    def _value(self, value: object, open_: frozenset[str], depth: int) -> Any:  # noqa: ANN401
        self._left -= 1
        if self._left < 0 or depth > _DEEPEST:
            raise ExportError(
                f"{self._name} holds too many values once its ${{…}} are written out: write a "
                "training configuration"
            )
        if isinstance(value, Mapping):
            return self.mapping(value, open_, depth)
        if isinstance(value, list):
            return [self._value(each, open_, depth + 1) for each in value]
        match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if match is None or match[1] in open_:
            return value
        found = self._at(match[1])
        if found is None or self._circular(found, open_ | {match[1]}):
            return value
        return self._value(found, open_ | {match[1]}, depth + 1)

    def _circular(self, value: object, open_: frozenset[str]) -> bool:
        """Return whether a chain of references comes back to one that is being followed."""
        while isinstance(value, str) and (match := _REFERENCE.fullmatch(value)):
            if match[1] in open_:
                return True
            open_, value = open_ | {match[1]}, self._at(match[1])
        return False

    def _at(self, dotted: str) -> object:
        """Return what stands at a path from the root, or None."""
        value: object = self._root
        for key in dotted.split("."):
            if isinstance(value, list) and key.isdecimal():
                value = value[int(key)] if int(key) < len(value) else None
            else:
                value = value.get(key) if isinstance(value, Mapping) else None
        return value
