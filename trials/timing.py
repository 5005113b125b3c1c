"""How long a built-in trial will take, from a few of its steps."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from statistics import median
from typing import Protocol

import torch

from critical.trials.run import ProxyRun, Scale
from critical.trials.training import ProxyTraining, TrainingRecipe

_WARM_UP = 2
"""Steps after the first one that are not counted."""
_FEWEST, _MOST = 6, 60
"""Single steps whose median is taken; where they are short, as many as fit into ``_ENOUGH``."""
_ENOUGH_SECONDS = 0.6
_EVALUATIONS = 2
"""The first one of a process may take twice as long as all others: the shorter one counts."""
_TINY = Scale(width=8, depth=1, heads=1, tokens=1)


@dataclass(frozen=True, slots=True)
class Timing:
    """What a trial is expected to take, and what it took to find out.

    Attributes:
        trial_seconds: Predicted wall seconds of the whole run, or pack of runs, on one device.
        spent_seconds: Wall seconds of the timing itself.
    """

    trial_seconds: float
    spent_seconds: float


class _Training(Protocol):
    """What a run alone and a pack have in common."""

    steps: int
    looks: frozenset[int]

    def advance(self, step: int) -> None: ...

    def measure(self, step: int) -> object: ...


def trial_seconds(recipe: TrainingRecipe, run: ProxyRun, members: int = 1) -> Timing:
    """Time a run's building, single steps and an evaluation, and add them up to its horizon.

    Args:
        recipe: Of the trial.
        run: What to time.
        members: How many such runs to time as one pack; they take turns at two seeds, as the
            members of a search's packs mostly do.
    """
    clock = _Clock(run.device)
    # What torch loads at its first use is paid once a process, not once a run.
    tiny = run if recipe.model == "hf" else replace(run, scale=_TINY)  # families have a least size
    ProxyTraining(recipe, tiny).advance(1)
    clock.lap()
    training = _begun(recipe, run, members)
    training.advance(1)
    overhead = clock.lap()
    steps: list[float] = []
    while len(steps) < _WARM_UP + _FEWEST or (
        sum(steps) < _ENOUGH_SECONDS and len(steps) < _WARM_UP + _MOST
    ):
        training.advance(2 + len(steps))
        steps.append(clock.lap())
    evaluations: list[float] = []
    while len(evaluations) < _EVALUATIONS:
        training.measure(1 + len(steps))
        evaluations.append(clock.lap())
    step = median(steps[_WARM_UP:])
    predicted = overhead + (training.steps - 1) * step + len(training.looks) * min(evaluations)
    return Timing(predicted, clock.total())


def _begun(recipe: TrainingRecipe, run: ProxyRun, members: int) -> _Training:
    if members == 1:
        return ProxyTraining(recipe, run)
    from critical.trials.pack import Pack

    return Pack(recipe, [replace(run, seed=run.seed + number % 2) for number in range(members)])


class _Clock:
    """Wall seconds between laps, each after the device has done what it was given."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self._started = self._last = time.perf_counter()

    def lap(self) -> float:
        """Return the seconds since the last lap."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        self._last, seconds = now, now - self._last
        return seconds

    def total(self) -> float:
        """Return the seconds since the start."""
        return time.perf_counter() - self._started
