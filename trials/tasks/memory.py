"""``memory``: answers that can only be memorized (arXiv 2502.04375)."""

from __future__ import annotations

from typing import ClassVar

import torch

from critical.trials.tasks import anchors
from critical.trials.tasks.composition import ANCHORS
from critical.trials.tasks.source import Items, Task


class Memory(Task):
    """Memory anchors: each key and anchor has a random answer; there is nothing to hold out."""

    name: ClassVar = "memory"
    alphabet = ANCHORS
    length = anchors.LENGTH
    validation_items: ClassVar = 128

    def __init__(self, seed: int) -> None:
        self._table = anchors.memory_table(seed)

    def training(self, count: int, generator: torch.Generator) -> Items:
        """Draw keys with one of the memory anchors."""
        found = anchors.memories(self._table, count, generator)
        return Items(found.tokens, found.answers[:, None])
