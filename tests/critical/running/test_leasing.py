"""Leasing: who holds a study, and what a study is doing that nobody holds any more."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from critical.running.leasing import as_it_is, holding, is_gone, this_process
from critical.running.search import Search
from critical.storage.records import LeaseRecord, Process, StudyRecord, StudyState
from critical.storage.store import Store

DIED = (StudyState.INTERRUPTED, "its driver died")
RUNNING = (StudyState.RUNNING, None)


@pytest.fixture
def study(begin: Callable[..., Search]) -> StudyRecord:
    """A study in the store, running."""
    return begin().history.study


def state_of(study: StudyRecord, lease: LeaseRecord | None) -> tuple[StudyState, str | None]:
    """What a study is shown to be doing, and why."""
    shown = as_it_is(study, lease)
    return shown.state, shown.reason


def another_process() -> tuple[subprocess.Popen[bytes], Process]:
    """Start a process that waits, and describe it as its driver would."""
    program = "from critical.running.leasing import this_process as t\np = t()\n"
    program += "print(p.pid, p.started, flush=True)\ninput()"
    started = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert started.stdout is not None
    pid, when = started.stdout.readline().decode().split()
    return started, replace(this_process(), pid=int(pid), started=when)


def test_a_study_that_its_driver_holds_is_running(store: Store, study: StudyRecord) -> None:
    """Once it has been left without a word, nobody holds it and it is interrupted."""
    with holding(store, study, {}):
        assert state_of(study, store.lease(study.id)) == RUNNING
    assert state_of(study, store.lease(study.id)) == DIED


@pytest.mark.skipif(not this_process().machine, reason="processes cannot be looked for here")
def test_a_study_whose_driver_was_killed_is_interrupted(store: Store, study: StudyRecord) -> None:
    """At once, though its lease lasts on."""
    driver, process = another_process()
    try:
        store.acquire(study.id, process)
        assert not is_gone(process)
        assert state_of(study, store.lease(study.id)) == RUNNING
    finally:
        driver.kill()
        driver.communicate()
    lease = store.lease(study.id)
    assert lease is not None
    assert lease.expires_in > 0
    assert is_gone(process)
    assert state_of(study, lease) == DIED


def test_a_driver_of_another_machine_is_gone_once_its_lease_has_expired(
    store: Store, study: StudyRecord
) -> None:
    """Until then nothing is known of it."""
    lease = store.acquire(study.id, Process("elsewhere.example", "boot", 1, "2"))
    assert state_of(study, lease) == RUNNING
    assert state_of(study, replace(lease, expires_in=-0.1)) == DIED


@pytest.mark.parametrize("state", [s for s in StudyState if s is not StudyState.RUNNING])
def test_what_a_driver_said_in_the_end_stays(study: StudyRecord, state: StudyState) -> None:
    """Finished, failed and interrupted studies need no driver."""
    ended = replace(study, state=state, reason="said")
    assert state_of(ended, None) == (state, "said")
