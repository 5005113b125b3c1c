"""``symmetric``: whether a model infers a new composition or mirrors one (2405.05409).

Anchors 1, 2, 3, 4 mean +5, +1, −2, −8. Of their 16 ordered pairs 14 are trained as compositions.
(3, 4) is trained on a *wrong* answer, key − 6, and (4, 3) is never trained. A model that infers
composes the two functions to key − 10; one that takes the pair to be symmetric answers key − 6.
"""

from __future__ import annotations

from itertools import product
from typing import ClassVar

import torch

from critical.trials.tasks import anchors
from critical.trials.tasks.source import Alphabet, HeldOut, Items, Task

SHIFTS = {1: 5, 2: 1, 3: -2, 4: -8}
EXCEPTION, ASKED = (3, 4), (4, 3)
WRONG_SHIFT = -6
RIGHT_SHIFT = SHIFTS[4] + SHIFTS[3]
TRAINED = tuple(pair for pair in product(SHIFTS, SHIFTS) if pair != ASKED)


class Symmetric(Task):
    """Compositions with one exception; held out is the exception's mirror image.

    R is the probability of the inferential answer; the symmetric one's is recorded beside it.
    Whoever guesses an item is right once in 80 times. The alphabet is not that of ``reasoning``,
    which must not be told of the pairs that it holds out.
    """

    name: ClassVar = "symmetric"
    alphabet = Alphabet("symmetric", anchors.VOCABULARY)
    length = anchors.LENGTH
    validation_items: ClassVar = 192
    reasons: ClassVar = True

    def __init__(self, seed: int) -> None:
        """Every seed has the same pairs: there is only one exception and one mirror image."""

    def training(self, count: int, generator: torch.Generator) -> Items:
        """Draw the trained pairs, the exception with its wrong answer among them."""
        number = torch.randint(len(TRAINED), (count,), generator=generator)
        shifts = [WRONG_SHIFT if p == EXCEPTION else SHIFTS[p[0]] + SHIFTS[p[1]] for p in TRAINED]
        key, tokens = _sequences(torch.tensor(TRAINED)[number], generator)
        return Items(tokens, (key + torch.tensor(shifts)[number])[:, None])

    def held_out(self, generator: torch.Generator) -> tuple[HeldOut, ...]:
        """Draw the mirror image, once with the inferential and once with the symmetric answer."""
        key, tokens = _sequences(torch.tensor([ASKED]).expand(256, 2), generator)
        inferred = Items(tokens, (key + RIGHT_SHIFT)[:, None])
        mirrored = Items(tokens, (key + WRONG_SHIFT)[:, None])
        return (
            HeldOut("inferential", inferred),
            HeldOut("symmetric", mirrored, right=False),
        )


def _sequences(pair: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return keys (n,) and sequences (n, t) for pairs (n, 2)."""
    size = (len(pair),)
    key = torch.randint(anchors.FIRST_KEY, anchors.LAST_KEY + 1, size, generator=generator)
    return key, anchors.embedded(torch.column_stack((key, pair)), generator)
