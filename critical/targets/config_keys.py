"""Typed reading of a configuration's keys, each under any of the names that families give it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from critical.errors import CriticalError, TargetError
from critical.targets.config_file import kind_of

_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_SCIENTIFIC = re.compile(r"([-+]?\d*)(\.\d*)?[eE]([-+]?)(\d+)")


class Keys:
    """The keys of one object in one file; every error names the key and the file.

    Args:
        values: The object.
        name: The file's name.
        section: Where in the file the object stands, as ``model.init_config``; None for the file.
        error: What is raised.
        hint: What to do about a key that is missing.
        lenient: Whether a text that is a number is read as one: ``1e-5`` is a text in YAML 1.1,
            and several frameworks convert it.
        yaml: Whether the file is YAML, so that such a text may have been meant as a number.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        name: str,
        section: str | None,
        *,
        error: type[CriticalError] = TargetError,
        hint: str = "as transformers' save_pretrained does",
        lenient: bool = False,
        yaml: bool = False,
    ) -> None:
        self.values = values
        self._name, self._section = name, section
        self._where = f"{name}, {section}" if section else name
        self._error, self._hint, self._lenient, self._yaml = error, hint, lenient, yaml

    def error(self, sentence: str) -> CriticalError:
        """Return the error that says ``sentence`` of this object."""
        return self._error(f"{self._where}: {sentence}")

    def inner(self, name: str) -> Keys:
        """Return the keys of an object within this one; of an empty one where it is not given."""
        found = self.values.get(name)
        if found is not None and not isinstance(found, Mapping):
            raise self.error(f"{name} is {_shown(found)}: write an object")
        section = f"{self._section}.{name}" if self._section else name
        return Keys(
            found or {},
            self._name,
            section,
            error=self._error,
            hint=self._hint,
            lenient=self._lenient,
            yaml=self._yaml,
        )

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
        if self._lenient and isinstance(value, str) and _NUMBER.fullmatch(value):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            name, meant = self._given(names), _meant(value) if self._yaml else None
            if meant is not None:
                raise self.error(f"YAML reads {name} {value} as a text: write {meant}")
            raise self.error(f"{name} is {_shown(value)}: write a number, as 0.02")
        try:
            number = float(value)
        except OverflowError:
            raise self.error(
                f"{self._given(names)} is too large: write a number, as 0.02"
            ) from None
        if not math.isfinite(number):
            raise self.error(f"{self._given(names)} is not finite: write a number, as 0.02")
        return number

    def positive(self, names: Sequence[str], default: float) -> float:
        """Read a number above 0."""
        value = self.number(names, default)
        if value <= 0:
            raise self.error(f"{self._given(names)} is {value}: write a number above 0, as 1e-05")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """Read a text; without a default it is required."""
        value = self._value((name,), default)
        if not isinstance(value, str):
            raise self.error(f"{name} is {_shown(value)}: write a text")
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
            raise self.error(f"{state}: write it, {self._hint}")
        values = list(given.values())
        if any(value != values[0] for value in values[1:]):
            both = " and ".join(f"{name} {_shown(value)}" for name, value in given.items())
            raise self.error(f"{both} contradict each other: keep one of them")
        return values[0] if values else default

    def _given(self, names: Sequence[str]) -> str:
        return next((name for name in names if self.values.get(name) is not None), names[0])


def _meant(value: object) -> str | None:
    """Return a number as YAML 1.1 reads it, with a point and a signed exponent, of a text without.

    None where the value is no such text.
    """
    match = _SCIENTIFIC.fullmatch(value) if isinstance(value, str) else None
    if match is None or len(match[0]) > 40 or not _NUMBER.fullmatch(match[0]):
        return None
    whole, fraction, sign, exponent = match.groups()
    return f"{whole}{fraction or '.0'}e{sign or '+'}{exponent}"


def _shown(value: object) -> str:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        text = repr(value)
        shown = text if len(text) <= 40 else text[:37] + "…"
        return f"the string {shown}" if isinstance(value, str) else shown
    return kind_of(value)
