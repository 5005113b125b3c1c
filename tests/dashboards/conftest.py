"""A believable study in records alone: three scales, about forty trials, a posterior.

The fixture ``data`` makes a report's data, in which a test replaces what it is about.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from critical.dashboards.data import ReportData
from critical.storage.records import (
    Band,
    ChargeRecord,
    GammaStar,
    Holdout,
    LedgerRecord,
    MeasurementRecord,
    PosteriorRecord,
    PosteriorSummary,
    RecommendationRecord,
    Role,
    ScalePosterior,
    SettingsPosterior,
    StudyRecord,
    StudyState,
    TargetPosterior,
    TrialRecord,
    TrialState,
)

START = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
WIDTHS = (32, 64, 128)
TARGET = 2048
GRID = tuple(round(0.3 + 0.01 * i, 2) for i in range(91))


def reasoning_at(gamma: float, width: int) -> float:
    """R of the simulated surface: it peaks at large γ, later and higher at wider scales."""
    height = {32: 0.12, 64: 0.52, 128: 0.63}.get(width, 0.6)
    return 0.03 + height * math.exp(-(((gamma - 0.86) / 0.2) ** 2))


def log2_efficiency_at(gamma: float, width: int) -> float:
    """log₂ ρ of the simulated surface, 0 at the reference's γ of 0.5."""
    peak = 0.64 - 0.02 * math.log2(width / 64)
    return 7.0 * ((0.5 - peak) ** 2 - (gamma - peak) ** 2)


def study_record(**changes: Any) -> StudyRecord:
    """Return a search that is running towards a model of width 2048."""
    study = StudyRecord(
        id=1,
        name="llama-d2048-L24",
        state=StudyState.RUNNING,
        reason=None,
        budget_unit="cpu-min",
        budget_total=3600.0,
        rule="balance",
        interval=(0.3, 1.2),
        reference_gamma=0.5,
        target_width=TARGET,
        target_depth=24,
        options={"budget": "60cpu-min", "workers": 2, "lr": [0.001, 0.003], "mixture": "anchors"},
        plan={"widths": list(WIDTHS)},
        target={"model_type": "llama", "hidden_size": TARGET},
        created_at=START,
    )
    return replace(study, **changes)


def trial_records(
    seed: int = 7, per_scale: int = 13, widths: tuple[int, ...] = WIDTHS
) -> list[TrialRecord]:
    """Return references, searched trials, one stopped and one diverged at each scale."""
    chance = random.Random(seed)
    trials: list[TrialRecord] = []
    clock = START
    for width in widths:
        for index in range(per_scale):
            trial = _trial(chance, len(trials), width, index, clock)
            clock += timedelta(seconds=trial.device_seconds or 0.0)
            trials.append(trial)
    return trials


def _trial(
    chance: random.Random, number: int, width: int, index: int, clock: datetime
) -> TrialRecord:
    role = Role.REFERENCE if index < 2 else Role.SEARCH
    gamma = 0.5 if role is Role.REFERENCE else chance.uniform(0.36, 1.16)
    state = {3: TrialState.STOPPED, 4: TrialState.DIVERGED}.get(index, TrialState.COMPLETED)
    gamma = {TrialState.DIVERGED: 1.18, TrialState.STOPPED: 0.33}.get(state, gamma)
    seconds = {32: 20.0, 64: 42.0, 128: 76.0}[width] * chance.uniform(0.9, 1.1)
    reasoning = max(0.0, reasoning_at(gamma, width) + chance.gauss(0, 0.04))
    efficiency = log2_efficiency_at(gamma, width) + chance.gauss(0, 0.12)
    efficiency = 0.0 if role is Role.REFERENCE else efficiency
    values: dict[TrialState, tuple[float | None, float | None]] = {
        TrialState.COMPLETED: (reasoning, efficiency),
        TrialState.DIVERGED: (0.0, -6.0),
    }
    told = values.get(state, (None, None))
    return TrialRecord(
        id=100 + number,
        number=number,
        arm=f"w{width}/target",
        optuna_number=index,
        role=role,
        gamma=gamma,
        learning_rate=0.003 if width < 128 else 0.001,
        width=width,
        depth=3,
        heads=4,
        tokens=1_000_000,
        seed=index % 2,
        settings="target",
        state=state,
        reason="loss is not finite" if state is TrialState.DIVERGED else None,
        reasoning=told[0],
        log2_efficiency=told[1],
        attempts=1,
        reserved_seconds=1.2 * seconds,
        device_seconds=seconds,
        started_at=clock,
        finished_at=clock + timedelta(seconds=seconds),
    )


def curve_of(trial: TrialRecord) -> tuple[MeasurementRecord, ...]:
    """Return 40 log-spaced measurements whose loss falls the sooner the better ρ is."""
    rate = 1.6 * 2.0 ** log2_efficiency_at(trial.gamma, trial.width) * math.log2(trial.width) / 6
    last = 40 if trial.state is TrialState.COMPLETED else 18
    points = []
    for i in range(last):
        tokens = int(9000 * (trial.tokens / 9000) ** (i / 39))
        loss = 0.02 + 4.5 * math.exp(-rate * (tokens / 150_000) ** 1.1)
        if trial.state is TrialState.DIVERGED and i == last - 1:
            loss = math.nan
        points.append(MeasurementRecord(tokens, loss, 0.1, 2.0 * i))
    return tuple(points)


def scale_posterior(
    width: int, *, learned: bool = True, settings: str = "target"
) -> ScalePosterior:
    """Return bands around the simulated surface that widen towards the interval's ends."""
    spread = [0.03 + 0.35 * (gamma - 0.75) ** 2 for gamma in GRID]
    reasoning = [reasoning_at(gamma, width) for gamma in GRID]
    efficiency = [log2_efficiency_at(gamma, width) for gamma in GRID]
    best_r, best_e = max(reasoning), max(efficiency)
    share = [
        min(r / best_r, 2.0 ** (e - best_e)) for r, e in zip(reasoning, efficiency, strict=True)
    ]
    median = GRID[share.index(max(share))]
    chance = random.Random(width)
    draws = tuple(chance.gauss(median, 0.04 if learned else 0.12) for _ in range(256))
    half = 0.065 if learned else 0.2
    return ScalePosterior(
        width=width,
        settings=settings,
        trials=11,
        learned=learned,
        gamma=GRID,
        reasoning=_band(reasoning, spread, 0.0, 1.0),
        log2_efficiency=_band(efficiency, [3 * s for s in spread], -6.0, 6.0),
        share=_band(share, [1.5 * s for s in spread], 0.0, 1.0),
        learning_rate=tuple(0.003 if gamma > 0.5 else 0.001 for gamma in GRID),
        gamma_star=GammaStar(
            median, median - half, median + half, (median - 0.05, median + 0.04), "resolved", 0.86
        ),
        draws=draws,
        reference_gamma=0.5,
        better=0.82,
        expected_loss=0.03,
    )


def _band(centre: list[float], spread: list[float], low: float, high: float) -> Band:
    return Band(
        low=tuple(max(c - s, low) for c, s in zip(centre, spread, strict=True)),
        median=tuple(min(max(c, low), high) for c in centre),
        high=tuple(min(c + s, high) for c, s in zip(centre, spread, strict=True)),
    )


def posterior_record(widths: tuple[int, ...] = WIDTHS) -> PosteriorRecord:
    """Return a posterior whose narrowest scale has not learned and whose target is far."""
    scales = tuple(scale_posterior(width, learned=width > 32) for width in widths)
    chance = random.Random(3)
    centre = 90.5
    at_target = GammaStar(0.71, 0.56, 0.88, (0.65, 0.77), "resolved", 0.83)
    return PosteriorRecord(
        trials=33,
        scales=scales,
        centre_width=centre,
        intercept=tuple(chance.gauss(0.735, 0.025) for _ in range(256)),
        slope=tuple(chance.gauss(-0.006, 0.018) for _ in range(256)),
        discrepancy_sd=0.02,
        target=TargetPosterior(TARGET, at_target, (0.47, 0.99), True, 0.013, (0.7, 0.71)),
        conditional_on_learning_rate=None,
        slope_sd=0.03,
        holdout=Holdout(
            widths[-1],
            replace(scales[-1].gamma_star, median=0.75, low=0.65, high=0.86),
            scales[-1].gamma_star,
        ),
    )


def beside(record: PosteriorRecord, median: float) -> PosteriorRecord:
    """Return a posterior in which relaxed settings stand beside, with that γ* at every width."""
    relaxed = tuple(
        replace(
            scale,
            settings="relaxed",
            gamma_star=replace(scale.gamma_star, median=median, low=median - 0.06, high=1.1),
        )
        for scale in record.scales
    )
    assert record.target is not None
    star = GammaStar(median, median - 0.15, 1.13, (median - 0.05, median + 0.05), "one-sided", 0.8)
    chance = random.Random(5)
    own = SettingsPosterior(
        settings="relaxed",
        centre_width=record.centre_width,
        intercept=tuple(chance.gauss(median, 0.025) for _ in range(256)),
        slope=tuple(chance.gauss(0.0, 0.018) for _ in range(256)),
        target=replace(record.target, gamma_star=star),
        holdout=None,
    )
    return replace(record, scales=(*relaxed, *record.scales), others=(own,))


def narrowing_steps() -> list[PosteriorSummary]:
    """Return an interval that narrows over 33 trials, one-sided at first."""
    return [
        PosteriorSummary(
            trials=n,
            spent_seconds=52.0 * n,
            median=0.71 + 0.12 / n * (-1) ** n,
            low=max(0.3, 0.71 - 0.12 - 1.2 / n),
            high=min(1.2, 0.71 + 0.14 + 1.2 / n),
            verdict="one-sided" if n < 8 else "resolved",
        )
        for n in range(3, 34)
    ]


def charge_records(trials: list[TrialRecord]) -> list[ChargeRecord]:
    """Return the timing charge, one settled line a trial, and one still held."""
    lines = [ChargeRecord(None, "timing", 30.0, 24.0, START, START + timedelta(seconds=24))]
    lines += [
        ChargeRecord(
            t.number,
            str(t.role),
            t.reserved_seconds,
            t.device_seconds,
            t.started_at,
            t.finished_at,
        )
        for t in trials
    ]
    return [*lines, ChargeRecord(999, "confirmation", 90.0, None, START, None)]


def ledger_record(charges: list[ChargeRecord]) -> LedgerRecord:
    """Return the sums of the charges."""
    by_purpose: dict[str, float] = {}
    for charge in charges:
        spent = by_purpose.get(charge.purpose, 0.0)
        by_purpose[charge.purpose] = spent + (charge.charged_seconds or 0.0)
    held = sum(c.reserved_seconds for c in charges if c.charged_seconds is None)
    return LedgerRecord(sum(by_purpose.values()), held, by_purpose)


def recommendation_record() -> RecommendationRecord:
    """Return the document of a finished search."""
    return RecommendationRecord(
        {
            "study": "llama-d2048-L24",
            "rule": "balance",
            "gamma": {
                "median": 0.71,
                "low": 0.56,
                "high": 0.88,
                "plateau": [0.65, 0.77],
                "verdict": "resolved",
            },
            "share": 0.83,
            "target": {"width": TARGET, "depth": 24},
            "reference": {"gamma": 0.5},
            "gain": {
                "reasoning": {"median": 0.21, "low": 0.08, "high": 0.34},
                "efficiency": {"median": 1.18, "low": 0.94, "high": 1.41},
            },
            "matrices": [
                {"name": "embed_tokens", "count": 1, "fan_in": 2048, "std": 0.004456},
                {"name": "q_proj", "count": 24, "fan_in": 2048, "std": 0.004456},
                {"name": "down_proj", "count": 24, "fan_in": 5632, "std": 0.002174},
            ],
        },
        START + timedelta(hours=1),
    )


def build(**changes: Any) -> ReportData:
    """Return the believable study, with the fields that a test names replaced."""
    trials = trial_records()
    charges = charge_records(trials)
    whole = ReportData(
        study=study_record(),
        trials=tuple(trials),
        curves={trial.id: curve_of(trial) for trial in trials},
        posterior=posterior_record(),
        narrowing=tuple(narrowing_steps()),
        ledger=ledger_record(charges),
        charges=tuple(charges),
        recommendation=recommendation_record(),
    )
    return replace(whole, **changes)


@pytest.fixture(scope="session")
def data() -> Callable[..., ReportData]:
    """Return ``build``, which makes a report's data, with what a test names replaced."""
    return build


@pytest.fixture(scope="session")
def records() -> Any:
    """Return the makers of single records, under their names."""
    return SimpleNamespace(
        study=study_record,
        trials=trial_records,
        scale=scale_posterior,
        posterior=posterior_record,
        recommendation=recommendation_record,
        beside=beside,
    )
