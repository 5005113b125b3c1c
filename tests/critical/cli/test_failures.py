"""What went wrong, in lines: few trials have one each, many that say the same share one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from critical.cli.failures import FEW, MOST_REASONS, failures, lost_attempts, unsaved
from critical.running.search import Search
from critical.storage.records import ChargeRecord, TrialRecord, TrialState

REASON = "ValueError: x (own.py, line 3)"
Trial = Callable[..., TrialRecord]


@pytest.fixture
def trial(finished: Search) -> Trial:
    """A trial of a number that ended in a state, for a reason, after some attempts."""
    first = finished.history.trials[0]

    def made(
        number: int,
        reason: str | None = REASON,
        state: TrialState = TrialState.FAILED,
        attempts: int = 1,
    ) -> TrialRecord:
        return replace(first, number=number, reason=reason, state=state, attempts=attempts)

    return made


def attempt(number: int, place: int, reason: str | None) -> ChargeRecord:
    """A line of the ledger, of 12.5 device-seconds."""
    now = datetime.now(UTC)
    return ChargeRecord(number, "search", 60.0, 12.5, now, now, place, reason)


def test_few_trials_have_a_line_each(trial: Trial) -> None:
    """Whatever became of them; those without a reason have none."""
    waits = trial(7, "its driver died", TrialState.INTERRUPTED)
    assert failures([trial(3), waits, trial(8, None)]) == [
        f"trial 3 (width 32, γ 0.500) failed: {REASON}",
        "trial 7 (width 32, γ 0.500) interrupted: its driver died",
    ]


def test_many_of_one_reason_share_a_line(trial: Trial) -> None:
    """It has their number and the latest of them; another state is another line."""
    trials = [trial(n) for n in range(801, 813)]
    stopped = [trial(n, state=TrialState.STOPPED) for n in range(900, 900 + FEW + 1)]
    assert failures([*trials, *stopped]) == [
        f"12 trials failed: {REASON}; the last: trials 810, 811 and 812",
        f"4 trials stopped: {REASON}; the last: trials 901, 902 and 903",
    ]


def test_of_very_many_reasons_not_all_are_told(trial: Trial) -> None:
    """Those of the latest trials are, and how many more there are."""
    first, *others = failures(trial(n, f"reason {n}") for n in range(MOST_REASONS + 5))
    assert first == "5 more for other reasons: --json has them all"
    assert len(others) == MOST_REASONS
    assert others[-1].endswith(f"reason {MOST_REASONS + 4}")


def test_a_trial_that_went_on_says_why_its_earlier_attempts_ended(trial: Trial) -> None:
    """The last attempt of one that waits is the trial's own reason, which is told already."""
    charges = [
        attempt(4, 0, "its worker process died"),
        attempt(4, 1, None),
        attempt(7, 0, "its worker process died"),
        attempt(7, 1, "its driver died"),
    ]
    waits = trial(7, "its driver died", TrialState.INTERRUPTED, attempts=2)
    assert lost_attempts(charges, [waits]) == [
        "an attempt at trial 4 ended after 12.5 device-seconds: its worker process died",
        "an attempt at trial 7 ended after 12.5 device-seconds: its worker process died",
    ]


def test_many_attempts_that_ended_alike_share_a_line() -> None:
    """As failures do."""
    charges = [attempt(n, 0, "its driver died") for n in range(5)]
    assert lost_attempts(charges, []) == [
        "5 attempts ended before their trials did: its driver died; the last: trials 2, 3 and 4"
    ]


def test_what_could_not_be_saved_is_said() -> None:
    """How often, too; of many, how many."""
    assert unsaved({7: 1.0, 9: 3.0}) == [
        "trial 7 could not be checkpointed",
        "trial 9 could not be checkpointed, 3 times",
    ]
    assert unsaved(dict.fromkeys(range(10), 1.0)) == [
        "10 trials could not be checkpointed; the last: trials 7, 8 and 9"
    ]
