"""How long a run will take, against how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest

from critical.trials import ProxyRun, Scale
from critical.trials.timing import trial_seconds
from critical.trials.training import ProxyTraining, TrainingRecipe


def test_parts_add_up_to_the_horizon(
    recipe: TrainingRecipe,
    tiny: Callable[..., ProxyRun],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Overhead once, a median step for every step, each evaluation; on a clock of our own."""
    now = [0.0]
    steps = count()

    def advance(self: ProxyTraining, step: int) -> None:
        now[0] += 30.0 if next(steps) == 5 else 1.0  # one slow step is not the median

    def measure(self: ProxyTraining, step: int) -> None:
        now[0] += 2.0

    monkeypatch.setattr(ProxyTraining, "advance", advance)
    monkeypatch.setattr(ProxyTraining, "measure", measure)
    monkeypatch.setattr("critical.trials.timing.time", SimpleNamespace(perf_counter=lambda: now[0]))
    run = tiny(scale=Scale(16, 1, 2, 100_000))
    training = ProxyTraining(recipe, run)
    timing = trial_seconds(recipe, run)
    assert timing.trial_seconds == training.steps + 2 * recipe.evaluations
    assert timing.spent_seconds == now[0]


@pytest.mark.parametrize("members", [1, 3])
def test_the_prediction_is_near_a_real_run(
    recipe: TrainingRecipe,
    tiny: Callable[..., ProxyRun],
    monkeypatch: pytest.MonkeyPatch,
    members: int,
) -> None:
    """Within a factor 3 in CPU seconds, whatever else the cores do (15% on idle ones)."""
    clock = SimpleNamespace(perf_counter=time.process_time)
    monkeypatch.setattr("critical.trials.timing.time", clock)
    run = tiny(scale=Scale(32, 2, 2, 60_000))
    started = time.process_time()
    timing = trial_seconds(recipe, run, members)
    spent = time.process_time() - started
    started = time.process_time()
    if members == 1:
        list(recipe(run))
    else:
        list(recipe.train_pack([replace(run, seed=seed) for seed in range(members)]))
    real = time.process_time() - started
    assert 1 / 3 < timing.trial_seconds / real < 3
    assert 0 < timing.spent_seconds <= spent


def test_a_pack_is_measured_where_its_steps_end(
    recipe: TrainingRecipe, tiny: Callable[..., ProxyRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though a search would not look there: as many steps are timed as there may be."""
    monkeypatch.setattr("critical.trials.timing.time", SimpleNamespace(perf_counter=lambda: 0.0))
    run = tiny(scale=Scale(16, 1, 2, 200_000))
    assert 1 + 2 + 60 not in ProxyTraining(recipe, run).looks
    assert trial_seconds(recipe, run, members=2).trial_seconds == 0.0
