"""What built-in trials record besides loss and R, gathered for drawing; docs/measurements.md.

An extra's name is ``KIND/PART``. A user's own trials need not have any of them, and may have
others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from critical.dashboards.figures.arms import Arm, arm_of, arms_in
from critical.storage.records import MeasurementRecord, TrialRecord

Curve: TypeAlias = Sequence[MeasurementRecord]
Curves: TypeAlias = Mapping[int, Curve]
"""Measurements by trial id."""


class Point(NamedTuple):
    """A number that was recorded as so many tokens had been seen."""

    tokens: int
    value: float


def parts_of(curves: Iterable[Curve], kind: str) -> list[str]:
    """Return every part that has numbers of a kind, as a model has them: blocks in order."""
    found = dict.fromkeys(
        name.removeprefix(f"{kind}/")
        for curve in curves
        for one in curve
        for name in one.extras
        if name.startswith(f"{kind}/")
    )
    return sorted(found, key=_block)


def _block(part: str) -> tuple[bool, int]:
    """Order by block, what is in none last; a sort keeps the order within one."""
    number = part.partition(".")[0]
    return (False, int(number)) if number.isdecimal() else (True, 0)


def values_of(measurement: MeasurementRecord, kind: str) -> dict[str, float]:
    """Return a measurement's finite numbers of a kind, by part."""
    return {
        name.removeprefix(f"{kind}/"): value
        for name, value in measurement.extras.items()
        if name.startswith(f"{kind}/") and math.isfinite(value)
    }


def recorded_arms(trials: Sequence[TrialRecord], curves: Curves, *kinds: str) -> list[Arm]:
    """Return the arms in which a trial has recorded numbers of any of the kinds."""
    return arms_in(
        trial
        for trial in trials
        if any(values_of(one, kind) for one in curves.get(trial.id, ()) for kind in kinds)
    )


def widest(arms: Sequence[Arm]) -> list[Arm]:
    """Return the arms of the greatest width, one for each of the settings there."""
    most = max((width for width, _ in arms), default=0)
    return [arm for arm in arms if arm[0] == most]


def of_arm(trials: Sequence[TrialRecord], arm: Arm) -> list[TrialRecord]:
    """Return an arm's trials."""
    return [trial for trial in trials if arm_of(trial) == arm]
