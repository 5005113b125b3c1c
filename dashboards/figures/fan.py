"""γ* over width, from the stored draws of its regression.

Shapes: n posterior draws, w widths of the fan.
    intercept, slope   (n,)   γ* at the centre width, and per octave of width
    fan                (w,)   5%, 50% and 95% points of γ*, discrepancy included
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from critical.storage.records import Band, SettingsPosterior

_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


def fan(
    own: SettingsPosterior,
    discrepancy_sd: float,
    widths: Sequence[float],
    interval: tuple[float, float],
) -> Band:
    """Return the points of γ* at each width, truncated to the search interval.

    The discrepancy is drawn on a fixed low-discrepancy sequence, so that a figure of the same
    posterior is always the same.
    """
    noise = [
        discrepancy_sd * NormalDist().inv_cdf((i * _GOLDEN + 0.5) % 1.0 or 0.5)
        for i in range(len(own.intercept))
    ]
    draws = list(zip(own.intercept, own.slope, noise, strict=True))
    points = []
    for width in widths:
        octaves = math.log2(width / own.centre_width)
        values = [a + b * octaves + e for a, b, e in draws]
        points.append(_points(_truncated(values, interval)))
    low, median, high = zip(*points, strict=True)
    return Band(low=low, median=median, high=high)


def _truncated(values: Sequence[float], interval: tuple[float, float]) -> list[float]:
    low, high = interval
    inside = [value for value in values if low <= value <= high]
    return inside or [min(max(value, low), high) for value in values]


def _points(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the 5%, 50% and 95% points, linear between the sorted values."""
    ordered = sorted(values)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        below = math.floor(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])

    return at(0.05), at(0.5), at(0.95)
