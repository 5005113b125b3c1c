"""What the store hands out: frozen records, free of SQL, torch and Optuna.

Units: device-seconds are wall seconds × devices held; losses are nats per token;
efficiency is log₂ ρ, octaves; reasoning R is in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Document = Mapping[str, Any]
"""A JSON document whose shape belongs to whoever stored it."""


class StudyState(StrEnum):
    """What a study is doing."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    FINISHED = "finished"
    FAILED = "failed"


class TrialState(StrEnum):
    """What became of a trial."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    """Begun, and waiting to go on from its checkpoint under its own number."""
    COMPLETED = "completed"
    STOPPED = "stopped"
    DIVERGED = "diverged"
    FAILED = "failed"


OPEN = (TrialState.RUNNING, TrialState.INTERRUPTED)
"""What has begun and not ended."""
EVIDENCE = (TrialState.COMPLETED, TrialState.DIVERGED)
"""What says something of γ: a trial that ran to its end, or to the end of its loss."""
COUNTED = (TrialState.COMPLETED, TrialState.STOPPED, TrialState.DIVERGED)
"""What a budget in trials is spent on: a failed one is run again."""


class Role(StrEnum):
    """Why a trial is run."""

    REFERENCE = "reference"
    SEARCH = "search"
    CONFIRMATION = "confirmation"


@dataclass(frozen=True, slots=True)
class NewStudy:
    """What a study is created from.

    ``budget_unit`` is as the user wrote it (``cpu-min``); ``budget_total`` is in device-seconds,
    or a count where the unit is ``trials``. ``target`` is None where no target was given.
    """

    name: str
    budget_unit: str
    budget_total: float
    rule: str
    interval: tuple[float, float]
    reference_gamma: float
    target_width: int | None
    target_depth: int | None
    options: Document
    plan: Document
    target: Document | None


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """One search over γ and scale."""

    id: int
    name: str
    state: StudyState
    reason: str | None
    budget_unit: str
    budget_total: float
    rule: str
    interval: tuple[float, float]
    reference_gamma: float
    target_width: int | None
    target_depth: int | None
    options: Document
    plan: Document
    target: Document | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewTrial:
    """A trial about to run, and the device-seconds that are reserved for it."""

    arm: str
    """The scale and settings, as in ``w64/target``; the Optuna study is ``STUDY/arm``."""
    optuna_number: int | None
    role: Role
    gamma: float
    learning_rate: float | None
    width: int
    depth: int
    heads: int
    tokens: int
    seed: int
    settings: str
    reserved_seconds: float


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One proxy run at one (γ, learning rate, scale, seed, settings).

    ``reasoning`` and ``log2_efficiency`` are as they were when the trial ended; the posterior
    recomputes both from the measurements.
    """

    id: int
    number: int
    arm: str
    optuna_number: int | None
    role: Role
    gamma: float
    learning_rate: float | None
    width: int
    depth: int
    heads: int
    tokens: int
    seed: int
    settings: str
    state: TrialState
    reason: str | None
    """Why it did not complete, or why its last attempt ended before it did."""
    reasoning: float | None
    log2_efficiency: float | None
    attempts: int
    """How often it was begun or went on, each a line of the ledger."""
    reserved_seconds: float
    """What was reserved for its attempts in all."""
    device_seconds: float | None
    """What its attempts were charged in all; None before the first has ended."""
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class MeasurementRecord:
    """One evaluation within a trial."""

    tokens: int
    loss: float
    reasoning: float
    device_seconds: float
    """Since the trial started, over all its attempts."""
    extras: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class CurveRecord:
    """A trial's measurements as columns, in order. Each float64, shape (e,), NaN for no number."""

    tokens: NDArray[np.float64]
    loss: NDArray[np.float64]
    reasoning: NDArray[np.float64]
    extra: NDArray[np.float64]
    """The one that was asked for; NaN where a measurement lacks it."""


@dataclass(frozen=True, slots=True)
class TrialOutcome:
    """How a trial ended, and what it is charged."""

    state: TrialState
    device_seconds: float
    reason: str | None = None
    reasoning: float | None = None
    log2_efficiency: float | None = None


@dataclass(frozen=True, slots=True)
class ChargeRecord:
    """One line of the ledger: a reservation, and its settlement once known."""

    trial_number: int | None
    purpose: str
    """``timing``, or the trial's role."""
    reserved_seconds: float
    charged_seconds: float | None
    reserved_at: datetime
    settled_at: datetime | None
    attempt: int = 0
    """Of the trial, from 0."""
    reason: str | None = None
    """Why the attempt ended before its trial did; None where the trial ended with it."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process of some machine, as another one on the same machine can look for it."""

    host: str
    machine: str
    """Tells machines of one name apart, and a machine's boots."""
    pid: int
    started: str
    """Tells processes of one number apart."""


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """The right of one driver to write to a study, until it ends or is not renewed in time."""

    id: str
    study_id: int
    process: Process
    acquired_at: datetime
    expires_in: float
    """Seconds, by the database's clock; negative where it was not renewed in time."""
    released_at: datetime | None
    environment: Document
    """Versions, devices, commit: under what this driver ran its trials."""

    @property
    def holds(self) -> bool:
        """Whether it keeps other drivers out: it is neither released nor expired."""
        return self.released_at is None and self.expires_in > 0


ORPHANED = "its driver died"
"""Why a study is interrupted, and its trials, where their driver had no time to say so."""


def as_held(study: StudyRecord, lease: LeaseRecord | None) -> StudyRecord:
    """Return a study as it is to be shown: one that no lease holds any more does not run."""
    if study.state is not StudyState.RUNNING or (lease is not None and lease.holds):
        return study
    return replace(study, state=StudyState.INTERRUPTED, reason=ORPHANED)


@dataclass(frozen=True, slots=True)
class LedgerRecord:
    """What a study has spent and what its running trials hold, device-seconds."""

    spent_seconds: float
    held_seconds: float
    by_purpose: Mapping[str, float]
    charges: int = 0
    """How many lines it has, reservations included."""


@dataclass(frozen=True, slots=True)
class TrialCounts:
    """How many trials of a study are in each state."""

    completed: int = 0
    stopped: int = 0
    diverged: int = 0
    failed: int = 0
    running: int = 0
    interrupted: int = 0

    @property
    def spent(self) -> int:
        """How many count towards a budget in trials."""
        return sum(int(getattr(self, state.value)) for state in COUNTED)


@dataclass(frozen=True, slots=True)
class Band:
    """The 5%, 50% and 95% points of a curve over a grid. Each of shape (g,)."""

    low: tuple[float, ...]
    median: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class GammaStar:
    """The posterior of γ*: median, 5% and 95% points, plateau and verdict."""

    median: float
    low: float
    high: float
    plateau: tuple[float, float]
    verdict: str
    """``resolved``, ``one-sided`` or ``no tradeoff``."""
    share: float
    """Expected share at the median, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class ScalePosterior:
    """The posterior at one scale and settings, over a γ grid of shape (g,)."""

    width: int
    settings: str
    trials: int
    """Completed trials at this scale."""
    learned: bool
    """Whether the reference learned its trained items; else the scale is exploratory."""
    gamma: tuple[float, ...]
    reasoning: Band
    log2_efficiency: Band
    share: Band
    learning_rate: tuple[float | None, ...]
    """The ladder's rung with the least validation loss, at each γ."""
    gamma_star: GammaStar
    draws: tuple[float, ...]
    """256 draws of γ* at this scale."""
    reference_gamma: float
    better: float
    """P(γ* beats the reference in both R and ρ)."""
    expected_loss: float
    """Share that γ* is expected to fall short of the best by, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Holdout:
    """What the other scales predict for the widest one, against what was found there."""

    width: int
    predicted: GammaStar
    found: GammaStar


@dataclass(frozen=True, slots=True)
class TargetPosterior:
    """γ* at the target's width, extrapolated from the scales that learned."""

    width: int
    gamma_star: GammaStar
    doubled: tuple[float, float]
    """The 5% and 95% points at twice the slope's prior sd."""
    prior_dominated: bool
    truncated: float
    """The share of draws outside the search interval, before truncation."""
    draws: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SettingsPosterior:
    """What the scales of one settings say of any width; the fields are PosteriorRecord's."""

    settings: str
    centre_width: float
    intercept: tuple[float, ...]
    slope: tuple[float, ...]
    target: TargetPosterior | None
    holdout: Holdout | None


@dataclass(frozen=True, slots=True)
class PosteriorRecord:
    """Everything that was inferred after ``trials`` completed trials.

    γ* at width w of draw i is intercept[i] + slope[i] · log₂(w / centre_width), plus a
    discrepancy N(0, discrepancy_sd²), truncated to the search interval. Where several settings
    are searched side by side, that is of the first of them; ``answers`` has each one's.
    """

    trials: int
    scales: tuple[ScalePosterior, ...]
    centre_width: float
    intercept: tuple[float, ...]
    slope: tuple[float, ...]
    discrepancy_sd: float
    target: TargetPosterior | None
    """At the target, or at the widest scale that learned; None where none has learned."""
    conditional_on_learning_rate: float | None
    holdout: Holdout | None
    slope_sd: float
    """Prior sd of γ*'s slope, γ per octave of width."""
    settings: str = "target"
    """Those that ``centre_width``, ``intercept``, ``slope``, ``target`` and ``holdout`` are of."""
    others: tuple[SettingsPosterior, ...] = ()
    """The same of the other settings that are searched beside them."""

    @property
    def answers(self) -> tuple[SettingsPosterior, ...]:
        """What each of the settings says, the first's first."""
        first = SettingsPosterior(
            self.settings,
            self.centre_width,
            self.intercept,
            self.slope,
            self.target,
            self.holdout,
        )
        return first, *self.others


@dataclass(frozen=True, slots=True)
class PosteriorSummary:
    """One step of γ*'s narrowing; the first settings', where several are searched."""

    trials: int
    spent_seconds: float
    median: float
    low: float
    high: float
    verdict: str
    """γ*'s, or ``settings disagree`` where it is no single γ*: see ``agreement``."""


@dataclass(frozen=True, slots=True)
class RecommendationRecord:
    """The JSON of ``critical recommend``, as it stood when the search ended."""

    document: Document
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StudySummary:
    """One line of ``critical studies``."""

    study: StudyRecord
    spent_seconds: float
    counts: TrialCounts
    latest: PosteriorSummary | None
    lease: LeaseRecord | None = None
    """The one that holds the study, if any does; it may have expired."""
