"""Points of reasoning against efficiency: the front, and the posterior median along γ."""

from __future__ import annotations

from collections.abc import Sequence

from critical.dashboards.figures.arms import interpolate
from critical.storage.records import ScalePosterior

Point = tuple[float, float]
"""log₂ ρ and R."""


def pareto(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other betters in both, by rising efficiency."""
    front: list[Point] = []
    for point in sorted(set(points), reverse=True):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    return front[::-1]


def plateau_path(scale: ScalePosterior) -> list[Point]:
    """Return the posterior median curve along the plateau, its two ends included."""
    low, high = scale.gamma_star.plateau
    inner = [value for value in scale.gamma if low < value < high]
    return [median_point(scale, value) for value in (low, *inner, high)]


def median_point(scale: ScalePosterior, gamma: float) -> Point:
    """Return the posterior median of log₂ ρ and of R at a γ."""
    return (
        interpolate(scale.gamma, scale.log2_efficiency.median, gamma),
        interpolate(scale.gamma, scale.reasoning.median, gamma),
    )
