"""The mixture of sources in one token stream, and the fixed items that every run is scored on.

A fraction is a source's share of the tokens and its weight in the loss. A batch depends on the
seed and the step alone, so the data order is the same for every γ and learning rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from critical.trials import randomness
from critical.trials.corpus import Corpus
from critical.trials.errors import MixtureError
from critical.trials.tasks.registry import REASONING, SOURCES, first_ids, make_source
from critical.trials.tasks.source import HeldOut, Items, Source

DEFAULT_MIXTURE: Mapping[str, float] = {"reasoning": 0.65, "memory": 0.1, "text": 0.25}
VOCABULARY = first_ids(DEFAULT_MIXTURE, None)[1]
"""Token ids of the default mixture and of any of its sources, where text is bytes."""
HELD_OUT = "held_out"


@dataclass(frozen=True, slots=True)
class Group:
    """Sequences of one source, and what follows at their last positions.

    Attributes:
        source: Name of the source, or what ``held_out_name`` returns.
        tokens: Shape (n, t), int64.
        targets: What the last k positions predict. Shape (n, k), int64.
    """

    source: str
    tokens: Tensor
    targets: Tensor


def held_out_name(task: str, held_out: HeldOut) -> str:
    """Return what a group of held-out items is called.

    ``held_out`` for those of the default task; for others ``held_out/TASK``, or
    ``held_out/TASK/KIND`` where a task has several kinds; ``contrast/TASK/KIND`` where the
    answers are not the right ones and do not count.
    """
    if task == REASONING[0] and not held_out.kind:
        return HELD_OUT
    first = HELD_OUT if held_out.right else "contrast"
    return "/".join(part for part in (first, task, held_out.kind) if part)


def reasoning_task(group: str) -> str | None:
    """Return the task whose R a group counts in, None where it is no held-out one."""
    first, _, rest = group.partition("/")
    if first != HELD_OUT:
        return None
    return rest.partition("/")[0] or REASONING[0]


def in_use(fractions: Mapping[str, float]) -> dict[str, float]:
    """Return the sources whose fraction is not 0, in their order, which decides the draws."""
    return {name: share for name, share in fractions.items() if share > 0}


class Mixture:
    """Draws training batches and the validation items of one seed.

    Raises:
        MixtureError: There is text in the fractions and no corpus, or no reasoning.
        CorpusError: The corpus' token file is not on this machine, or is not the one prepared.
    """

    def __init__(
        self, fractions: Mapping[str, float], corpus: Corpus | None, batch_tokens: int, seed: int
    ) -> None:
        self.fractions = in_use(fractions)
        if not any(name in REASONING for name in self.fractions):
            raise MixtureError("the mixture has no reasoning, so no R could be measured: add some")
        if "text" in self.fractions and corpus is None:
            raise MixtureError("the mixture has text and no corpus: give one, or leave text out")
        self._sources = [make_source(name, seed, corpus) for name in self.fractions]
        self._first_ids, _ = first_ids(self.fractions, corpus)
        self._batch_tokens = batch_tokens
        self._seed = seed

    def batch(self, step: int) -> list[Group]:
        """Return the groups of a training step."""
        generator = randomness.generator("batch", self._seed, step)
        return [
            self._group(source, source.name, source.training(self._count(source), generator))
            for source in self._sources
        ]

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one batch really holds, after rounding to whole sequences."""
        return sum(self._count(source) * source.length for source in self._sources)

    def validation(self) -> list[Group]:
        """Return the in-distribution items of every source, then all held-out ones."""
        generator = randomness.generator("validation", self._seed)
        groups = [
            self._group(source, source.name, source.validation(source.validation_items, generator))
            for source in self._sources
        ]
        for source in self._sources:
            groups += [
                self._group(source, held_out_name(source.name, part), part.items)
                for part in source.held_out(generator)
            ]
        return groups

    def _count(self, source: Source) -> int:
        return max(1, round(self._batch_tokens * self.fractions[source.name] / source.length))

    def _group(self, source: Source, name: str, items: Items) -> Group:
        first = self._first_ids[source.alphabet.name]
        return Group(name, items.tokens + first, items.answers + first)


def parse_mixture(text: str) -> dict[str, float]:
    """Read ``reasoning=0.65,memory=0.1,text=0.25``; fractions are scaled to sum to 1.

    Raises:
        MixtureError: A source is unknown or named twice, a fraction is no number of at least 0,
            or nothing is named, or nothing reasons: without reasoning there is no R.
    """
    example = "write reasoning=0.65,memory=0.1,text=0.25"
    fractions: dict[str, float] = {}
    if not text.strip():
        raise MixtureError(f"mixture {text!r} names no source: {example}")
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
            raise MixtureError(
                f"fraction {number} of {name} is not a finite number of at least 0: {example}"
            )
    if not any(fractions.get(name) for name in REASONING):
        raise MixtureError(
            f"mixture {text!r} has no task that reasons ({', '.join(REASONING)}): add one, or "
            f"{example}"
        )
    total = sum(fractions.values())
    return {name: fractions[name] / total for name in SOURCES if fractions.get(name)}
