"""``deduction``: proofs from a fictional ontology (in the manner of PrOntoQA, arXiv 2210.01240).

    every lorpus dumpus every vumpus gorpus every rompus wumpus every gorpus yumpus every wumpus
    impus every tumpus lorpus sam rompus          sam is a rompus, so a wumpus, so an impus
    → wumpus impus

An item states six rules in a random order, then what sam is, and asks for all that follows, step
by step, as PrOntoQA does. Words that would tell nothing are left out. Nothing of an item can be
known beforehand: its ontology is drawn anew. Trained are three chains of two rules each, of six
different names; sam is the first of one. The chains are alike in all else, so whoever does not look
at what sam is finds the first step once in 3 times.

Held out are
    deeper   two chains of three rules: a proof of one step more, from as many rules
    names    a proof by rules that no trained item has: names whose numbers differ by one residue
             modulo 12, which the seed rotates, are never joined. Every name is in other rules.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from critical.trials.tasks.source import Alphabet, HeldOut, Items, Task

ENTITIES = ("alex", "fae", "max", "polly", "rex", "sally", "sam", "stella")
NAMES = (
    "brimpus", "dumpus", "fompus", "gorpus", "grimpus", "hilpus", "impus", "jompus", "kerpus",
    "lempus", "lorpus", "numpus", "opus", "phorpus", "quimpus", "rompus", "shumpus", "sterpus",
    "tumpus", "vumpus", "wumpus", "xempus", "yumpus", "zumpus",
)  # fmt: skip
WORDS = ("every", *ENTITIES, *NAMES)
"""A word's place here is its token id."""
RULES = 6
TRAINED_DEPTH, HELD_OUT_DEPTH = 2, 3
"""Rules of a chain, steps of a proof."""
PERIOD = 12
"""One pair of names in so many is held out."""
_EVERY = WORDS.index("every")
_FIRST_ENTITY = WORDS.index(ENTITIES[0])
_FIRST_NAME = WORDS.index(NAMES[0])


class Deduction(Task):
    """Chains of rules; held out are longer ones, and rules about pairs of names never joined."""

    name: ClassVar = "deduction"
    alphabet = Alphabet("deduction", len(WORDS))
    length = 3 * RULES + 2 + TRAINED_DEPTH - 1
    validation_items: ClassVar = 192
    reasons: ClassVar = True

    def __init__(self, seed: int) -> None:
        name = torch.arange(len(NAMES))
        # Not 0 modulo the period: then a name's partners have other partners than itself.
        self._new = (name - name[:, None]) % PERIOD == 1 + seed % (PERIOD - 1)
        self._trained = ~self._new

    def training(self, count: int, generator: torch.Generator) -> Items:
        """Draw proofs of two steps, by rules that join trained pairs."""
        return _items(TRAINED_DEPTH, self._trained, self._trained, count, generator)

    def held_out(self, generator: torch.Generator) -> tuple[HeldOut, ...]:
        """Draw proofs of three steps by trained rules, then proofs of two by new ones."""
        deeper = _items(HELD_OUT_DEPTH, self._trained, self._trained, 256, generator)
        names = _items(TRAINED_DEPTH, self._new, self._trained, 256, generator)
        return HeldOut("deeper", deeper), HeldOut("names", names)


def _items(
    depth: int, asked: Tensor, others: Tensor, count: int, generator: torch.Generator
) -> Items:
    """Draw items of one depth.

    Args:
        depth: Rules of each chain.
        asked: Which names a rule of the chain that is asked for may join. Shape (names, names).
        others: The same for the other chains.
        count: Number of items, n.
        generator: Of the draws.
    """
    free = torch.ones(count, len(NAMES), dtype=torch.bool)

    def pick(allowed: Tensor) -> Tensor:
        """Draw a name that no rule has yet. Shape (n,)."""
        found = torch.multinomial((allowed & free).double(), 1, generator=generator)
        free.scatter_(1, found, value=False)
        return found[:, 0]

    rules: list[Tensor] = []
    for chain in range(RULES // depth):  # first the one that is asked for
        may_join = others if chain else asked
        name = pick(free)
        for _ in range(depth):
            following = pick(may_join[name])
            rules.append(torch.stack((name, following), dim=1))
            name = following
    return _written(torch.stack(rules, dim=1), depth, generator)


def _written(rules: Tensor, depth: int, generator: torch.Generator) -> Items:
    """Write rules (n, 6, 2) out as words, of which the first ``depth`` are the proof."""
    count = len(rules)
    words = rules + _FIRST_NAME
    order = torch.rand(count, RULES, generator=generator).argsort(dim=1)
    shuffled = words.gather(1, order[:, :, None].expand(-1, -1, 2))
    stated = torch.cat((torch.full((count, RULES, 1), _EVERY), shuffled), dim=2).flatten(1)
    who = torch.randint(len(ENTITIES), (count, 1), generator=generator) + _FIRST_ENTITY
    answer = words[:, :depth, 1]
    return Items(torch.cat((stated, who, words[:, 0, :1], answer[:, :-1]), dim=1), answer)
