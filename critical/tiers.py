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
    Tier((32,), 1, 3, 2, 9, 0),
    Tier((32, 64), 1, 3, 4, 10, 3),
    Tier((32, 48, 64), 1, 3, 4, 14, 3),
    Tier((32, 64, 128), 1, 3, 6, 20, 3),
    Tier((64, 96, 128), 2, 3, 8, 27, 4),
    Tier((64, 128, 256), 4, 3, 8, 35, 4),
    Tier((128, 256, 512), 8, 3, 8, 44, 4),
    Tier((128, 256, 512, 1024), 16, 4, 8, 60, 6),
)
"""From the poorest to the richest; the first is the least that can be searched at all.

Seeds come first: on the tables of real runs ten runs of four seeds tell γ* better than twenty-four
of two. Of two confirmation pairs the 90% interval is 2.6 times that of three.
"""

SIZES = ((1, 1, 5, 0), (3, 2, 7, 0), (3, 4, 10, 3), (3, 6, 20, 3), (3, 8, 35, 4))
"""Rungs, seeds, search trials and pairs that given widths may have, from poor to rich."""
UNTIMED = 2
"""The size that is planned where the cost of a trial is not known."""
