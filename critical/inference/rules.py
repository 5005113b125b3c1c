"""Which γ is critical: the rule applied to posterior draws of R and log₂ ρ over a γ grid.

Symbols and shapes: m joint posterior draws, g grid points.
    reasoning   (m, g)  R, in [0, 1]
    efficiency  (m, g)  log₂ ρ, octaves
    share       (m, g)  min(R / R_max, ρ / ρ_max), in [0, 1]; maxima over g of each draw
    gamma       (g,)    the grid, ascending

Every rule turns a draw into a score over the grid; γ* is where the score is greatest, ties go
to their middle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from critical.errors import OptionError

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

PLATEAU_LOSS = 0.02
"""Expected share that a γ of the plateau may lose against the best."""
EDGE_DRAWS = 0.1
"""Part of the draws at the grid's edges from which γ* is one-sided."""
SAME_OPTIMUM = 0.05
"""The optima of R and ρ are one where their medians are within this γ."""
_TIE = 1e-12


@dataclass(frozen=True, slots=True)
class Rule:
    """``balance``, ``knee`` or ``floor``; the last with the least ρ that it accepts."""

    name: str
    floor: float | None = None

    def __str__(self) -> str:
        return self.name if self.floor is None else f"{self.name}={self.floor:g}"


def parse_rule(text: str) -> Rule:
    """Read a rule as the command line has it: ``balance``, ``knee`` or ``floor=0.95``.

    Raises:
        OptionError: The text is none of them, or the floor is not a positive number.
    """
    name, equals, value = text.strip().partition("=")
    if name in ("balance", "knee") and not equals:
        return Rule(name)
    if name == "floor" and equals:
        return Rule(name, _positive(value, text))
    raise OptionError(f"rule {text!r} is not known: write balance, knee or floor=0.95")


def share(reasoning: Array, efficiency: Array) -> Array:
    """How much of both the best R and the best ρ each γ keeps. Shape (m, g), in [0, 1].

    Where R is 0 all along the grid nothing of it can be kept, and the share is 0.
    """
    best = reasoning.max(axis=-1, keepdims=True)
    kept = np.divide(reasoning, best, out=np.zeros_like(reasoning), where=best > 0)
    efficient = np.exp2(efficiency - efficiency.max(axis=-1, keepdims=True))
    kept_of_both: Array = np.minimum(kept, efficient)
    return kept_of_both


def critical_indices(rule: Rule, reasoning: Array, efficiency: Array) -> Indices:
    """Apply a rule to each draw.

    Returns:
        The grid index of γ*, the middle one of ties. Shape (m,).
    """
    if rule.name == "knee":
        return middle_argmax(_knee_score(reasoning, efficiency))
    if rule.floor is not None:
        return middle_argmax(_floor_score(reasoning, efficiency, rule.floor))
    return middle_argmax(share(reasoning, efficiency))


def middle_argmax(score: Array) -> Indices:
    """The index of each row's maximum, the median of the indices that tie. Shape (m,)."""
    ties = score >= score.max(axis=-1, keepdims=True) - _TIE
    half = (np.count_nonzero(ties, axis=-1, keepdims=True) + 1) // 2
    middle: Indices = np.argmax(np.cumsum(ties, axis=-1) >= half, axis=-1)
    return middle


def plateau(gamma: Array, expected_share: Array) -> tuple[float, float]:
    """The contiguous γ around the best whose expected share is within 0.02 of it.

    Args:
        gamma: Ascending grid. Shape (g,).
        expected_share: Mean share over the draws. Shape (g,).
    """
    best = int(middle_argmax(expected_share[None])[0])
    outside = np.flatnonzero(expected_share < expected_share[best] - PLATEAU_LOSS)
    first = outside[outside < best].max(initial=-1) + 1
    last = outside[outside > best].min(initial=gamma.size) - 1
    return float(gamma[first]), float(gamma[last])


def verdict(gamma: Array, stars: Array, reasoning: Array, efficiency: Array) -> str:
    """Judge what the draws of γ* can be used for.

    Args:
        gamma: Ascending grid. Shape (g,).
        stars: γ* of each draw. Shape (m,).
        reasoning: R. Shape (m, g).
        efficiency: log₂ ρ. Shape (m, g).

    Returns:
        ``one-sided`` where over 10% of the draws lie at an edge of the grid; ``no tradeoff``
        where the optima of R and ρ are within 0.05, or the 90% interval of their difference
        contains 0; else ``resolved``.
    """
    if np.mean((stars <= gamma[0]) | (stars >= gamma[-1])) > EDGE_DRAWS:
        return "one-sided"
    reasoned, efficient = gamma[middle_argmax(reasoning)], gamma[middle_argmax(efficiency)]
    low, high = np.quantile(reasoned - efficient, (0.05, 0.95))
    apart = abs(np.median(reasoned) - np.median(efficient))
    if apart <= SAME_OPTIMUM or low <= 0 <= high:
        return "no tradeoff"
    return "resolved"


def _knee_score(reasoning: Array, efficiency: Array) -> Array:
    # A dominated point scores no more than the one that dominates it, so that the whole grid
    # may be searched in place of the front; its ends are the two optima.
    score: Array = np.minimum(
        _rescale_on_front(reasoning, efficiency), _rescale_on_front(efficiency, reasoning)
    )
    return score


def _rescale_on_front(values: Array, others: Array) -> Array:
    """To 1 at the best value, and to 0 at the best value where the other objective is best."""
    high = values.max(axis=-1, keepdims=True)
    at_other_end = others >= others.max(axis=-1, keepdims=True)
    low = np.where(at_other_end, values, -np.inf).max(axis=-1, keepdims=True)
    extent = high - low
    at_best = (values >= high).astype(np.float64)
    rescaled: Array = np.divide(values - low, extent, out=at_best, where=extent > 0)
    return rescaled


def _floor_score(reasoning: Array, efficiency: Array, floor: float) -> Array:
    feasible = efficiency >= np.log2(floor)
    # Where no γ is efficient enough, the most efficient one is nearest to what was asked.
    fallback = np.where(feasible.any(axis=-1, keepdims=True), -np.inf, efficiency)
    score: Array = np.where(feasible, reasoning, fallback)
    return score


def _positive(value: str, text: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not (np.isfinite(number) and number > 0):
        raise OptionError(f"rule {text!r} needs a positive efficiency: write floor=0.95")
    return number
