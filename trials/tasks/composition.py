"""``reasoning``: two known functions in a pair that is never trained (arXiv 2405.05409)."""

from __future__ import annotations

from typing import ClassVar

import torch

from critical.trials.tasks import anchors
from critical.trials.tasks.source import Alphabet, HeldOut, Items, Task

ANCHORS = Alphabet("anchors", anchors.VOCABULARY)


class Composition(Task):
    """Anchor compositions; held out are the pairs of anchors that the seed takes out of training.

    Whoever guesses an item is right once in 80 times.
    """

    name: ClassVar = "reasoning"
    alphabet = ANCHORS
    length = anchors.LENGTH
    validation_items: ClassVar = 192
    reasons: ClassVar = True

    def __init__(self, seed: int) -> None:
        self._trained = anchors.trained_pairs(seed)
        self._held_out = anchors.held_out_pairs(seed)

    def training(self, count: int, generator: torch.Generator) -> Items:
        """Draw compositions of trained pairs."""
        found = anchors.compositions(self._trained, count, generator)
        return Items(found.tokens, found.answers[:, None])

    def held_out(self, generator: torch.Generator) -> tuple[HeldOut, ...]:
        """Draw compositions of held-out pairs."""
        found = anchors.compositions(self._held_out, 256, generator)
        return (HeldOut("", Items(found.tokens, found.answers[:, None])),)
