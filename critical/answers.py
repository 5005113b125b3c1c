"""What each of the settings says of γ* at a width, from what the store holds; fits nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from critical.conditions import conditions_of, relaxed_needs
from critical.identity import is_algorithmic, relaxed_gates
from critical.inference.confirm import Gain, measured_gain
from critical.inference.evidence import runs_of
from critical.inference.extrapolation import gamma_at
from critical.inference.objectives import solved_loss
from critical.plan import Plan
from critical.storage.records import (
    GammaStar,
    PosteriorRecord,
    Role,
    ScalePosterior,
    SettingsPosterior,
    StudyRecord,
    TargetPosterior,
    TrialRecord,
)
from critical.storage.store import Store
from critical.targets.target import Target


@dataclass(frozen=True, slots=True)
class Answer:
    """What one of the settings says at the width that is asked for.

    Attributes:
        settings: Their name.
        scales: Their scales, at least one.
        found: γ* at the target, or at the widest scale where none is given; None where no scale
            has learned.
        gain: What fresh seeds showed, if they have.
        conditions: On what it rests.
    """

    settings: str
    scales: tuple[ScalePosterior, ...]
    found: TargetPosterior | None
    gain: Gain | None
    conditions: list[str]

    @property
    def widest(self) -> ScalePosterior:
        """The scale that speaks where nothing is extrapolated."""
        return max(self.scales, key=lambda scale: (scale.learned, scale.width))

    @property
    def star(self) -> GammaStar:
        """γ* at the target, else at the widest scale."""
        return self.widest.gamma_star if self.found is None else self.found.gamma_star

    @property
    def width(self) -> int:
        """Where ``star`` is."""
        return self.widest.width if self.found is None else self.found.width


def answers_of(
    store: Store,
    study: StudyRecord,
    posterior: PosteriorRecord,
    width: int | None,
    model: Target | None = None,
) -> list[Answer]:
    """Return what each of the settings says, those left out of which no scale has a posterior.

    Args:
        store: The study's store.
        study: The study.
        posterior: The study's latest.
        width: Where γ* is asked for; None for the study's own target.
        model: What is to be trained, where more is known of it than its width.
    """
    gains = _gains(store, study)
    confirms = Plan.from_document(study.plan).pairs > 0
    answers = []
    for own in posterior.answers:
        scales = tuple(scale for scale in posterior.scales if scale.settings == own.settings)
        if not scales:
            continue
        found, gain = _at(posterior, own, width, study), gains.get(own.settings)
        unconfirmed = gain is None and confirms
        said = conditions_of(posterior, scales, found, unconfirmed=unconfirmed)
        said += _needs(own.settings, study, model)
        answers.append(Answer(own.settings, scales, found, gain, said))
    return answers


def _needs(settings: str, study: StudyRecord, model: Target | None) -> list[str]:
    """Say what the settings ask of the model that is to be trained."""
    gated = relaxed_gates(study) if settings == "relaxed" else None
    sentence = None if gated is None else relaxed_needs(model, gated=gated)
    return [] if sentence is None else [sentence]


def _at(
    posterior: PosteriorRecord, own: SettingsPosterior, width: int | None, study: StudyRecord
) -> TargetPosterior | None:
    if width is None or (own.target is not None and own.target.width == width):
        return own.target
    return gamma_at(posterior, width, study.interval, np.random.default_rng(width), own.settings)


def _gains(store: Store, study: StudyRecord) -> Mapping[str, Gain]:
    """The gain that was confirmed, by settings: each against its own references."""
    confirmation: dict[str, list[TrialRecord]] = defaultdict(list)
    for trial in store.trials(study.id, role=Role.CONFIRMATION):
        confirmation[trial.settings].append(trial)
    gains = {}
    for settings, trials in confirmation.items():
        curves = {t.number: store.trial_measurements(t.id) for t in trials}
        runs = runs_of(trials, curves, study.reference_gamma)
        gain = measured_gain(runs, solved_loss(runs) if is_algorithmic(study) else None)
        if gain is not None:
            gains[settings] = gain
    return gains
