"""What a trial is given and what it yields: the contract between the search and any trial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

STOP_FILE = "stop"
"""Name of the file in a trial's folder that asks it to stop."""


class Interrupted(Exception):  # noqa: N818  # an end like others, and no error
    """A trial that was told to stop has saved its state and ends here, to go on later."""


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
        checkpoint_dir: A folder of this trial's own, which exists when the trial starts, or None.
            What the trial saves there it finds again when it is called with the same run after an
            interruption: a stop, or the death of its process or machine. The folder is removed
            once the trial has ended.
    """

    gamma: float
    learning_rate: float | None
    scale: Scale
    seed: int
    settings: str = "target"
    device: str = "cpu"
    checkpoint_dir: Path | None = None

    def stop_requested(self) -> bool:
        """Whether the trial shall save what it needs to go on, and raise ``Interrupted``.

        Cheap enough to ask after every step. Once it is true, it stays so until the trial ends.
        """
        return self.has_sign(STOP_FILE)

    def has_sign(self, name: str) -> bool:
        """Whether a file of that name lies in the trial's folder, put there by the driver."""
        if self.checkpoint_dir is None:
            return False
        try:
            return (self.checkpoint_dir / name).exists()
        except OSError:  # a folder that may not be searched asks for nothing
            return False


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
    """A trial: the built-in one, or a user's own.

    A trial may be interrupted at any moment and called again with the same run. It need not care,
    and then starts anew. To go on instead:

    - It saves into ``run.checkpoint_dir`` whatever it needs, and looks there when it is called. A
      crash may come amid a save: write under another name first, then rename.
    - It may yield from the start again (what is stored already is known by its tokens and skipped)
      or only what is new. The last measurement before an interruption may not have been stored, so
      one that was yielded belongs into the next save, to be yielded again.
    - Where ``run.stop_requested()``, asked after every step or measurement, it saves and raises
      ``Interrupted``. A trial that ignores this is closed at its next measurement, which is lost.
    """

    def __call__(self, run: ProxyRun, /) -> Iterator[Measurement]:
        """Train and yield measurements, at least 20 from a user's own trial.

        Raises:
            Interrupted: A stop was requested, and the state is saved.
        """
        ...
