"""The history: every change is in the store first, and costs are learned from what has run."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from critical.inference.evidence import runs_of
from critical.plan import Arm, Plan
from critical.running.history import History
from critical.storage.records import (
    MeasurementRecord,
    NewStudy,
    NewTrial,
    Role,
    StudyRecord,
    TrialOutcome,
    TrialRecord,
    TrialState,
)
from critical.storage.store import Store
from critical.trials import Measurement, Scale
from critical.trials.watch import Earlier, Watched

ARM = Arm(Scale(32, 2, 2, 1000), "target", 10.0)
PLAN = Plan(
    arms=(ARM,),
    ladder=(1e-3, 2e-3),
    seeds=(0, 1),
    pairs=0,
    reference_gamma=0.5,
    device="cpu",
    workers=0,
    cost=0.0,
    notes=(),
)
REFERENCE = NewTrial(
    arm=ARM.name,
    optuna_number=None,
    role=Role.REFERENCE,
    gamma=0.5,
    learning_rate=1e-3,
    width=32,
    depth=2,
    heads=2,
    tokens=1000,
    seed=0,
    settings="target",
    reserved_seconds=10.0,
)


@pytest.fixture
def study(store: Store) -> StudyRecord:
    """A study with a budget of 100 device-seconds."""
    return store.create_study(
        NewStudy(
            name="s",
            budget_unit="cpu-s",
            budget_total=100.0,
            rule="balance",
            interval=(0.3, 1.2),
            reference_gamma=0.5,
            target_width=None,
            target_depth=None,
            options={},
            plan=PLAN.to_document(),
            target=None,
        )
    )


@pytest.fixture
def history(store: Store, study: StudyRecord) -> History:
    """Its history, of nothing yet."""
    return History(store, study, PLAN)


def run(
    history: History, new: NewTrial, seconds: float, speed: float = 1.0, reasoning: float = 0.5
) -> TrialRecord:
    """Run a trial of 20 measurements whose loss falls with its tokens times a speed."""
    trial = history.begin(new)
    for n in range(1, 21):
        measurement = Measurement(n * 50, 4.0 / (1 + n * speed), reasoning)
        history.measure(trial.number, Watched(measurement, seconds * n / 20, False))
    return history.end(trial.number, TrialOutcome(TrialState.COMPLETED, seconds, None, 0.5, 0.0))


def test_what_runs_is_held_and_what_ended_is_spent(history: History) -> None:
    """A reservation leaves less remaining, and settling it gives back what was not used."""
    assert history.remaining == 100
    trial = history.begin(REFERENCE)
    assert [t.number for t in history.running] == [trial.number]
    assert (history.spent, history.remaining) == (0, 90)
    history.end(trial.number, TrialOutcome(TrialState.COMPLETED, 4.0, None, 0.5, 0.0))
    assert history.running == []
    assert (history.spent, history.remaining) == (4, 96)


def test_trials_are_counted_where_they_are_the_unit(store: Store, study: StudyRecord) -> None:
    """Running ones are held, failed ones do not count, stopped and diverged ones do."""
    counted = replace(study, budget_unit="trials", budget_total=10)
    history = History(store, counted, PLAN)
    for state in (TrialState.FAILED, TrialState.STOPPED, TrialState.DIVERGED, None):
        trial = history.begin(REFERENCE)
        if state is not None:
            history.end(trial.number, TrialOutcome(state, 1.0))
    assert history.spent == 2
    assert history.remaining == 7
    assert history.cost(ARM) == 1


def test_a_trials_cost_is_learned(history: History) -> None:
    """The plan's timing counts until trials have completed; then their upper quartile does."""
    assert history.cost(ARM) == 10
    untimed = replace(ARM, trial_cost=None)
    assert history.cost(untimed) is None
    for seconds in (1.0, 2.0, 3.0, 4.0, 5.0):
        run(history, REFERENCE, seconds)
    failed = history.begin(REFERENCE)
    history.end(failed.number, TrialOutcome(TrialState.FAILED, 50.0))
    assert history.cost(ARM) == history.cost(untimed) == 4


def test_measurements_are_stored_as_they_come(history: History, store: Store) -> None:
    """Neither a loss nor an extra that is not finite is kept: the store's JSON has no NaN."""
    trial = history.begin(REFERENCE)
    for one in (
        Measurement(10, 3.0, 0.1, {"accuracy": 0.5, "bad": math.inf}),
        Measurement(20, math.nan, 0.0),
    ):
        history.measure(trial.number, Watched(one, 1.0, not math.isfinite(one.loss)))
    (stored,) = store.trial_measurements(trial.id)
    assert (stored.tokens, stored.extras) == (10, {"accuracy": 0.5})


def test_the_store_knows_all_that_the_history_does(
    history: History, store: Store, study: StudyRecord
) -> None:
    """Opened anew, it is the same."""
    run(history, REFERENCE, 3.0)
    run(history, replace(REFERENCE, role=Role.SEARCH, gamma=0.8), 3.0)
    again = History(store, study, PLAN)
    assert again.trials == history.trials
    assert again.spent == history.spent
    assert [r.gamma for r in again.runs()] == [r.gamma for r in history.runs()] == [0.5, 0.8]
    assert again.searched(ARM) == 1


def test_orphans_wait_charged_to_their_last_measurement(
    history: History, store: Store, study: StudyRecord
) -> None:
    """What ran when the driver died says so; what was held comes back."""
    measured, silent = history.begin(REFERENCE), history.begin(REFERENCE)
    history.measure(measured.number, Watched(Measurement(10, 3.0, 0.1), 2.5, False))
    again = History(store, study, PLAN)
    assert again.interrupted == again.trials
    assert {t.reason for t in again.trials} == {"its driver died"}
    assert [t.device_seconds for t in again.trials] == [2.5, 0.0]
    assert again.remaining == 97.5
    assert silent.state is TrialState.RUNNING


def test_a_trial_that_goes_on_is_measured_where_it_left_off(
    history: History, store: Store, study: StudyRecord
) -> None:
    """What it yields again is stored once; its seconds go on counting over its attempts."""
    trial = history.begin(REFERENCE)
    for tokens, seconds in ((10, 1.0), (20, 2.0)):
        history.measure(trial.number, Watched(Measurement(tokens, 3.0, 0.1), seconds, False))
    again = History(store, study, PLAN)
    assert again.earlier(trial.number) == Earlier(2, 3.0, 20)
    again.resume(trial.number, 5.0)
    for tokens, seconds in ((10, 0.1), (20, 0.2), (30, 1.5)):
        again.measure(trial.number, Watched(Measurement(tokens, 2.0, 0.1), seconds, False))
    curve = store.trial_measurements(trial.id)
    assert [(one.tokens, one.loss, one.device_seconds) for one in curve] == [
        (10, 3.0, 1.0),
        (20, 3.0, 2.0),
        (30, 2.0, 3.5),
    ]
    assert again.longest_wait(ARM.name) == 1.5


def test_a_trial_that_outlasts_its_reservation_holds_more(history: History) -> None:
    """So that what remains never counts device-time that is gone already."""
    trial = history.begin(REFERENCE)
    before = history.remaining
    history.measure(trial.number, Watched(Measurement(10, 3.0, 0.1), 1.0, False))
    assert history.remaining == before
    beyond = REFERENCE.reserved_seconds + 7
    history.measure(trial.number, Watched(Measurement(20, 3.0, 0.1), beyond, False))
    assert history.remaining == before - 7


def test_failures_before_the_opening_are_no_attempts(
    history: History, store: Store, study: StudyRecord
) -> None:
    """A reference that had failed, for a reason since mended, is tried anew."""
    for _ in range(2):
        trial = history.begin(REFERENCE)
        history.end(trial.number, TrialOutcome(TrialState.FAILED, 1.0, "broken"))
    assert len(history.attempts) == 2
    again = History(store, study, PLAN)
    assert again.attempts == []
    run(again, REFERENCE, 1.0)
    assert [t.number for t in again.attempts] == [2]


def test_the_best_rate_has_the_least_loss_once_the_ladder_has_ended(history: History) -> None:
    """Reasoning has no say in it."""
    run(history, REFERENCE, 1.0, speed=1.0, reasoning=0.9)
    assert history.best_rates() == {}
    run(history, replace(REFERENCE, learning_rate=2e-3), 1.0, speed=2.0, reasoning=0.1)
    assert history.best_rates() == {ARM.name: 2e-3}


def test_objectives_are_measured_against_the_reference_of_the_seed(history: History) -> None:
    """Twice as fast is one octave; before any reference has ended it is zero."""
    trial = history.begin(replace(REFERENCE, role=Role.SEARCH, gamma=0.8))
    for n in range(1, 41):
        one = Measurement(n * 25, 4.0 / (1 + n), 0.5)
        history.measure(trial.number, Watched(one, 0.1 * n, False))
    assert history.objectives(trial.number, algorithmic=False) == (0.5, 0.0)
    run(history, REFERENCE, 1.0)
    reasoning, octaves = history.objectives(trial.number, algorithmic=False)
    assert reasoning == pytest.approx(0.5)
    assert octaves == pytest.approx(1.0, abs=0.02)


def test_many_curves_are_read_at_once_and_are_the_same(
    history: History, store: Store, study: StudyRecord
) -> None:
    """A process that saw the trials and one that has just opened the study build the same runs."""
    for number in range(60):
        trial = history.begin(replace(REFERENCE, role=Role.SEARCH, gamma=0.5 + number / 100))
        one = MeasurementRecord(50, 1 / (1 + number), 0.1 * 3, 1.0, {"trained_accuracy": 0.1 + 0.2})
        curve = [replace(one, tokens=tokens) for tokens in (50, 100)][: number % 3]
        store.add_measurements(trial.id, 0, curve)
        state = TrialState.DIVERGED if number % 5 == 0 else TrialState.COMPLETED
        history.end(trial.number, TrialOutcome(state, 1.0, None, 0.5, 0.0))
    at_once = History(store, study, PLAN).runs()
    ended = {trial.number: trial for trial in store.trials(study.id)}
    curves = {number: store.trial_measurements(trial.id) for number, trial in ended.items()}
    for found, expected in zip(at_once, runs_of([*ended.values()], curves, 0.5), strict=True):
        np.testing.assert_equal(asdict(found), asdict(expected))
