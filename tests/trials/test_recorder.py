"""A run records how it develops at a few of its evaluations, and comes to the same bits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from critical.trials import Interrupted, Measurement, ProxyRun, Scale
from critical.trials.model import Decoder
from critical.trials.recorder import development_steps
from critical.trials.run import STOP_FILE
from critical.trials.training import TrainingRecipe, train

Make = Callable[..., ProxyRun]
FEW = ("condensation", "stable_rank", "effective_rank", "saturation")
"""What is recorded at a few evaluations."""
INITIAL = ("activation_initial", "gradient_norm_initial")
FINAL = ("activation_final", "gradient_norm_final")


def kinds(measurement: Measurement) -> Counter[str]:
    """How many extras of each kind a measurement has."""
    return Counter(name.partition("/")[0] for name in measurement.extras if "/" in name)


def without_development(measurement: Measurement) -> Measurement:
    """Leave what the loss and R are reported with."""
    extras = {name: value for name, value in measurement.extras.items() if "/" not in name}
    return replace(measurement, extras=extras)


@given(st.sets(st.integers(1, 10**6), min_size=1, max_size=50), st.integers(0, 60))
def test_the_chosen_evaluations_hold_both_ends(looks: set[int], count: int) -> None:
    """As many as asked for, as far as there are any; of one, the last."""
    chosen = development_steps(looks, count)
    assert chosen <= looks
    assert len(chosen) == min(count, len(looks))
    if count > 0:
        assert max(looks) in chosen
    if count > 1:
        assert min(looks) in chosen


def test_the_chosen_evaluations_are_spread_evenly() -> None:
    """Among evaluations that are log-spaced, so they are too."""
    assert sorted(development_steps(range(1, 41), 8)) == [1, 7, 12, 18, 23, 29, 34, 40]


def test_each_kind_is_recorded_where_it_belongs(recipe: TrainingRecipe, tiny: Make) -> None:
    """Matrices and norms at a few evaluations, what flows at the two ends."""
    curve = list(recipe(tiny()))
    recorded = [kinds(measurement) for measurement in curve]
    assert sum(bool(found) for found in recorded) == recipe.development == 8
    matrices, norms = 6, 3
    few = {"condensation": matrices, "stable_rank": matrices, "effective_rank": matrices}
    few["saturation"] = norms
    for found in filter(None, recorded):
        assert {kind: found[kind] for kind in FEW} == few
    for place, names in ((0, INITIAL), (-1, FINAL)):
        assert [recorded[place][name] for name in names] == [1, matrices]
        others = [found for i, found in enumerate(recorded) if i != place % len(recorded)]
        assert not any(found[name] for found in others for name in names)


def test_recording_does_not_disturb_training(recipe: TrainingRecipe, tiny: Make) -> None:
    """Loss, R and the scores by source are the same to the bit, recorded or not."""
    silent = list(replace(recipe, development=0)(tiny()))
    assert silent == [without_development(measurement) for measurement in silent]
    for count in (1, 40):
        recorded = list(replace(recipe, development=count)(tiny()))
        assert [without_development(measurement) for measurement in recorded] == silent
        assert kinds(recorded[-1])["condensation"] == 6
        assert kinds(recorded[0])["gradient_norm_initial"] == 6


@pytest.mark.parametrize("step", [1, 2, 3])
def test_what_was_seen_before_the_first_step_outlasts_an_interruption(
    step: int, recipe: TrainingRecipe, tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first measurement, right after it and later: all numbers are the same."""
    run = tiny(scale=Scale(16, 1, 2, 60_000), checkpoint_dir=tmp_path)
    steps = iter(range(1, 10**6))
    monkeypatch.setattr(ProxyRun, "stop_requested", lambda _: next(steps) == step)
    with pytest.raises(Interrupted):
        list(train(recipe, run))
    monkeypatch.undo()
    assert not (tmp_path / STOP_FILE).exists()
    resumed = list(train(recipe, run))
    assert resumed == list(train(recipe, replace(run, checkpoint_dir=None)))
    assert kinds(resumed[0])["gradient_norm_initial"] == 6


def test_a_run_that_diverges_records_finite_numbers_alone(
    recipe: TrainingRecipe, tiny: Make
) -> None:
    """Weights that are not finite have no rank, and the run still ends as diverged."""
    curve = list(recipe(tiny(learning_rate=1e30)))
    assert curve[-1].loss == float("inf")
    recorded = [v for m in curve for name, v in m.extras.items() if "/" in name]
    assert recorded
    assert all(abs(value) < float("inf") for value in recorded)


def test_text_is_what_attention_is_looked_at_in(
    recipe: TrainingRecipe, tasks_only: TrainingRecipe, tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text windows where the mixture has text, else the reasoning items."""
    lengths: list[int] = []

    def look(_: Decoder, tokens: Tensor) -> Tensor:
        lengths.append(tokens.shape[1])
        return torch.tensor([0.25])

    monkeypatch.setattr(Decoder, "first_token_attention", look, raising=False)
    for each in (recipe, tasks_only):
        curve = list(each(tiny()))
        assert sum(m.extras.get("sink/0") == 0.25 for m in curve) == 8
    assert lengths == [64] * 8 + [9] * 8


def test_condensation_is_lost_as_weights_spread(tasks_only: TrainingRecipe, tiny: Make) -> None:
    """The probes follow training: a trained matrix has another rank than its initial one."""
    curve = list(tasks_only(tiny(scale=Scale(16, 1, 2, 40_000), learning_rate=1e-2, gamma=1.0)))
    first, last = curve[0].extras, curve[-1].extras
    assert last["stable_rank/head"] < 0.7 * first["stable_rank/head"]
    assert last["activation_final/0"] > 2 * first["activation_initial/0"]
