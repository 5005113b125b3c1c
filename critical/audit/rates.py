"""The γ that each matrix is drawn with, and how γ, std and names are written in sentences.

Quantities:
    γ_eq     −ln(std) / ln(fan_in), of a matrix by its own fan-in
    wanted   fan_in^−γ, the std that a recommended γ asks for
    ratio    std / wanted
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from critical.frameworks.documents.yaml_edit import written
from critical.frameworks.reading import Reading, Setting
from critical.targets.layout import Matrix, pattern

TELLING = 0.01
"""Difference of γ from which on it is told: the smallest that changes what is shown as 0.70."""


def finite(number: float) -> float:
    """Return a number that JSON can hold: the greatest for one that has overflowed."""
    return min(number, sys.float_info.max)


def gamma_of(std: float, fan_in: int) -> float | None:
    """Return γ_eq; None where there is none, as of a matrix drawn at 0."""
    if std <= 0 or fan_in < 2:
        return None
    return -math.log(std) / math.log(fan_in) + 0.0  # No −0 at std 1.


@dataclass(frozen=True, slots=True)
class Rate:
    """The matrices of one name pattern, and the γ that they are drawn with.

    Attributes:
        matrix: What they are.
        gamma: γ_eq; None where they are drawn at 0.
        wanted: The std that the recommended γ asks for; None without one.
    """

    matrix: Matrix
    gamma: float | None
    wanted: float | None

    @property
    def ratio(self) -> float | None:
        """Return std / wanted, where a γ is recommended."""
        return None if self.wanted is None else finite(self.matrix.configured_std / self.wanted)

    def to_document(self) -> dict[str, Any]:
        """Return it as JSON."""
        one = self.matrix
        return {
            "name": one.name,
            "count": one.count,
            "shape": list(one.shape),
            "fan_in": one.fan_in,
            "kind": one.kind,
            "std": one.configured_std,
            "gamma": self.gamma,
            "wanted": self.wanted,
            "ratio": self.ratio,
        }


def rates_of(reading: Reading, gamma: float | None) -> tuple[Rate, ...]:
    """Return every matrix group with its γ_eq, in the model's order."""
    return tuple(
        Rate(
            matrix=each,
            gamma=gamma_of(each.configured_std, each.fan_in),
            wanted=None if gamma is None else each.wanted_std(gamma),
        )
        for each in reading.matrices
    )


def blocks(reading: Reading) -> list[Matrix]:
    """Return the matrices of attention and feed-forward layers that have a γ."""
    return [
        each
        for each in reading.matrices
        if each.kind in ("attention", "feed_forward")
        and each.configured_std > 0
        and each.fan_in > 1
    ]


def count(matrices: Iterable[Matrix]) -> int:
    """Return how many parameters they stand for."""
    return sum(each.count for each in matrices)


def names(matrices: Iterable[Matrix]) -> list[str]:
    """Return their name patterns, sorted, each once."""
    return sorted({each.name for each in matrices})


def brief(matrices: Iterable[Matrix]) -> str:
    """Return their names for a sentence: what comes after the block's number, sorted."""
    shown = sorted({short(each.name) for each in matrices})
    return joined(shown if len(shown) <= 4 else [*shown[:3], f"{len(shown) - 3} more"])


def short(name: str) -> str:
    """Return a name without ``.weight``, and without its block and what stands before that."""
    whole = pattern(name).removesuffix(".weight")
    return whole.partition("*.")[2] or whole


def joined(words: Sequence[str]) -> str:
    """Return words as an enumeration."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def span(values: Sequence[float], form: str = ".3f") -> str:
    """Return the least and the greatest of values as text; one of them where both look the same."""
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def stated(setting: Setting[float]) -> str:
    """Return a setting as its key and value, and whether the file leaves it out."""
    if not has_key(setting):
        return f"{setting.key} ({setting.value:g})"
    return _with(setting.key, f"{setting.value:g}") + ("" if setting.stated else " (the default)")


def has_key(setting: Setting[float]) -> bool:
    """Return whether there is something to write: of what no key sets, ``key`` is a description."""
    return " " not in setting.key


def to_write(key: str, number: float) -> str:
    """Return what a user writes for a key, as ``key: 0.02``, ``--key 0.02`` or ``f(key=0.02)``.

    The number has six digits, and is one in YAML too, which takes ``1e-05`` for a text.
    """
    text = written(float(f"{number:.6g}"))
    plain = key.startswith("-") or key.endswith(")")
    return _with(key, text) if plain else f"{key}: {text}"


def _with(key: str, text: str) -> str:
    return f"{key[:-1]}={text})" if key.endswith(")") else f"{key} {text}"
