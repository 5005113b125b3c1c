"""Which trials become runs, and what their measurements become."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from critical.inference.evidence import curve_of, curve_of_columns, runs_of
from critical.inference.objectives import Curve
from critical.storage.records import CurveRecord, MeasurementRecord, Role, TrialRecord, TrialState


def trial(number: int, state: TrialState = TrialState.COMPLETED, gamma: float = 0.7) -> TrialRecord:
    """A search trial at width 64."""
    return TrialRecord(
        id=100 + number,
        number=number,
        arm="w64/target",
        optuna_number=None,
        role=Role.SEARCH,
        gamma=gamma,
        learning_rate=1e-3,
        width=64,
        depth=2,
        heads=2,
        tokens=1000,
        seed=3,
        settings="target",
        state=state,
        reason=None,
        reasoning=None,
        log2_efficiency=None,
        attempts=1,
        reserved_seconds=1.0,
        device_seconds=1.0,
        started_at=datetime.now(UTC),
        finished_at=None,
    )


def measured(tokens: int, loss: float = 1.0, **extras: float) -> MeasurementRecord:
    """One evaluation."""
    return MeasurementRecord(tokens, loss, 0.5, 1.0, extras)


def test_only_completed_and_diverged_trials_are_evidence() -> None:
    """Running, stopped and failed trials have no final R and ρ."""
    trials = [trial(number, state) for number, state in enumerate(TrialState)]
    found = runs_of(trials, {t.number: [measured(1), measured(2)] for t in trials}, 0.5)
    assert [one.diverged for one in found] == [False, True]


def test_runs_carry_what_the_trial_was_given() -> None:
    """γ, learning rate, width, settings and seed come from the trial; order is by number."""
    found = runs_of([trial(1, gamma=0.8), trial(0)], {0: [measured(1)], 1: [measured(1)]}, 0.5)
    assert [one.gamma for one in found] == [0.7, 0.8]
    assert (found[0].learning_rate, found[0].width, found[0].settings) == (1e-3, 64, "target")
    assert (found[0].seed, found[0].reference) == (3, False)


def test_a_run_at_the_references_gamma_is_a_reference_whatever_its_role() -> None:
    """A confirmation's run at the reference pairs with its own fresh seed."""
    confirmation = replace(trial(0, gamma=0.5), role=Role.CONFIRMATION)
    reference = replace(trial(1, gamma=0.55), role=Role.REFERENCE)
    found = runs_of([confirmation, reference, trial(2)], {n: [measured(1)] for n in range(3)}, 0.5)
    assert [one.reference for one in found] == [True, True, False]


def test_measurements_are_put_in_token_order() -> None:
    """A late report of an early evaluation does not reorder the curve."""
    rows = [measured(n, 1 / n) for n in range(1, 9)]
    shuffled = random.Random(0).sample(rows, len(rows))
    np.testing.assert_array_equal(curve_of(shuffled).tokens, np.arange(1.0, 9))
    np.testing.assert_array_equal(curve_of(shuffled).loss, 1 / np.arange(1.0, 9))


def test_trained_accuracy_is_known_only_where_every_measurement_has_it() -> None:
    """A gap leaves no half-known curve."""
    whole = [measured(1, trained_accuracy=0.2), measured(2, trained_accuracy=0.9)]
    accuracy = curve_of(whole).trained_accuracy
    assert accuracy is not None
    assert accuracy.tolist() == [0.2, 0.9]
    assert curve_of([*whole, measured(3)]).trained_accuracy is None
    assert curve_of([]).trained_accuracy is None


def test_numbers_that_are_not_finite_count_as_divergence() -> None:
    """A NaN loss makes a completed trial a diverged one."""
    found = runs_of([trial(0)], {0: [measured(1), measured(2, float("nan"))]}, 0.5)
    assert [one.diverged for one in found] == [True]


def test_a_completed_trial_without_measurements_is_left_out_and_a_diverged_one_is_not() -> None:
    """Divergence is a result without a curve; completion is not."""
    found = runs_of([trial(0), trial(1, TrialState.DIVERGED)], {}, 0.5)
    assert [one.diverged for one in found] == [True]


def test_columns_become_the_same_curve() -> None:
    """In token order; an accuracy that one measurement lacks is not known."""

    def columns(rows: list[MeasurementRecord]) -> CurveRecord:
        found = [
            (one.tokens, one.loss, one.reasoning, one.extras.get("trained_accuracy", np.nan))
            for one in rows
        ]
        return CurveRecord(*np.array(found, dtype=np.float64).T)

    def same(one: Curve, other: Curve) -> None:
        np.testing.assert_array_equal(one.tokens, other.tokens)
        np.testing.assert_array_equal(one.loss, other.loss)
        np.testing.assert_array_equal(one.reasoning, other.reasoning)
        np.testing.assert_equal(one.trained_accuracy, other.trained_accuracy)

    whole = [measured(n, 1 / n, trained_accuracy=n / 10) for n in (3, 1, 2)]
    partly = [*whole, measured(4)]
    same(curve_of_columns(columns(whole)), curve_of(whole))
    same(curve_of_columns(columns(partly)), curve_of(partly))
    same(curve_of_columns(None), curve_of([]))
