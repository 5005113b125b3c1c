"""Anchor compositions (arXiv 2405.05409) and memory anchors (arXiv 2502.04375).

A sequence of 9 tokens holds a key item and, right after it, its anchors, at a random position; the
rest are noise items. The answer is read at the last position.

    composition   key a b       answer key + shift(a) + shift(b): the second function applied to
                                the first applied to the key
    memory        key m         answer from a fixed random table over (key, m)

Of the 36 ordered anchor pairs, 6 are held out, which is 4 distinct sums: R is the score on those,
never trained. Both orders of a pair are held out together, since shifts commute and the swapped
pair, if trained, would give the answer away. The shifts are a Sidon set, so no two pairs but an
order and its reverse have the same sum: no held-out sum is trained under another name.

The paper has the first four anchors. With those alone twelve pairs are left to train, which a proxy
learns one by one: measured at width 64, 16 of 100 held-out answers were right; with six anchors,
half and more.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, combinations, product

import torch
from torch import Tensor

from critical.trials import randomness

LENGTH = 9
FIRST_ITEM, LAST_ITEM = 20, 99
SHIFTS = {1: 5, 2: 1, 3: -2, 4: -8, 9: 13, 10: 15}
"""What each anchor token adds: the paper's four, and two that keep all sums of two distinct."""
MEMORY_ANCHORS = (5, 6, 7, 8)
FIRST_KEY = FIRST_ITEM - 2 * min(SHIFTS.values())
LAST_KEY = LAST_ITEM - 2 * max(SHIFTS.values())
"""Keys whose every composition is again an item."""
VOCABULARY = 128
"""Token ids that tasks may use; text starts above."""

Pair = tuple[int, int]
_HELD_OUT = [
    (one, two) for one, two in combinations(combinations(SHIFTS, 2), 2) if set(one).isdisjoint(two)
]
_STRIDE = 17
"""Coprime to the number of sets, and large, so that seeds in a row hold out very different ones."""


@dataclass(frozen=True, slots=True)
class Items:
    """Task sequences and their answers.

    Attributes:
        tokens: Shape (n, 9), int64.
        answers: Shape (n,), int64.
    """

    tokens: Tensor
    answers: Tensor


def held_out_pairs(seed: int) -> tuple[Pair, ...]:
    """Return the six held-out ordered pairs of a seed, of four distinct sums, rotated by seed.

    Two pairs in both orders, and the two other anchors doubled; so every anchor stays trained in
    both places. There are 45 such sets, and as many seeds in a row hold out different ones.
    """
    chosen = _HELD_OUT[seed * _STRIDE % len(_HELD_OUT)]
    others = [anchor for anchor in SHIFTS if anchor not in chain(*chosen)]
    return (
        *chosen,
        *((second, first) for first, second in chosen),
        *((anchor, anchor) for anchor in others),
    )


def trained_pairs(seed: int) -> tuple[Pair, ...]:
    """Return the thirty ordered pairs that the mixture trains."""
    held_out = set(held_out_pairs(seed))
    return tuple(pair for pair in product(SHIFTS, SHIFTS) if pair not in held_out)


def compositions(pairs: tuple[Pair, ...], count: int, generator: torch.Generator) -> Items:
    """Draw ``count`` compositions of the given anchor pairs."""
    table = torch.tensor(pairs)
    pair = table[torch.randint(len(pairs), (count,), generator=generator)]
    shift = torch.zeros(max(SHIFTS) + 1, dtype=torch.int64)
    for anchor, amount in SHIFTS.items():
        shift[anchor] = amount
    key = _keys(count, generator)
    tokens = embedded(torch.column_stack((key, pair)), generator)
    return Items(tokens, key + shift[pair].sum(dim=1))


def memories(table: Tensor, count: int, generator: torch.Generator) -> Items:
    """Draw ``count`` memory items; ``table`` as ``memory_table`` gives it."""
    key = _keys(count, generator)
    which = torch.randint(len(MEMORY_ANCHORS), (count,), generator=generator)
    anchor = torch.tensor(MEMORY_ANCHORS)[which]
    tokens = embedded(torch.column_stack((key, anchor)), generator)
    return Items(tokens, table[key - FIRST_KEY, which])


def memory_table(seed: int) -> Tensor:
    """Return a random answer for every (key, memory anchor). Shape (keys, anchors), int64."""
    generator = randomness.generator("memory table", seed)
    size = (LAST_KEY - FIRST_KEY + 1, len(MEMORY_ANCHORS))
    return torch.randint(FIRST_ITEM, LAST_ITEM + 1, size, generator=generator)


def _keys(count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(FIRST_KEY, LAST_KEY + 1, (count,), generator=generator)


def embedded(core: Tensor, generator: torch.Generator) -> Tensor:
    """Put each row of ``core`` (n, c) at a random place among noise items (n, 9)."""
    count, size = core.shape
    tokens = torch.randint(FIRST_ITEM, LAST_ITEM + 1, (count, LENGTH), generator=generator)
    start = torch.randint(LENGTH - size + 1, (count, 1), generator=generator)
    return tokens.scatter_(1, start + torch.arange(size), core)
