"""Typed reading of a configuration's keys, each under any of the names that families give it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from critical.config_file import kind_of
from critical.errors import TargetError

_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")


class Keys:
    """The keys of one object in one file; every error names the key and the file."""

    def __init__(self, values: Mapping[str, Any], name: str, section: str | None) -> None:
        self.values = values
        self._where = f"{name}, {section}" if section else name

    def error(self, sentence: str) -> TargetError:
        """Return the error that says ``sentence`` of this object."""
        return TargetError(f"{self._where}: {sentence}")

    def lacks(self, names: Sequence[str]) -> bool:
        """Return whether none of the names is given, null included."""
        return not any(name in self.values for name in names)

    def identifier(self, name: str) -> str:
        """Read a family's name."""
        value = self._value((name,), None)
        if not isinstance(value, str) or not _IDENTIFIER.fullmatch(value):
            raise self.error(f'{name} is {_shown(value)}: write a family\'s name, as "llama"')
        return value

    def integer(
        self, names: Sequence[str], default: int | None = None, *, low: int = 1, high: int
    ) -> int:
        """Read a whole number in [low, high]; without a default it is required."""
        value = self._value(names, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.error(
                f"{self._given(names)} is {_shown(value)}: "
                f"write a whole number from {low} to {high}"
            )
        return value

    def number(self, names: Sequence[str], default: float) -> float:
        """Read a number, or its default where none of the names is given."""
        value = self._value(names, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(f"{self._given(names)} is {_shown(value)}: write a number, as 0.02")
        try:
            return float(value)
        except OverflowError:
            raise self.error(
                f"{self._given(names)} is too large: write a number, as 0.02"
            ) from None

    def positive(self, names: Sequence[str], default: float) -> float:
        """Read a number above 0."""
        value = self.number(names, default)
        if value <= 0:
            raise self.error(f"{self._given(names)} is {value}: write a number above 0, as 1e-05")
        return value

    def boolean(self, name: str, default: bool) -> bool:
        """Read true or false."""
        value = self._value((name,), default)
        if not isinstance(value, bool):
            raise self.error(f"{name} is {_shown(value)}: write true or false")
        return value

    def _value(self, names: Sequence[str], default: object) -> Any:  # noqa: ANN401 (JSON)
        given = {name: self.values[name] for name in names if self.values.get(name) is not None}
        if not given and default is None:
            null = next((name for name in names if name in self.values), None)
            state = f"{null} is null" if null else f"{names[0]} is missing"
            raise self.error(f"{state}: write it, as transformers' save_pretrained does")
        values = list(given.values())
        if any(value != values[0] for value in values[1:]):
            both = " and ".join(f"{name} {_shown(value)}" for name, value in given.items())
            raise self.error(f"{both} contradict each other: keep one of them")
        return values[0] if values else default

    def _given(self, names: Sequence[str]) -> str:
        return next((name for name in names if self.values.get(name) is not None), names[0])


def _shown(value: object) -> str:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        text = repr(value)
        shown = text if len(text) <= 40 else text[:37] + "…"
        return f"the string {shown}" if isinstance(value, str) else shown
    return kind_of(value)
