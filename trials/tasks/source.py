"""What every source of a mixture is: where its sequences come from and what a right answer is.

A source is made for one seed and draws sequences of one length. What the model shall predict at
their last k positions is the answer; with k > 1 the answer's first k − 1 tokens are part of the
sequence, as in teacher forcing. Token ids are the source's own, from 0: the mixture moves each
alphabet to a place of its own, so that no source needs to know of any other.

Shapes: n sequences of t tokens, k of them answered.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Alphabet:
    """Token ids that mean the same wherever they stand.

    Sources that share an alphabet share what the model learns of its tokens, so what one of them
    holds out none of the others may train.

    Attributes:
        name: Two sources share their ids where this is the same.
        size: Number of ids.
    """

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Items:
    """Sequences and their answers, in the ids of their source.

    Attributes:
        tokens: Shape (n, t), int64.
        answers: What the last k positions predict. Shape (n, k), int64.
    """

    tokens: Tensor
    answers: Tensor


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Items of which nothing like is trained.

    Attributes:
        kind: What is new in them, a word; empty where a source holds out one kind only.
        items: The sequences and the answers that are scored.
        right: Whether these answers are the right ones, and count in R; others are only looked at.
    """

    kind: str
    items: Items
    right: bool = True


class Source(ABC):
    """A source of one seed. Draws depend on the seed and on the generator that is passed, alone.

    Attributes:
        name: As ``--mixture`` and the names of measurements have it; letters only.
        alphabet: Which ids its sequences and answers use.
        length: Tokens of a sequence, t.
        validation_items: How many in-distribution items a run is scored on.
        reasons: Whether it holds items out, so that R can be measured.
    """

    name: ClassVar[str]
    alphabet: Alphabet
    length: int
    validation_items: ClassVar[int]
    reasons: ClassVar[bool] = False

    @abstractmethod
    def training(self, count: int, generator: torch.Generator) -> Items:
        """Draw ``count`` items to train on."""

    def validation(self, count: int, generator: torch.Generator) -> Items:
        """Draw ``count`` items of the same distribution as those trained on."""
        return self.training(count, generator)

    def held_out(self, generator: torch.Generator) -> tuple[HeldOut, ...]:
        """Draw the held-out items, kind by kind: as many kinds each time, and of equal size.

        They may be longer than those trained on, up to what a window of text has.
        """
        return ()


class Task(Source):
    """A source that is made from a seed alone: what a module in this folder defines."""

    @abstractmethod
    def __init__(self, seed: int) -> None: ...
