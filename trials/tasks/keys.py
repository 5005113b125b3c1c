"""``keys``: the key split of anchor compositions, known functions of keys new to them.

Every ordered pair of anchors is trained, but not with every key: unordered pair number p of seed s
never sees, in either order, the keys whose residue modulo 8 is that of p + s. Held out are those.
Both orders go together because shifts commute: a key's answer to (a, b) is its answer to (b, a),
which would give a held-out item away if it were trained. No other trained item does, for sums of
two shifts are distinct. Each key is trained with other pairs and each pair with other keys, so what
is asked for is a function, where ``reasoning`` asks for a new composition of functions. The residue
classes are our reading of the split by keys of arXiv 2405.05409.
"""

from __future__ import annotations

from itertools import combinations_with_replacement, product
from typing import ClassVar

import torch

from critical.trials.tasks import anchors
from critical.trials.tasks.source import Alphabet, HeldOut, Items, Task

PERIOD = 8
"""One key in so many is held out of a pair."""
PAIRS = tuple(product(anchors.SHIFTS, anchors.SHIFTS))
"""Ordered, as they are drawn."""
UNORDERED = tuple(combinations_with_replacement(anchors.SHIFTS, 2))
"""Numbered, as they are held out."""


class Keys(Task):
    """Compositions of all pairs; held out are, for a pair in both orders, some of the keys.

    Whoever guesses an item is right once in 80 times. The alphabet is not that of ``reasoning``,
    which must not be told of the pairs that it holds out.
    """

    name: ClassVar = "keys"
    alphabet = Alphabet("keys", anchors.VOCABULARY)
    length = anchors.LENGTH
    validation_items: ClassVar = 192
    reasons: ClassVar = True

    def __init__(self, seed: int) -> None:
        number = torch.tensor([_number(pair) for pair in PAIRS])[:, None]
        key = torch.arange(anchors.FIRST_KEY, anchors.LAST_KEY + 1)
        withheld = (key - number - seed) % PERIOD == 0  # (pairs, keys)
        self._trained, self._withheld = (~withheld).nonzero(), withheld.nonzero()

    def training(self, count: int, generator: torch.Generator) -> Items:
        """Draw pairs with the keys that they are trained with."""
        return _compositions(self._trained, count, generator)

    def held_out(self, generator: torch.Generator) -> tuple[HeldOut, ...]:
        """Draw pairs with the keys that they are never trained with."""
        return (HeldOut("", _compositions(self._withheld, 256, generator)),)


def _number(pair: anchors.Pair) -> int:
    """Return the number of a pair, which is that of its other order too."""
    return UNORDERED.index(pair if pair in UNORDERED else pair[::-1])


def _compositions(allowed: torch.Tensor, count: int, generator: torch.Generator) -> Items:
    """Draw from rows of (number of the pair, key above the first), shape (m, 2)."""
    number, key = allowed[torch.randint(len(allowed), (count,), generator=generator)].unbind(1)
    pair = torch.tensor(PAIRS)[number]
    shift = torch.tensor([anchors.SHIFTS[a] + anchors.SHIFTS[b] for a, b in PAIRS])[number]
    key = key + anchors.FIRST_KEY
    tokens = anchors.embedded(torch.column_stack((key, pair)), generator)
    return Items(tokens, (key + shift)[:, None])
