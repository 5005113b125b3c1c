"""A trial over several attempts: interrupted, going on under its number, charged for each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from critical.storage.errors import StoreError
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

COMPLETED = TrialOutcome(TrialState.COMPLETED, 30.0, None, 0.6, -0.25)
DIED = "its worker died"


@pytest.fixture
def study(store: Store, new_study: NewStudy) -> StudyRecord:
    """A study in the store."""
    return store.create_study(new_study)


@pytest.fixture
def trial(store: Store, study: StudyRecord, new_trial: NewTrial) -> TrialRecord:
    """A trial that runs, 60 device-seconds reserved."""
    return store.add_trial(study.id, new_trial)


def test_an_interrupted_trial_holds_nothing(
    store: Store, study: StudyRecord, trial: TrialRecord
) -> None:
    """Its attempt is charged, with the reason, and its reservation is free again."""
    interrupted = store.interrupt_trial(trial.id, 12.5, DIED)
    assert (interrupted.state, interrupted.reason) == (TrialState.INTERRUPTED, DIED)
    assert (interrupted.device_seconds, interrupted.finished_at) == (12.5, None)
    ledger = store.ledger(study.id)
    assert (ledger.spent_seconds, ledger.held_seconds) == (12.5, 0.0)
    assert store.counts(study.id).interrupted == 1
    assert store.interrupt_trial(trial.id, 99.0, "again") == interrupted


def test_it_goes_on_under_its_number(store: Store, study: StudyRecord, trial: TrialRecord) -> None:
    """Each attempt is a line of the ledger; the trial is charged their sum."""
    store.interrupt_trial(trial.id, 12.5, DIED)
    running = store.resume_trial(trial.id, 40.0)
    assert (running.id, running.number, running.attempts) == (trial.id, 0, 2)
    assert (running.state, running.reason) == (TrialState.RUNNING, None)
    assert store.ledger(study.id).held_seconds == 40.0
    ended = store.finish_trial(trial.id, COMPLETED)
    assert (ended.state, ended.device_seconds, ended.reserved_seconds) == (
        TrialState.COMPLETED,
        42.5,
        100.0,
    )
    first, second = store.charges(study.id)
    assert (first.attempt, first.charged_seconds, first.reason) == (0, 12.5, DIED)
    assert (second.attempt, second.charged_seconds, second.reason) == (1, 30.0, None)
    assert store.ledger(study.id).spent_seconds == 42.5
    assert store.trials(study.id) == [ended]


def test_only_an_interrupted_trial_goes_on(store: Store, trial: TrialRecord) -> None:
    """Whoever comes second is refused, so that no trial runs twice at once."""
    with pytest.raises(StoreError, match="trial 0 is running and cannot go on"):
        store.resume_trial(trial.id, 1.0)
    store.interrupt_trial(trial.id, 1.0, DIED)
    store.resume_trial(trial.id, 1.0)
    with pytest.raises(StoreError, match="trial 0 is running and cannot go on"):
        store.resume_trial(trial.id, 1.0)
    store.finish_trial(trial.id, COMPLETED)
    with pytest.raises(StoreError, match="trial 0 is completed and cannot go on"):
        store.resume_trial(trial.id, 1.0)


def test_an_interrupted_trial_may_be_given_up(
    store: Store, study: StudyRecord, trial: TrialRecord
) -> None:
    """It ends without another attempt and without another charge."""
    store.interrupt_trial(trial.id, 12.5, DIED)
    given_up = store.finish_trial(trial.id, TrialOutcome(TrialState.FAILED, 0.0, DIED))
    assert (given_up.state, given_up.device_seconds) == (TrialState.FAILED, 12.5)
    assert store.ledger(study.id).spent_seconds == 12.5


def test_orphans_are_charged_to_their_last_measurement(
    store: Store, study: StudyRecord, new_trial: NewTrial
) -> None:
    """Of the running attempt alone; what has ended or waits stays as it is."""
    going, bare, waiting = (store.add_trial(study.id, new_trial) for _ in range(3))
    store.add_measurements(going.id, 0, [MeasurementRecord(1000, 3.0, 0.1, 10.0)])
    store.interrupt_trial(going.id, 12.0, DIED)
    store.resume_trial(going.id, 60.0)
    store.add_measurements(going.id, 1, [MeasurementRecord(2000, 2.0, 0.2, 20.0)])
    store.interrupt_trial(waiting.id, 3.0, DIED)
    adopted = store.adopt_trials(study.id, "its driver died")
    assert [(t.number, t.state, t.device_seconds) for t in adopted] == [
        (going.number, TrialState.INTERRUPTED, 20.0),
        (bare.number, TrialState.INTERRUPTED, 0.0),
    ]
    assert store.trial(study.id, waiting.number).reason == DIED
    assert store.adopt_trials(study.id, "its driver died") == []


def test_a_trial_that_outlasts_its_reservation_holds_what_it_has_used(
    store: Store, study: StudyRecord, trial: TrialRecord
) -> None:
    """So no other trial is begun on device-time that is gone already."""
    one = MeasurementRecord(1000, 3.0, 0.1, 70.0)
    store.add_measurements(trial.id, 0, [one], used_seconds=70.0)
    assert store.ledger(study.id).held_seconds == 70.0
    store.add_measurements(trial.id, 1, [one], used_seconds=65.0)
    assert store.ledger(study.id).held_seconds == 70.0


def test_what_has_a_reason_is_found_alone(
    store: Store, study: StudyRecord, new_trial: NewTrial, trial: TrialRecord
) -> None:
    """Trials by their own, or by role; lines of the ledger by why the attempt ended early."""
    other = store.add_trial(study.id, replace(new_trial, role=Role.CONFIRMATION))
    store.interrupt_trial(trial.id, 12.5, DIED)
    assert [t.number for t in store.trials(study.id, with_reason=True)] == [trial.number]
    assert [t.number for t in store.trials(study.id, role=Role.CONFIRMATION)] == [other.number]
    store.resume_trial(trial.id, 40.0)
    assert store.trials(study.id, with_reason=True) == []
    (lost,) = store.charges(study.id, with_reason=True)
    assert (lost.trial_number, lost.attempt, lost.reason) == (trial.number, 0, DIED)
    assert store.ledger(study.id).charges == len(store.charges(study.id)) == 3
