"""Reading documents whose shape belongs to the search: what is missing or odd is None."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from critical.storage.records import Document, GammaStar


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number, with its 90% interval where one was stored."""

    median: float
    low: float | None = None
    high: float | None = None


def value_at(document: Document | None, *path: str) -> object:
    """Return what stands at a path of keys, or None."""
    found: object = document
    for key in path:
        if not isinstance(found, Mapping):
            return None
        found = found.get(key)
    return found


def number_at(document: Document | None, *path: str) -> float | None:
    """Return the finite number at a path, or None."""
    return _number(value_at(document, *path))


def estimate_at(document: Document | None, *path: str) -> Estimate | None:
    """Return the number at a path and its 90% interval, where it has one.

    It stands as ``{median, low, high}``, or bare with the interval beside it: ``reasoning`` and
    ``reasoning_interval``.
    """
    found = value_at(document, *path)
    if not isinstance(found, Mapping):
        bare = _number(found)
        if bare is None:
            return None
        beside = _pair(value_at(document, *path[:-1], f"{path[-1]}_interval"))
        return Estimate(bare, *(beside or (None, None)))
    median = _number(found.get("median"))
    if median is None:
        return None
    return Estimate(median, _number(found.get("low")), _number(found.get("high")))


def gamma_star_at(document: Document | None) -> GammaStar | None:
    """Return the γ* of a recommendation, or None where it has none."""
    star = estimate_at(document, "gamma")
    if star is None or star.low is None or star.high is None:
        return None
    plateau = _pair(value_at(document, "gamma", "plateau")) or (star.median, star.median)
    share = number_at(document, "share")
    verdict = str(value_at(document, "gamma", "verdict") or "")
    return GammaStar(star.median, star.low, star.high, plateau, verdict, share or math.nan)


def gamma_stars_at(document: Document | None) -> dict[str, GammaStar]:
    """Return the γ* of each of the settings of a recommendation."""
    found = {str(row.get("settings")): gamma_star_at(row) for row in rows_at(document, "settings")}
    return {settings: star for settings, star in found.items() if star is not None}


def rows_at(document: Document | None, *path: str) -> list[Document]:
    """Return the objects of the list at a path."""
    found = value_at(document, *path)
    if not isinstance(found, Sequence) or isinstance(found, str):
        return []
    return [row for row in found if isinstance(row, Mapping)]


def _pair(found: object) -> tuple[float, float] | None:
    if not isinstance(found, Sequence) or isinstance(found, str) or len(found) != 2:
        return None
    low, high = (_number(end) for end in found)
    return None if low is None or high is None else (low, high)


def _number(found: object) -> float | None:
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return float(found) if math.isfinite(found) else None
