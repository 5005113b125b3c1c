"""Trials and posterior gathered by arm: a width under one choice of settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from critical.dashboards.figures import style
from critical.storage.records import PosteriorRecord, ScalePosterior, TrialRecord, TrialState

Arm: TypeAlias = tuple[int, str]
"""Width and settings."""


def arm_of(record: TrialRecord | ScalePosterior) -> Arm:
    """Return the arm that a trial or a scale's posterior belongs to."""
    return record.width, record.settings


def arms_in(*records: Iterable[TrialRecord | ScalePosterior]) -> list[Arm]:
    """Return every arm in the records, narrowest first.

    At each width the target's own settings come first, and others in the order in which the
    records bring them: of trials in the order of their numbers, that of the search.
    """
    found = dict.fromkeys(arm_of(record) for group in records for record in group)
    return _in_order(found, dict.fromkeys(settings for _, settings in found))


def settings_of(posterior: PosteriorRecord | None) -> list[str]:
    """Return the settings of a posterior, those first that the headline is of."""
    if posterior is None:
        return []
    drawn = {scale.settings for scale in posterior.scales}
    named = dict.fromkeys(own.settings for own in posterior.answers)
    return [*named, *sorted(drawn - named.keys())]


def labeller(arms: Sequence[Arm]) -> Callable[[Arm], str]:
    """Return how to name an arm: the settings are told only where they differ."""
    several = len({settings for _, settings in arms}) > 1

    def label(arm: Arm) -> str:
        width, settings = arm
        return f"width {width}, {style.safe(settings)}" if several else f"width {width}"

    return label


def exploratory_labeller(scales: Sequence[ScalePosterior]) -> Callable[[ScalePosterior], str]:
    """Return how to name a scale, which says where it has not learned yet."""
    label = labeller([arm_of(scale) for scale in scales])

    def name(scale: ScalePosterior) -> str:
        return label(arm_of(scale)) + ("" if scale.learned else " (exploratory)")

    return name


def colours_of(posterior: PosteriorRecord | None) -> dict[str, str]:
    """Return the colour of γ* under each of a posterior's settings."""
    names = enumerate(settings_of(posterior))
    return {name: style.SETTINGS[place % len(style.SETTINGS)] for place, name in names}


def told_apart(settings: str, *, several: bool) -> str:
    """Return what names the settings at the end of a legend's line, where there are several."""
    return f", {style.safe(settings)} settings" if several else ""


def scales_of(posterior: PosteriorRecord | None) -> list[ScalePosterior]:
    """Return the posterior's scales, narrowest first, the settings in the order of its answers."""
    by_arm = {} if posterior is None else {arm_of(scale): scale for scale in posterior.scales}
    return [by_arm[arm] for arm in _in_order(by_arm, settings_of(posterior))]


def with_state(trials: Iterable[TrialRecord], *states: TrialState) -> list[TrialRecord]:
    """Return the trials in any of the states."""
    return [trial for trial in trials if trial.state in states]


def interpolate(x: Sequence[float], y: Sequence[float], at: float) -> float:
    """Return y at a point, linear between the x of a grid and constant beyond its ends."""
    if at <= x[0]:
        return y[0]
    for i in range(1, len(x)):
        if at <= x[i]:
            weight = (at - x[i - 1]) / (x[i] - x[i - 1])
            return y[i - 1] + weight * (y[i] - y[i - 1])
    return y[-1]


def exemplar(scales: Sequence[ScalePosterior]) -> int:
    """Return the place of the scale whose colours the legend shows: one that learned, if any."""
    return next((place for place, scale in enumerate(scales) if scale.learned), 0)


def _in_order(arms: Iterable[Arm], settings: Iterable[str]) -> list[Arm]:
    """Return arms narrowest first, at each width the target's own settings, then as given."""
    places = {name: place for place, name in enumerate(settings)}
    return sorted(arms, key=lambda arm: (arm[0], arm[1] != "target", places[arm[1]]))
