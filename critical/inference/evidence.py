"""From stored trials and measurements to the runs that the posterior is computed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from critical.inference.objectives import Curve, Run
from critical.storage.records import (
    EVIDENCE,
    CurveRecord,
    MeasurementRecord,
    Role,
    TrialRecord,
    TrialState,
)

TRAINED_ACCURACY = "trained_accuracy"
"""The one extra that is evidence."""
_SAME_GAMMA = 1e-9


def curve_of(measurements: Sequence[MeasurementRecord]) -> Curve:
    """Put one trial's measurements into arrays, in token order.

    ``trained_accuracy`` is taken where every measurement has it.
    """
    ordered = sorted(measurements, key=lambda one: one.tokens)
    accuracies = [one.extras.get(TRAINED_ACCURACY) for one in ordered]
    known = [value for value in accuracies if value is not None]
    complete = bool(ordered) and len(known) == len(ordered)
    return Curve(
        tokens=np.array([one.tokens for one in ordered], dtype=np.float64),
        loss=np.array([one.loss for one in ordered], dtype=np.float64),
        reasoning=np.array([one.reasoning for one in ordered], dtype=np.float64),
        trained_accuracy=np.array(known, dtype=np.float64) if complete else None,
    )


def curve_of_columns(columns: CurveRecord | None) -> Curve:
    """Do what ``curve_of`` does, given the measurements as columns; None where there are none."""
    if columns is None:
        return curve_of(())
    order = np.argsort(columns.tokens, kind="stable")
    accuracy = columns.extra[order]
    return Curve(
        tokens=columns.tokens[order],
        loss=columns.loss[order],
        reasoning=columns.reasoning[order],
        trained_accuracy=None if np.isnan(accuracy).any() else accuracy,
    )


def runs_of(
    trials: Sequence[TrialRecord],
    measurements: Mapping[int, Sequence[MeasurementRecord]],
    reference_gamma: float,
) -> list[Run]:
    """Gather the completed and diverged trials with their curves.

    Any run at the reference's γ counts as a reference, whatever it was run for: a confirmation's
    fresh seeds then pair with their own. A completed trial whose numbers are not all finite
    counts as diverged; a completed one without measurements is left out.

    Args:
        trials: Of one study, in any order and any state.
        measurements: By trial number.
        reference_gamma: γ of the reference.

    Returns:
        Runs in order of trial number.
    """
    ordered = sorted(trials, key=lambda one: one.number)
    found = (
        run_of(trial, curve_of(measurements.get(trial.number, ())), reference_gamma)
        for trial in ordered
    )
    return [run for run in found if run is not None]


def is_reference(trial: TrialRecord, reference_gamma: float) -> bool:
    """Whether a trial counts as a reference: by its role, or by its γ."""
    at_reference = abs(trial.gamma - reference_gamma) < _SAME_GAMMA
    return trial.role is Role.REFERENCE or at_reference


def run_of(trial: TrialRecord, curve: Curve, reference_gamma: float) -> Run | None:
    """Return what one trial is to the posterior, as ``runs_of`` does; None where it is nothing."""
    diverged = trial.state is TrialState.DIVERGED or not _finite(curve)
    if trial.state not in EVIDENCE or not (diverged or curve.tokens.size):
        return None
    return Run(
        gamma=trial.gamma,
        learning_rate=trial.learning_rate,
        width=trial.width,
        settings=trial.settings,
        seed=trial.seed,
        reference=is_reference(trial, reference_gamma),
        curve=curve,
        diverged=diverged,
    )


def _finite(curve: Curve) -> bool:
    return bool(np.isfinite(curve.loss).all() and np.isfinite(curve.reasoning).all())
