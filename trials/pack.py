"""Several built-in trials of one scale trained together, a measurement of each at a time.

On a GPU a small proxy leaves most of the device idle, and its step takes as long as its kernels
take to launch. The members of a pack share these launches: see ``stacking`` and ``stack_state``. A
member's numbers are those of the same trial alone but for roundings, and so are its checkpoints:
it may be interrupted in a pack and go on alone, or the other way round.

Losses and gradients stay on the device; the host waits for it at evaluations and saves only.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

from critical.trials.compiling import compiled
from critical.trials.evaluation import evaluation_steps
from critical.trials.failure import kind_of
from critical.trials.pack_member import Member, Row, SeedData, Structure
from critical.trials.pack_stack import Stack, halving
from critical.trials.recorder import development_steps
from critical.trials.run import Interrupted, Measurement, ProxyRun
from critical.trials.stack_state import StackState
from critical.trials.stacking import Batch, padded, stacked_logits, stacked_losses
from critical.trials.training import TrainingRecipe

T = TypeVar("T")
_SCORED_TOGETHER = 8
"""Members that are scored in one pass: their validation items are many more than a batch."""


def train_pack(
    recipe: TrainingRecipe, runs: Sequence[ProxyRun]
) -> Generator[list[Measurement | None], frozenset[int], None]:
    """Train several runs together, and yield their measurements, one a member, after each look.

    All members are measured after the same tokens. A member that has diverged yields a non-finite
    loss, then None; so does one that has been dropped. What a member's checkpoint holds is yielded
    again, and it joins the others where it had been. Where memory gives out, a pack goes on as two
    halves in turn, from the step that it was at.

    Args:
        recipe: Of every run.
        runs: At least one, of the same scale, settings and device. Those of one seed share their
            data; γ, learning rate and seed may differ.

    Yields:
        A measurement or None for each run, and is sent the numbers of the runs to drop.

    Raises:
        ValueError: The runs cannot be packed.
        Interrupted: A stop was requested of a member, and the state of every one is saved.
    """
    pack = Pack(recipe, runs)
    for step in range(1, pack.steps + 1):
        pack.advance(step)
        if step in pack.looks:
            dropped = yield pack.measure(step)
            pack.drop(dropped or frozenset())
            if not pack.going:
                return
        if step < pack.steps:
            pack.save(step)


class Pack:
    """The members of a pack, in one stack or several, taken a step at a time.

    Attributes:
        steps: The horizon, in whole steps.
        looks: The steps after which to measure.
        stacks: What trains now: several after memory gave out, or where models differ.
        going: Members that have neither ended nor been dropped, by number.
    """

    def __init__(self, recipe: TrainingRecipe, runs: Sequence[ProxyRun]) -> None:
        _check(runs)
        torch.set_num_threads(1)
        self._recipe = recipe
        self._device = torch.device(runs[0].device)
        seeds = dict.fromkeys(run.seed for run in runs)
        self._data = {seed: SeedData(recipe, seed, self._device) for seed in seeds}
        per_step = self._data[runs[0].seed].tokens_per_step
        self.steps = recipe.steps(runs[0], per_step)
        self.looks = evaluation_steps(self.steps, recipe.evaluations)
        self._look_numbers = {step: number for number, step in enumerate(sorted(self.looks))}
        self._developing = (
            development_steps(self.looks, recipe.development) if recipe.development else frozenset()
        )
        structures: dict[Hashable, Structure] = {}
        self._members = [
            Member(recipe, run, self._data[run.seed], structures, self.looks) for run in runs
        ]
        self._most = len(runs)
        self.stacks: list[Stack] = []
        self.going = frozenset(range(len(runs)))

    def advance(self, step: int) -> None:
        """Take an optimizer step of every member that has not taken it yet, counted from 1."""
        starting = [
            number for number in sorted(self.going) if self._members[number].reached == step - 1
        ]
        if starting:
            self._start(starting)
        self._each(lambda stack: self._step(stack, step))

    def measure(self, step: int) -> list[Measurement | None]:
        """Return every member's measurement after a step; members that diverged end here.

        What a member's checkpoint holds of a look is not measured again.
        """
        measured: list[Measurement | None] = [None] * len(self._members)
        look = self._look_numbers.get(step, len(self.looks))
        for number in self.going:
            earlier = self._members[number].keeper.measured
            if len(earlier) > look:
                measured[number] = earlier[look]
        for found in self._each(lambda stack: self._measure(stack, step)):
            for number, measurement in found.items():
                measured[number] = self._members[number].keeper.add(measurement)
        self.drop(
            frozenset(
                number
                for number, measurement in enumerate(measured)
                if measurement is not None and not math.isfinite(measurement.loss)
            )
        )
        return measured

    def drop(self, members: frozenset[int]) -> None:
        """Take members out of their stacks and free their memory; those that ended are no error."""
        if members & self.going:
            self.going -= members
            left = [stack for stack in self.stacks if self.going.intersection(stack.members)]
            self.stacks = [stack.only(self.going) for stack in left]

    def save(self, step: int) -> None:
        """Save every member that trains, if it is time or a stop is requested.

        Raises:
            Interrupted: A stop is requested of a member.
        """
        training = [number for stack in self.stacks for number in stack.members]
        if not training:
            return
        # One folder a step: to ask all of them after every step would cost as much as a step.
        stop = self._members[training[step % len(training)]].run.stop_requested()
        stopped: Interrupted | None = None
        for stack in self.stacks:
            for row, number in enumerate(stack.members):
                resumable = Row(stack.structure.layout, stack.state, row, step)
                try:
                    self._members[number].keeper.after(step, resumable, stop=stop)
                except Interrupted as interrupted:
                    stopped = interrupted
        if stopped is not None:
            raise stopped

    def _start(self, members: Sequence[int]) -> None:
        """Take in members, by structure, in the memory that there is."""
        alike: dict[int, list[int]] = defaultdict(list)
        for number in members:
            alike[id(self._members[number].structure)].append(number)
        for group in alike.values():
            starts = [self._members[number].take_start() for number in group]
            on_host = Stack(self._members[group[0]].structure, group, StackState.joined(starts))
            for _, stack in halving(on_host, self._on_device):
                self._admit(stack)

    def _on_device(self, stack: Stack) -> Stack:
        state = stack.state.each(lambda tensor: tensor.to(self._device))
        return Stack(stack.structure, stack.members, state)

    def _admit(self, new: Stack) -> None:
        """Add a stack, to one that is there if it fits."""
        for place, there in enumerate(self.stacks):
            together = there.members + new.members
            if there.structure is new.structure and len(together) <= self._most:
                try:
                    state = StackState.joined((there.state, new.state))
                except (RuntimeError, MemoryError) as error:
                    if kind_of(error) != "memory":
                        raise
                    break  # they train beside each other
                self.stacks[place] = Stack(new.structure, together, state)
                return
        self.stacks.append(new)

    def _each(self, work: Callable[[Stack], T]) -> list[T]:
        """Do something with every stack, halved where memory gives out."""
        done = [pair for stack in self.stacks for pair in halving(stack, work)]
        if len(done) > len(self.stacks):
            self._most = max(len(stack.members) for stack, _ in done)
        self.stacks = [stack for stack, _ in done]
        return [result for _, result in done]

    def _step(self, stack: Stack, step: int) -> None:
        batch = Batch.of([self._members[number].data.batch(step) for number in stack.members])
        weights = stack.state.weights.detach().requires_grad_()
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._recipe.autocast):
            losses = self._losses(stack, weights, batch)
        (gradients,) = torch.autograd.grad(losses.sum(), weights)
        stack.state.advance(gradients, step, self._recipe, stack.structure.layout.matrices)

    def _losses(self, stack: Stack, weights: Tensor, batch: Batch) -> Tensor:
        """Return the members' losses. Shape (k,)."""
        structure = stack.structure
        fractions = self._members[stack.members[0]].data.fractions
        if not self._recipe.compiled:
            return stacked_losses(structure.model, structure.layout, weights, batch, fractions)
        # Each size takes its own compilation: only the whole, a half, a quarter … are compiled.
        size = len(self._members)
        while (size + 1) // 2 >= len(weights) and size > 1:
            size = (size + 1) // 2
        rows = padded(weights, size)
        losses = _compiled()(structure.model, structure.layout, rows, batch.padded(size), fractions)
        return losses[: len(weights)]

    def _measure(self, stack: Stack, step: int) -> dict[int, Measurement]:
        """Score a stack's members by number, a few at a time; nothing is noted yet."""
        measured: dict[int, Measurement] = {}
        for rows in _alike(stack.members, lambda number: self._members[number].run.seed):
            measured |= self._score(stack, rows, step)
        return measured

    @torch.no_grad()
    def _score(self, stack: Stack, rows: Sequence[int], step: int) -> dict[int, Measurement]:
        members = [self._members[stack.members[row]] for row in rows]
        averages = stack.state.averages[list(rows)]
        logits: list[Tensor] | None = None
        if step not in self._developing:
            structure = stack.structure
            logits = stacked_logits(
                structure.model, structure.layout, averages, members[0].data.validation
            )
        measured = {}
        for place, (row, member) in enumerate(zip(rows, members, strict=True)):
            own = None if logits is None else [part[place] for part in logits]
            with torch.enable_grad():  # what is looked into has gradients
                measurement = member.measure(step, averages[place : place + 1], own)
            measured[stack.members[row]] = measurement
        return measured


def _alike(members: Sequence[int], key: Callable[[int], int]) -> Iterator[list[int]]:
    """Yield rows whose members have the same key, a few at a time."""
    found: dict[int, list[int]] = defaultdict(list)
    for row, member in enumerate(members):
        found[key(member)].append(row)
    for rows in found.values():
        for first in range(0, len(rows), _SCORED_TOGETHER):
            yield rows[first : first + _SCORED_TOGETHER]


def _check(runs: Sequence[ProxyRun]) -> None:
    if not runs:
        raise ValueError("a pack has no runs: give at least one")
    for name in ("scale", "settings", "device"):
        found = dict.fromkeys(str(getattr(run, name)) for run in runs)
        if len(found) > 1:
            raise ValueError(
                f"the runs of a pack have more than one {name}, {' and '.join(found)}: "
                "pack those that share it"
            )


@cache
def _compiled() -> Callable[..., Tensor]:
    return compiled(stacked_losses)
