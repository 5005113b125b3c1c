"""The recommendation: γ* and its interval as one JSON document, at the target or another width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from critical.answers import Answer, answers_of
from critical.conditions import disagreement
from critical.errors import OptionError, RunError
from critical.inference.confirm import Gain
from critical.storage.agreement import SETTINGS_DISAGREE, agree
from critical.storage.records import (
    GammaStar,
    PosteriorRecord,
    ScalePosterior,
    StudyRecord,
    TrialCounts,
)
from critical.storage.store import Store
from critical.targets.target import Target

_NO_GAMMA: Mapping[str, Any] = {
    **dict.fromkeys(("median", "low", "high", "plateau")),
    "verdict": SETTINGS_DISAGREE,
}
"""What stands for γ* where the settings have none in common."""


def recommend(
    store: Store, study: StudyRecord, at: Target | int | None = None, settings: str | None = None
) -> dict[str, Any]:
    """Build the recommendation of a study from what the store holds. Fits nothing.

    Args:
        store: The study's store.
        study: The study.
        at: Another model than the study's own target, or a bare width; None for its own.
        settings: By which of those that were searched; None for the first, which is ``target``
            wherever that was searched.

    Returns:
        The JSON of ``critical search`` and ``critical recommend``. Of ``headline``, the settings
        that it is by: ``gamma``, ``share``, ``per_scale`` and ``gain``; ``exploratory``, whether
        no scale has learned, so that γ* is the widest proxy's and speaks for no target;
        ``conditions``, sentences on what it rests on; and, with a target, ``matrices``. Of each of
        the settings the same, in ``settings``. ``agreement`` is whether their γ* are within 0.05,
        null where fewer than two can be compared; where they are not and ``settings`` was not
        given, the verdict is ``settings disagree`` and there is no headline: ``headline``,
        ``share``, ``matrices`` and the numbers of ``gamma`` are null, and ``per_scale`` and
        ``gain`` are those of the first of ``settings``. Further ``study``, ``state``, ``rule``,
        ``target``, ``reference``, ``budget`` and ``trials``.

    Raises:
        OptionError: The settings were not searched.
        RunError: No trial has been completed, so that nothing is known yet.
    """
    posterior = store.latest_posterior(study.id)
    if posterior is None or not posterior.scales:
        raise RunError(_nothing_known(study, store.counts(study.id)))
    model = at if isinstance(at, Target) else None
    if at is None and study.target is not None:
        model = Target.from_document(study.target)
    width = at.width if isinstance(at, Target) else at
    answers = answers_of(store, study, posterior, width, model)
    chosen = _chosen(study, posterior, answers, settings)
    medians = {one.settings: one.star.median for one in answers if one.found is not None}
    agreement = agree(list(medians.values()))
    undecided = agreement is False and settings is None
    conditions = chosen.conditions
    if agreement is False:
        conditions = [disagreement(study.name, medians, settings), *conditions]
    elif settings is None and chosen.settings != posterior.settings:
        conditions = [f"nothing is known yet under settings {posterior.settings}", *conditions]
    if chosen.found is None:
        model = None
    counts = store.counts(study.id)
    return {
        "study": study.name,
        "state": study.state.value,
        "rule": study.rule,
        "headline": None if undecided else chosen.settings,
        "gamma": dict(_NO_GAMMA) if undecided else _gamma(chosen.star),
        "share": None if undecided else chosen.star.share,
        "exploratory": chosen.found is None,
        "target": _target(model, chosen.width),
        "per_scale": [_scale(scale) for scale in chosen.scales],
        "reference": {"gamma": study.reference_gamma},
        "gain": _plain(chosen.gain),
        "agreement": agreement,
        "settings": [_settings(one, study) for one in answers],
        "budget": _budget(store, study, counts),
        "trials": asdict(counts),
        "conditions": conditions,
        "matrices": None if model is None or undecided else matrix_stds(model, chosen.star.median),
    }


def matrix_stds(target: Target, gamma: float) -> list[dict[str, Any]]:
    """Return the recommended std of every matrix of a model, as JSON.

    Raises:
        TargetError: The model's matrices are not known.
    """
    from critical.targets.matrices import matrices

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


def _chosen(
    study: StudyRecord,
    posterior: PosteriorRecord,
    answers: Sequence[Answer],
    settings: str | None,
) -> Answer:
    if settings is None:
        return answers[0]
    found = next((one for one in answers if one.settings == settings), None)
    if found is not None:
        return found
    searched = [one.settings for one in posterior.answers]
    if settings in searched:
        raise RunError(
            f"study {study.name!r} knows nothing of γ* under --settings {settings} yet: run "
            "critical search again to go on"
        )
    raise OptionError(
        f"--settings {settings} were not searched by study {study.name!r}: write "
        f"{' or '.join(searched)}"
    )


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


def _settings(answer: Answer, study: StudyRecord) -> dict[str, Any]:
    return {
        "settings": answer.settings,
        "width": answer.width,
        "gamma": _gamma(answer.star),
        "share": answer.star.share,
        "exploratory": answer.found is None,
        "per_scale": [_scale(scale) for scale in answer.scales],
        "gain": _plain(answer.gain),
        "reference": {"gamma": study.reference_gamma},
        "conditions": answer.conditions,
    }


def _plain(gain: Gain | None) -> dict[str, Any] | None:
    """Return a gain as JSON knows it: with lists for its intervals."""
    if gain is None:
        return None
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
