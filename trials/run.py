"""What a trial is given and what it yields: the contract between the search and any trial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Scale:
    """The size of a proxy.

    Attributes:
        width: d_model, the residual stream's dimension.
        depth: Number of decoder blocks.
        heads: Attention heads; divides ``width``.
        tokens: Tokens of training.
    """

    width: int
    depth: int
    heads: int
    tokens: int


@dataclass(frozen=True, slots=True)
class ProxyRun:
    """One trial: a proxy run at one (γ, learning rate, scale, seed, settings).

    Attributes:
        gamma: Every weight matrix is drawn with std = fan_in^−γ.
        learning_rate: Peak rate, or None where the search does not tune it.
        scale: The proxy's size.
        seed: Decides data order and the unscaled random draws; trials of one seed are paired.
        settings: Name of the arm's settings, ``target`` by default.
        device: ``cpu`` or ``cuda``.
        checkpoint_dir: A folder of this trial's own, or None.
    """

    gamma: float
    learning_rate: float | None
    scale: Scale
    seed: int
    settings: str = "target"
    device: str = "cpu"
    checkpoint_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """One evaluation; the last one that a trial yields is its result.

    Attributes:
        tokens: Tokens seen so far, > 0, strictly growing within a trial.
        loss: In-distribution validation loss, nats per token.
        reasoning: R, the score on held-out reasoning items, in [0, 1], higher is better.
        extras: Further numbers by name. ``trained_accuracy``, in [0, 1], tells whether the
            trained items have been learned.
    """

    tokens: int
    loss: float
    reasoning: float
    extras: Mapping[str, float] = field(default_factory=dict)


class Trainable(Protocol):
    """A trial: the built-in one, or a user's own."""

    def __call__(self, run: ProxyRun, /) -> Iterator[Measurement]:
        """Train and yield measurements, at least 20 from a user's own trial."""
        ...
