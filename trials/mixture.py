"""The mixture of sources in one token stream, and the fixed items that every run is scored on.

A fraction is a source's share of the tokens and its weight in the loss. A batch depends on the
seed and the step alone, so the data order is the same for every γ and learning rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from critical.trials import randomness
from critical.trials.corpus import SYMBOLS, Corpus, Text
from critical.trials.errors import MixtureError
from critical.trials.tasks import anchors

SOURCES = ("reasoning", "memory", "text")
DEFAULT_MIXTURE: Mapping[str, float] = {"reasoning": 0.5, "memory": 0.15, "text": 0.35}
TEXT_LENGTH = 64
"""Tokens of context of a text window."""
VOCABULARY = anchors.VOCABULARY + SYMBOLS
_VALIDATION_COUNT: Mapping[str, int] = {"reasoning": 192, "memory": 128, "text": 12}
_HELD_OUT_ITEMS = 256


@dataclass(frozen=True, slots=True)
class Group:
    """Sequences of one source, and what follows at their last positions.

    Attributes:
        source: Name of the source.
        tokens: Shape (n, t), int64.
        targets: What the last k positions predict. Shape (n, k), int64.
    """

    source: str
    tokens: Tensor
    targets: Tensor


class Mixture:
    """Draws training batches and the validation items of one seed.

    Raises:
        MixtureError: There is text in the fractions and no corpus, or no reasoning.
    """

    def __init__(
        self, fractions: Mapping[str, float], corpus: Corpus | None, batch_tokens: int, seed: int
    ) -> None:
        self.fractions = {name: share for name, share in fractions.items() if share > 0}
        if "reasoning" not in self.fractions:
            raise MixtureError("the mixture has no reasoning, so no R could be measured: add some")
        if "text" in self.fractions and corpus is None:
            raise MixtureError("the mixture has text and no corpus: give one, or leave text out")
        self._text = Text(corpus, anchors.VOCABULARY) if corpus is not None else None
        self._batch_tokens = batch_tokens
        self._seed = seed
        self._trained = anchors.trained_pairs(seed)
        self._held_out = anchors.held_out_pairs(seed)
        self._table = anchors.memory_table(seed)

    def batch(self, step: int) -> list[Group]:
        """Return the groups of a training step."""
        generator = randomness.generator("batch", self._seed, step)
        return [
            self._draw(source, self._count(source), generator, validation=False)
            for source in self.fractions
        ]

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one batch really holds, after rounding to whole sequences."""
        return sum(
            self._count(source) * (TEXT_LENGTH if source == "text" else anchors.LENGTH)
            for source in self.fractions
        )

    def validation(self) -> list[Group]:
        """Return the in-distribution items of every source, then the held-out reasoning items."""
        generator = randomness.generator("validation", self._seed)
        groups = [
            self._draw(source, _VALIDATION_COUNT[source], generator, validation=True)
            for source in self.fractions
        ]
        held_out = anchors.compositions(self._held_out, _HELD_OUT_ITEMS, generator)
        return [*groups, Group("held_out", held_out.tokens, held_out.answers[:, None])]

    def _count(self, source: str) -> int:
        length = TEXT_LENGTH if source == "text" else anchors.LENGTH
        return max(1, round(self._batch_tokens * self.fractions[source] / length))

    def _draw(
        self, source: str, count: int, generator: torch.Generator, *, validation: bool
    ) -> Group:
        if source == "text":
            assert self._text is not None
            window = self._text.windows(count, TEXT_LENGTH, generator, validation=validation)
            return Group(source, window[:, :-1], window[:, 1:])
        if source == "memory":
            items = anchors.memories(self._table, count, generator)
        else:
            items = anchors.compositions(self._trained, count, generator)
        return Group(source, items.tokens, items.answers[:, None])


def parse_mixture(text: str) -> dict[str, float]:
    """Read ``reasoning=0.5,memory=0.15,text=0.35``; fractions are scaled to sum to 1.

    Raises:
        MixtureError: A source is unknown or named twice, a fraction is no number of at least 0,
            or nothing reasons: without reasoning there is no R.
    """
    example = "write reasoning=0.5,memory=0.15,text=0.35"
    fractions: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = (piece.strip() for piece in part.partition("="))
        if name not in SOURCES:
            known = ", ".join(SOURCES)
            raise MixtureError(f"mixture source {name!r} is not one of {known}: {example}")
        if name in fractions:
            raise MixtureError(f"mixture {text!r} names {name} twice: {example}")
        try:
            fractions[name] = float(number)
        except ValueError as error:
            raise MixtureError(f"fraction {number!r} of {name} is no number: {example}") from error
        if not 0 <= fractions[name] < float("inf"):
            raise MixtureError(f"fraction {number} of {name} is not at least 0: {example}")
    if not fractions.get("reasoning"):
        raise MixtureError(
            f"mixture {text!r} has no reasoning, so no R could be measured: {example}"
        )
    total = sum(fractions.values())
    return {name: fractions[name] / total for name in SOURCES if fractions.get(name)}
