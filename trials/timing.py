"""How long a built-in trial will take, from a few of its steps."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from statistics import median

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
        trial_seconds: Predicted wall seconds of the whole run on one device.
        spent_seconds: Wall seconds of the timing itself.
    """

    trial_seconds: float
    spent_seconds: float


def trial_seconds(recipe: TrainingRecipe, run: ProxyRun) -> Timing:
    """Time a run's building, single steps and an evaluation, and add them up to its horizon."""
    clock = _Clock(run.device)
    # What torch loads at its first use is paid once a process, not once a run.
    tiny = run if recipe.model == "hf" else replace(run, scale=_TINY)  # families have a least size
    ProxyTraining(recipe, tiny).advance(1)
    clock.lap()
    training = ProxyTraining(recipe, run)
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
