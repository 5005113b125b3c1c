"""Repetition: which of a study's trials is run again next, and which is which's repetition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from critical.plan import Arm, Plan
from critical.repetition import next_repetition, original_of, pair
from critical.running.agenda import Intent, Signal
from critical.storage.records import Role, StudyRecord, StudyState, TrialRecord, TrialState
from critical.trials import Scale

ARMS = tuple(Arm(Scale(width, 2, 2, 1000), "target", 1.0) for width in (32, 64))
PLAN = Plan(ARMS, (1e-3, 2e-3), (0,), 0, 0.5, "cpu", 0, 6.0, ())
NOW = datetime(2026, 1, 1, tzinfo=UTC)
STUDY = StudyRecord(
    id=1, name="s", state=StudyState.FINISHED, reason=None, budget_unit="trials", budget_total=9,
    rule="balance", interval=(0.3, 1.2), reference_gamma=0.5, target_width=None, target_depth=None,
    options={}, plan={}, target=None, created_at=NOW,
)  # fmt: skip
Trial = Callable[..., TrialRecord]


@pytest.fixture
def trial() -> Trial:
    """Make a trial of the next number."""
    numbers = iter(range(10**6))

    def make(gamma: float, state: TrialState = TrialState.COMPLETED, **changed: Any) -> TrialRecord:
        number = next(numbers)
        made = TrialRecord(
            id=number, number=number, arm="w32/target", optuna_number=None, role=Role.SEARCH,
            gamma=gamma, learning_rate=1e-3, width=32, depth=2, heads=2, tokens=1000, seed=0,
            settings="target", state=state, reason=None, reasoning=None, log2_efficiency=None,
            attempts=1, reserved_seconds=1.0, device_seconds=1.0, started_at=NOW, finished_at=NOW,
        )  # fmt: skip
        return replace(made, **changed)

    return make


def test_what_ended_with_a_result_is_run_again(trial: Trial) -> None:
    """Completed, diverged and stopped trials; failed, running and interrupted ones are not."""
    states = list(TrialState)
    trials = [trial(0.1 * number, state) for number, state in enumerate(states)]
    assert {one.state for one in original_of(STUDY, trials).trials} == {
        TrialState.COMPLETED, TrialState.DIVERGED, TrialState.STOPPED,
    }  # fmt: skip


def test_each_is_begun_once_in_number_order(trial: Trial) -> None:
    """An intent has the arm, role, γ, learning rate and seed of the stored row."""
    originals = [
        trial(0.5, role=Role.REFERENCE, seed=7),
        trial(0.61803398875, learning_rate=2e-3, arm="w64/target"),
        trial(0.7, role=Role.CONFIRMATION, seed=1000, learning_rate=None),
    ]
    begun: list[TrialRecord] = []
    intents = []
    while isinstance(found := next_repetition(PLAN, originals, begun), Intent):
        intents.append(found)
        begun.append(
            trial(
                found.gamma, TrialState.RUNNING, arm=found.arm.name, role=found.role,
                learning_rate=found.learning_rate, seed=found.seed,
            )
        )  # fmt: skip
    assert intents == [
        Intent(ARMS[0], Role.REFERENCE, 7, 0.5, 1e-3),
        Intent(ARMS[1], Role.SEARCH, 0, 0.61803398875, 2e-3),
        Intent(ARMS[0], Role.CONFIRMATION, 1000, 0.7, None),
    ]
    assert found is Signal.WAIT
    ended = [replace(one, state=TrialState.COMPLETED) for one in begun]
    assert next_repetition(PLAN, originals, ended) is Signal.DONE


def test_in_whatever_order_they_end_nothing_is_begun_twice(trial: Trial) -> None:
    """Several run at once, some end early, one is interrupted: only what is missing is next."""
    originals = [trial(gamma) for gamma in (0.4, 0.5, 0.6, 0.7)]
    mine = [trial(0.7), trial(0.5, TrialState.INTERRUPTED), trial(0.4, TrialState.DIVERGED)]
    assert next_repetition(PLAN, originals, mine) == Intent(ARMS[0], Role.SEARCH, 0, 0.6, 1e-3)


def test_what_fails_is_tried_twice_and_then_given_up(trial: Trial) -> None:
    """The others are run all the same."""
    originals = [trial(0.4), trial(0.5)]
    failed = [trial(0.4, TrialState.FAILED)]
    again = next_repetition(PLAN, originals, failed)
    assert isinstance(again, Intent)
    assert again.gamma == 0.4
    failed.append(trial(0.4, TrialState.FAILED))
    other = next_repetition(PLAN, originals, failed)
    assert isinstance(other, Intent)
    assert other.gamma == 0.5
    assert next_repetition(PLAN, originals, [*failed, trial(0.5)]) is Signal.DONE


def test_what_was_proposed_twice_is_run_twice(trial: Trial) -> None:
    """A sampler may have come to the edge of the interval more than once, with the same seed."""
    originals = [trial(0.3), trial(0.3)]
    mine = [trial(0.3)]
    assert isinstance(next_repetition(PLAN, originals, mine), Intent)
    assert pair(originals, mine) == [(originals[0], mine[0]), (originals[1], None)]
    mine.append(trial(0.3))
    assert next_repetition(PLAN, originals, mine) is Signal.DONE
    assert pair(originals, mine) == list(zip(originals, mine, strict=True))
    given_up = [trial(0.3, TrialState.FAILED), trial(0.3, TrialState.FAILED)]
    assert isinstance(next_repetition(PLAN, originals, given_up), Intent)
    assert next_repetition(PLAN, originals, [*given_up, trial(0.3)]) is Signal.DONE


def test_pairs_are_found_by_what_they_ran_and_not_by_number(trial: Trial) -> None:
    """A repetition that failed is none, and what has none stands alone."""
    originals = [trial(0.4), trial(0.5), trial(0.6)]
    failed, late, early = trial(0.4, TrialState.FAILED), trial(0.6), trial(0.4)
    assert pair(originals, [failed, late, early]) == [
        (originals[0], early),
        (originals[1], None),
        (originals[2], late),
    ]
