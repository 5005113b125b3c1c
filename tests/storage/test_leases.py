"""One driver at a time writes to a study, on each database."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from critical.storage.errors import LeaseLost, StudyBusy
from critical.storage.records import (
    LeaseRecord,
    MeasurementRecord,
    NewStudy,
    NewTrial,
    Process,
    StudyRecord,
    StudyState,
    TrialOutcome,
    TrialState,
)
from critical.storage.store import Store

FIRST = Process("first.example", "boot-1", 4242, "77")
SECOND = Process("second.example", "boot-2", 4343, "88")


@pytest.fixture
def study(store: Store, new_study: NewStudy) -> StudyRecord:
    """A study in the store."""
    return store.create_study(new_study)


def test_a_second_driver_is_refused(store: Store, study: StudyRecord, url: str) -> None:
    """The sentence names who holds the study, since when, and for how long."""
    store.acquire(study.id, FIRST)
    with (
        Store.open(url) as other,
        pytest.raises(
            StudyBusy,
            match=r"'llama-d256-L4' is being searched by process 4242 on first.example since "
            r"20.* UTC: .*its lease ends in (59|60) s",
        ),
    ):
        other.acquire(study.id, SECOND)


def test_a_released_study_is_free(store: Store, study: StudyRecord, url: str) -> None:
    """Each driver's lease stays on record with its environment."""
    lease = store.acquire(study.id, FIRST, environment={"python": "3.11"})
    store.release(lease)
    assert store.lease(study.id) is None
    with Store.open(url) as other:
        other.acquire(study.id, SECOND, environment={"python": "3.12"})
    old, new = store.leases(study.id)
    assert (old.process, old.environment) == (FIRST, {"python": "3.11"})
    assert old.released_at is not None
    assert (new.process, new.released_at) == (SECOND, None)


def test_a_lease_that_is_not_renewed_is_taken_over(
    store: Store, study: StudyRecord, url: str
) -> None:
    """By the database's clock; one that is renewed lasts."""
    lease = store.acquire(study.id, FIRST, seconds=0.2)
    store.renew(lease, 60.0)
    time.sleep(0.25)
    with Store.open(url) as other:
        with pytest.raises(StudyBusy):
            other.acquire(study.id, SECOND)
        store.renew(lease, 0.0)
        other.acquire(study.id, SECOND)
    with pytest.raises(LeaseLost, match="another driver has taken this search over"):
        store.renew(lease)


def test_the_lease_of_a_process_that_is_gone_is_taken_over_at_once(
    store: Store, study: StudyRecord, url: str
) -> None:
    """Whether it is gone is asked of the holder, and of nobody else."""
    store.acquire(study.id, FIRST)
    asked: list[Process] = []

    def is_gone(process: Process) -> bool:
        asked.append(process)
        return True

    with Store.open(url) as other:
        other.acquire(study.id, SECOND, is_gone=is_gone)
    assert asked == [FIRST]


def test_of_many_at_once_one_gets_the_lease(store: Store, study: StudyRecord) -> None:
    """The others are refused, not both let in and not failed on a constraint."""

    def attempt(number: int) -> LeaseRecord | None:
        try:
            return store.acquire(study.id, Process("host", "boot", number, "0"))
        except StudyBusy:
            return None

    with ThreadPoolExecutor(4) as pool:
        found = [lease for lease in pool.map(attempt, range(8)) if lease is not None]
    assert len(found) == 1


def test_whoever_was_taken_over_writes_nothing_more(
    store: Store, study: StudyRecord, url: str, new_trial: NewTrial
) -> None:
    """Every write of the old driver fails, in the transaction that would have written."""
    lease = store.acquire(study.id, FIRST)
    trial = store.add_trial(study.id, new_trial)
    with Store.open(url) as other:
        other.acquire(study.id, SECOND, is_gone=lambda _: True)
        other.adopt_trials(study.id, "its driver died")
        one = [MeasurementRecord(1000, 3.0, 0.1, 10.0)]
        ended = TrialOutcome(TrialState.COMPLETED, 1.0)
        writes: list[Callable[[], object]] = [
            lambda: store.add_trial(study.id, new_trial),
            lambda: store.add_measurements(trial.id, 0, one),
            lambda: store.finish_trial(trial.id, ended),
            lambda: store.interrupt_trial(trial.id, 1.0, "x"),
            lambda: store.resume_trial(trial.id, 1.0),
            lambda: store.adopt_trials(study.id, "x"),
            lambda: store.charge(study.id, "timing", 1.0),
            lambda: store.set_state(study.id, StudyState.FINISHED),
            lambda: store.extend_budget(study.id, 1e6),
            lambda: store.update_plan(study.id, {}),
            lambda: store.add_recommendation(study.id, {}),
        ]
        for write in writes:
            with pytest.raises(LeaseLost):
                write()
        (left,) = other.trials(study.id)
        assert (left.state, left.attempts) == (TrialState.INTERRUPTED, 1)
        assert other.study(study.name) == study
        store.release(lease)
        assert other.lease(study.id) is not None
