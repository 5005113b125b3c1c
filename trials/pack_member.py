"""One member of a pack: its model's structure, its data, its checkpoints and its measurements."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from critical.trials.evaluation import evaluate
from critical.trials.initialization import initialize
from critical.trials.mixture import Group, Mixture
from critical.trials.model import Decoder
from critical.trials.recorder import Recorder
from critical.trials.resuming import Keeper
from critical.trials.run import Measurement, ProxyRun
from critical.trials.stack_state import StackState
from critical.trials.stacking import Layout
from critical.trials.training import (
    TrainingRecipe,
    build_model,
    fingerprint,
    mixture_loss,
    to_device,
)


class SeedData:
    """What the members of one seed train on and are scored on.

    Attributes:
        fractions: Weights of the sources.
        validation: The items that they are scored on, on their device.
        tokens_per_step: Of every batch.
    """

    def __init__(self, recipe: TrainingRecipe, seed: int, device: torch.device) -> None:
        self._mixture = Mixture(recipe.mixture, recipe.corpus, recipe.batch_tokens, seed)
        self._device = device
        self._latest: tuple[int, list[Group]] = (0, [])
        self.fractions = self._mixture.fractions
        self.tokens_per_step = self._mixture.tokens_per_step
        self.validation = [to_device(group, device) for group in self._mixture.validation()]

    def batch(self, step: int) -> list[Group]:
        """Return the batch of a step; the same object to all who ask for it in turn."""
        if self._latest[0] != step:
            groups = [to_device(group, self._device) for group in self._mixture.batch(step)]
            self._latest = (step, groups)
        return self._latest[1]


@dataclass(frozen=True, slots=True)
class Structure:
    """A model whose parameters stand for any member's, and where they lie in a row.

    Attributes:
        model: On the members' device.
        layout: Of its parameters.
    """

    model: nn.Module
    layout: Layout


@dataclass(frozen=True, slots=True)
class Row:
    """One member's row of a state, as its checkpoint is made of it: a ``Resumable``.

    Attributes:
        layout: Of the row.
        tensors: The state.
        number: Of the row.
        step: The last one taken.
    """

    layout: Layout
    tensors: StackState
    number: int
    step: int

    def state(self) -> dict[str, Tensor]:
        """Return the member's tensors themselves, as the same trial alone has them."""
        return self.tensors.named(self.layout, self.number, self.step)

    def restore(self, state: Mapping[str, Tensor]) -> bool:
        """Take in a state, or return False and change nothing where it does not fit."""
        return self.tensors.part(self.number, self.number + 1).restore(self.layout, state)


class Member:
    """One run of a pack.

    Attributes:
        run: What it trains.
        data: Of its seed.
        structure: Of its model; the same object for all members that can be stacked.
        keeper: Its checkpoints and measurements.
        reached: The step that its checkpoint had reached, 0 where it starts anew.
    """

    def __init__(
        self,
        recipe: TrainingRecipe,
        run: ProxyRun,
        data: SeedData,
        structures: dict[Hashable, Structure],
        looks: frozenset[int],
    ) -> None:
        self.run, self.data = run, data
        model = _initialized(recipe, run)
        layout = Layout(model)
        row = layout.row(model)
        # Models that differ in more than their parameters cannot be stacked.
        alike = model.shape if isinstance(model, Decoder) else id(self)
        if alike not in structures:
            structures[alike] = Structure(model.to(run.device), layout)
        self.structure = structures[alike]
        self._recorder = Recorder(self.structure.model, looks, recipe.development, data.validation)
        self.structure.layout.load(self.structure.model, row)
        self._recorder.begin(self._first_loss())
        self.keeper = Keeper(run, fingerprint(recipe, run))
        rate = run.learning_rate or recipe.base_learning_rate
        start = StackState.fresh(row, rate)
        self.reached = self.keeper.resume(Row(layout, start, 0, 0))
        self._start: StackState | None = start

    def take_start(self) -> StackState:
        """Return its state at the step that it has reached, on the CPU, to be kept by a stack."""
        state, self._start = self._start, None
        assert state is not None
        return state

    def measure(self, step: int, averages: Tensor, logits: Sequence[Tensor] | None) -> Measurement:
        """Score the averaged weights after a step; nothing is noted yet.

        Args:
            step: The last one taken.
            averages: Shape (1, p).
            logits: What these weights predict for the validation items, shape (n, l, v) each; None
                where the model itself shall run, to be looked into.
        """
        predict: Callable[[Sequence[Tensor], Sequence[int]], Sequence[Tensor]]
        if logits is None:
            self.structure.layout.load(self.structure.model, averages)
            predict = self.structure.model
        else:
            predict = lambda _tokens, _last: logits  # noqa: E731
        tokens = step * self.data.tokens_per_step
        data = self.data
        return self._recorder.measure(
            step, partial(evaluate, predict, data.validation, data.fractions, tokens)
        )

    def _first_loss(self) -> Callable[[], Tensor]:
        groups = self.data.batch(1)
        return partial(mixture_loss, self.structure.model, groups, self.data.fractions)


def _initialized(recipe: TrainingRecipe, run: ProxyRun) -> nn.Module:
    model = build_model(recipe, run)
    initialize(
        model,
        run.gamma,
        seed=run.seed,
        convention=recipe.convention,
        width=run.scale.width,
        depth=run.scale.depth,
    )
    return model
