"""The recommendation: γ* and its interval as one JSON document, at the target or another width."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from critical.confirm import Gain, measured_gain
from critical.errors import RunError
from critical.evidence import runs_of
from critical.extrapolation import gamma_at
from critical.identity import is_algorithmic
from critical.objectives import solved_loss
from critical.plan import Plan
from critical.storage.records import (
    GammaStar,
    PosteriorRecord,
    Role,
    ScalePosterior,
    StudyRecord,
    TargetPosterior,
    TrialCounts,
)
from critical.storage.store import Store
from critical.target import Target

_NO_REASONING = 0.005
"""R, everywhere below which nothing has been learned of reasoning."""


def recommend(store: Store, study: StudyRecord, at: Target | int | None = None) -> dict[str, Any]:
    """Build the recommendation of a study from what the store holds. Fits nothing.

    Args:
        store: The study's store.
        study: The study.
        at: Another model than the study's own target, or a bare width; None for its own.

    Returns:
        The JSON of ``critical search`` and ``critical recommend``: ``study``, ``rule``, ``gamma``,
        ``share``, ``target``, ``per_scale``, ``reference``, ``gain``, ``budget``, ``trials``;
        ``exploratory``, whether no scale has learned, so that γ* is the widest proxy's and speaks
        for no target; ``conditions``, sentences on what it rests on; and, with a target,
        ``matrices``.

    Raises:
        RunError: No trial has been completed, so that nothing is known yet.
    """
    posterior = store.latest_posterior(study.id)
    if posterior is None or not posterior.scales:
        raise RunError(_nothing_known(study, store.counts(study.id)))
    model = at if isinstance(at, Target) else None
    if at is None and study.target is not None:
        model = Target.from_document(study.target)
    width = at.width if isinstance(at, Target) else at
    found = posterior.target
    if width is not None and (found is None or width != found.width):
        found = _at(posterior, width, study)
    widest = max(posterior.scales, key=lambda scale: (scale.learned, scale.width))
    if found is None:
        model, width = None, widest.width
    star = found.gamma_star if found is not None else widest.gamma_star
    counts = store.counts(study.id)
    gain = _gain(store, study)
    return {
        "study": study.name,
        "state": study.state.value,
        "rule": study.rule,
        "gamma": _gamma(star),
        "share": star.share,
        "exploratory": found is None,
        "target": _target(model, width or widest.width),
        "per_scale": [_scale(scale) for scale in posterior.scales],
        "reference": {"gamma": study.reference_gamma},
        "gain": None if gain is None else _plain(gain),
        "budget": _budget(store, study, counts),
        "trials": asdict(counts),
        "conditions": _conditions(posterior, found, study, gain),
        "matrices": None if model is None else matrix_stds(model, star.median),
    }


def matrix_stds(target: Target, gamma: float) -> list[dict[str, Any]]:
    """Return the recommended std of every matrix of a model, as JSON.

    Raises:
        TargetError: The model's matrices are not known.
    """
    from critical.matrices import matrices

    return [
        {
            "name": matrix.name,
            "count": matrix.count,
            "shape": list(matrix.shape),
            "fan_in": matrix.fan_in,
            "std": matrix.wanted_std(gamma),
            "now": matrix.configured_std,
        }
        for matrix in matrices(target)
    ]


def _nothing_known(study: StudyRecord, counts: TrialCounts) -> str:
    start = f"study {study.name!r} knows nothing of γ* yet"
    if counts.diverged and not counts.completed:
        return f"{start}, every trial has diverged: search lower rates with --lr"
    return (
        f"{start}, too few trials have been completed: run critical search again to go on, with a "
        "bigger --budget if this one is spent"
    )


def _at(posterior: PosteriorRecord, width: int, study: StudyRecord) -> TargetPosterior | None:
    rng = np.random.default_rng(width)
    return gamma_at(posterior, width, study.interval, rng)


def _gamma(star: GammaStar) -> dict[str, Any]:
    return {
        "median": star.median,
        "low": star.low,
        "high": star.high,
        "plateau": list(star.plateau),
        "verdict": star.verdict,
    }


def _target(model: Target | None, width: int) -> dict[str, Any]:
    if model is None:
        return {"width": width, "depth": None, "model_type": None}
    return {"width": model.width, "depth": model.depth, "model_type": model.model_type}


def _scale(scale: ScalePosterior) -> dict[str, Any]:
    return {
        "width": scale.width,
        "settings": scale.settings,
        "learned": scale.learned,
        "trials": scale.trials,
        "better": scale.better,
        **_gamma(scale.gamma_star),
    }


def _gain(store: Store, study: StudyRecord) -> Gain | None:
    confirmation = store.trials(study.id, role=Role.CONFIRMATION)
    curves = {t.number: store.trial_measurements(t.id) for t in confirmation}
    runs = runs_of(confirmation, curves, study.reference_gamma)
    return measured_gain(runs, solved_loss(runs) if is_algorithmic(study) else None)


def _plain(gain: Gain) -> dict[str, Any]:
    """Return a gain as JSON knows it: with lists for its intervals."""
    document = asdict(gain)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in document.items()}


def _budget(store: Store, study: StudyRecord, counts: TrialCounts) -> dict[str, Any]:
    """Amounts are device-seconds, or trials where those are the unit."""
    if study.budget_unit == "trials":
        spent = float(counts.spent)
    else:
        spent = store.ledger(study.id).spent_seconds
    from critical.budget import unit_size

    size = unit_size(study.budget_unit)
    return {
        "unit": study.budget_unit,
        "total": study.budget_total / size,
        "spent": spent / size,
    }


def _conditions(
    posterior: PosteriorRecord,
    found: TargetPosterior | None,
    study: StudyRecord,
    gain: Gain | None,
) -> list[str]:
    """Say in sentences what the recommendation rests on."""
    said = []
    rate = posterior.conditional_on_learning_rate
    if rate is not None:
        said.append(f"conditional on learning rate {rate:g}")
    if max(max(scale.reasoning.median) for scale in posterior.scales) < _NO_REASONING:
        said.append("R is near 0 at every γ: γ* rests on efficiency alone")
    exploratory = [str(scale.width) for scale in posterior.scales if not scale.learned]
    if exploratory:
        said.append(
            f"exploratory at width {', '.join(exploratory)}: the reference has not learned its "
            "trained items there"
        )
    if found is None:
        said.append(
            "no scale has learned, so nothing is extrapolated: give a new --study a bigger --budget"
        )
    elif found.prior_dominated:
        low, high = found.doubled
        said.append(
            f"prior-dominated at width {found.width}: with twice the slope's sd the interval is "
            f"{low:.2f}–{high:.2f}"
        )
    if found is not None:
        said += _skew(found.gamma_star)
    if found is not None and found.truncated > 0.01:
        said.append(f"{found.truncated:.0%} of draws lay outside the interval and were truncated")
    if gain is None and Plan.from_document(study.plan).pairs:
        said.append("not confirmed on fresh seeds yet")
    return said


def _skew(star: GammaStar) -> list[str]:
    """Say where the plateau lies if γ*'s median is not in it."""
    low, high = star.plateau
    if low <= star.median <= high:
        return []
    side, cheaper = ("above", "large") if star.median < low else ("below", "small")
    return [
        f"the plateau {low:.2f}–{high:.2f} lies {side} the median of γ*: a γ too {cheaper} is "
        "expected to cost less share than one too far the other way"
    ]
