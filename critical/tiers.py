"""What budgets buy: tiers from poor to rich, of which a plan takes the richest it can pay.

    k   rungs of the learning-rate ladder        s   seeds per scale
    n   search trials per scale                  c   pairs of confirmation runs, widest scale

A scale costs (k + s − 1 + n) trials: the reference at every rung for the first seed, at the best
rung for the other seeds, and the search. Settings that are searched side by side have each all of
that: the cost of a trial is then that of one under each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

TrialCost = Callable[[int, float, int], float]
"""The cost of a trial at a width and token factor, one of so many search trials there."""


@dataclass(frozen=True, slots=True)
class Tier:
    """What a budget may buy; see the symbols above. ``factor`` multiplies the base tokens."""

    widths: tuple[int, ...]
    factor: float
    rungs: int
    seeds: int
    search: int
    pairs: int

    def cost(self, trial: TrialCost) -> float:
        """Return the cost of the tier, given that of a trial."""
        each = [trial(width, self.factor, self.search) for width in self.widths]
        return sum(each) * (self.rungs + self.seeds - 1 + self.search) + 2 * self.pairs * each[-1]


TIERS = (
    Tier((16,), 0.25, 1, 1, 5, 0),
    Tier((32,), 0.5, 1, 1, 6, 0),
    Tier((32,), 1, 3, 1, 10, 0),
    Tier((32, 64), 1, 3, 2, 12, 2),
    Tier((32, 48, 64), 1, 3, 2, 16, 2),
    Tier((32, 64, 128), 1, 3, 2, 24, 3),
    Tier((64, 96, 128), 2, 3, 3, 32, 3),
    Tier((64, 128, 256), 4, 3, 3, 40, 4),
    Tier((128, 256, 512), 8, 3, 4, 48, 4),
    Tier((128, 256, 512, 1024), 16, 4, 4, 64, 6),
)
"""From the poorest to the richest; the first is the least that can be searched at all."""

SIZES = ((1, 1, 5, 0), (3, 1, 8, 0), (3, 2, 12, 2), (3, 2, 24, 3), (3, 3, 40, 4))
"""Rungs, seeds, search trials and pairs that given widths may have, from poor to rich."""
UNTIMED = 2
"""The size that is planned where the cost of a trial is not known."""
