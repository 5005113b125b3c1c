"""The posterior of γ*: at every scale from its runs, and at the target from the scales.

One settings share one surrogate over its scales (``surrogate``); each scale is summarized from
its joint draws (``scale_posterior``); the scales that learned are carried to the target
(``extrapolation``). Everything is a function of the runs, the specification and the generator:
the order of the runs does not matter.

Symbols and shapes: r rungs of the learning-rate ladder, m joint draws, p points of all scales.
    rungs   (r,)    learning rates, NaN where there is none
    points  (p, 3)  as ``surrogate.inputs`` stacks them
    draws   (m, p)  of R, log₂ ρ (octaves) and log loss
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from critical.inference.extrapolation import (
    Trend,
    TrendPrior,
    at_widest,
    extrapolate,
    hold_out_widest,
    joined,
    regress,
)
from critical.inference.objectives import Run, observe, solved_loss
from critical.inference.rules import Rule
from critical.inference.scale_posterior import Arm, points, scale_posterior
from critical.inference.surrogate import Draws, Surrogate, draw_surfaces, fit_surrogate
from critical.storage.records import PosteriorRecord, ScalePosterior, SettingsPosterior

Array = NDArray[np.float64]

_LEAST_GAMMAS = 3


@dataclass(frozen=True, slots=True)
class PosteriorSpec:
    """What the posterior is asked for, and its modelling assumptions.

    Attributes:
        interval: γ of the search.
        reference_gamma: γ of the reference.
        rule: Which γ is critical.
        target_width: Of the model to be trained, or None for the widest scale.
        settings: Those that are carried to the target, each by its own scales; the first is the
            record's own.
        slope_sd: Prior sd of γ*'s slope, γ per octave of width.
        discrepancy_sd: Sd of one scale's γ* around the line over log₂ width. An assumption:
            depth, heads and tokens change along the ladder too, and no search has enough scales
            to estimate it.
        ladder: Learning rates of the search, or empty where it does not tune them.
        algorithmic: Whether the mixture can be solved: then ρ is compared at no lower loss than
            where its trained items are, see ``solved_loss``.
        learned_loss: A reference's final loss that counts as learned, in place of accuracy.
        draws: m, a multiple of 8.
    """

    interval: tuple[float, float]
    reference_gamma: float
    rule: Rule = field(default_factory=lambda: Rule("balance"))
    target_width: int | None = None
    settings: tuple[str, ...] = ("target",)
    slope_sd: float = 0.03
    discrepancy_sd: float = 0.02
    ladder: tuple[float, ...] = ()
    algorithmic: bool = False
    learned_loss: float | None = None
    draws: int = 256


@dataclass(frozen=True, slots=True)
class Inference:
    """A posterior, and the surrogates by settings that the next one may start from."""

    record: PosteriorRecord
    surrogates: Mapping[str, Surrogate]


def compute(
    runs: Sequence[Run],
    spec: PosteriorSpec,
    rng: np.random.Generator,
    previous: Inference | None = None,
) -> PosteriorRecord:
    """Compute the posterior of γ*; see ``infer``, which also hands on the surrogates."""
    return infer(runs, spec, rng, previous).record


def infer(
    runs: Sequence[Run],
    spec: PosteriorSpec,
    rng: np.random.Generator,
    previous: Inference | None = None,
) -> Inference:
    """Infer γ* at every scale and at the target.

    Arms without a finished reference, or with fewer than 3 different γ, are left out. Settings
    share nothing: each has its surrogate, its references and its line over the widths.

    Args:
        runs: Completed and diverged runs, in any order.
        spec: What is asked.
        rng: For the draws.
        previous: The inference before, whose hyperparameters are carried over.
    """
    carried = previous.surrogates if previous is not None else {}
    surrogates: dict[str, Surrogate] = {}
    scales: list[ScalePosterior] = []
    for settings, arms in _arms(runs, spec).items():
        found = [one for arm in arms for one in arm.observations]
        surrogates[settings] = fit_surrogate(found, rng, carried.get(settings))
        scales += _scales(arms, surrogates[settings], spec, rng)
    return Inference(_record(runs, scales, spec, rng), surrogates)


def _arms(runs: Sequence[Run], spec: PosteriorSpec) -> dict[str, list[Arm]]:
    grouped: dict[tuple[str, int], list[Run]] = defaultdict(list)
    for run in sorted(runs, key=_canonical):
        grouped[run.settings, run.width].append(run)
    arms: dict[str, list[Arm]] = defaultdict(list)
    for (settings, width), own in sorted(grouped.items()):
        observations = observe(own, solved_loss(own) if spec.algorithmic else None)
        gammas = sorted({run.gamma for run in own})
        low, high = max(gammas[0], spec.interval[0]), min(gammas[-1], spec.interval[1])
        if observations and len(gammas) >= _LEAST_GAMMAS and low < high:
            arms[settings].append(Arm(width, settings, own, observations, (low, high)))
    return arms


def _scales(
    arms: Sequence[Arm], surrogate: Surrogate, spec: PosteriorSpec, rng: np.random.Generator
) -> list[ScalePosterior]:
    rungs = _rungs(arms, spec.ladder)
    blocks = [points(arm, rungs, spec.reference_gamma) for arm in arms]
    drawn = draw_surfaces(surrogate, np.vstack(blocks), spec.draws, rng)
    ends = np.cumsum([len(block) for block in blocks])[:-1]
    own = zip(
        np.split(drawn.reasoning, ends, axis=1),
        np.split(drawn.log2_efficiency, ends, axis=1),
        np.split(drawn.log_loss, ends, axis=1),
        strict=True,
    )
    return [
        scale_posterior(
            arm, rungs, Draws(*three), spec.rule, spec.reference_gamma, spec.learned_loss
        )
        for arm, three in zip(arms, own, strict=True)
    ]


def _rungs(arms: Sequence[Arm], ladder: tuple[float, ...]) -> Array:
    """Learning rates to choose from, those of the ladder that were run; NaN for none. (r,)."""
    tried = {run.learning_rate for arm in arms for run in arm.runs}
    known = np.array(sorted(rate for rate in tried if rate is not None))
    if known.size == 0:
        return np.array([np.nan])
    on_ladder = [rate for rate in sorted(ladder) if np.isclose(known, rate).any()]
    return np.array(on_ladder) if on_ladder else known


def _record(
    runs: Sequence[Run],
    scales: Sequence[ScalePosterior],
    spec: PosteriorSpec,
    rng: np.random.Generator,
) -> PosteriorRecord:
    first, *others = (_answer(settings, scales, spec, rng) for settings in spec.settings)
    return PosteriorRecord(
        trials=sum(not run.diverged for run in runs),
        scales=tuple(scales),
        centre_width=first.centre_width,
        intercept=first.intercept,
        slope=first.slope,
        discrepancy_sd=spec.discrepancy_sd,
        target=first.target,
        conditional_on_learning_rate=_only_rate(runs),
        slope_sd=spec.slope_sd,
        holdout=first.holdout,
        settings=first.settings,
        others=tuple(others),
    )


def _answer(
    settings: str, scales: Sequence[ScalePosterior], spec: PosteriorSpec, rng: np.random.Generator
) -> SettingsPosterior:
    """Carry the scales of some settings to the target; where none has learned there is no line."""
    taking_part = joined(scales, settings)
    prior = TrendPrior(spec.slope_sd, spec.discrepancy_sd, spec.interval)
    trend, target, holdout = Trend(1.0, np.empty(0), np.empty(0)), None, None
    if taking_part:
        trend = regress(taking_part, prior, rng)
        holdout = hold_out_widest(taking_part, prior, rng)
        target = (
            at_widest(taking_part)
            if spec.target_width is None
            else extrapolate(taking_part, trend, spec.target_width, prior, rng)
        )
    return SettingsPosterior(
        settings=settings,
        centre_width=trend.centre_width,
        intercept=tuple(trend.intercept.tolist()),
        slope=tuple(trend.slope.tolist()),
        target=target,
        holdout=holdout,
    )


def _only_rate(runs: Sequence[Run]) -> float | None:
    rates = {run.learning_rate for run in runs if run.learning_rate is not None}
    return rates.pop() if len(rates) == 1 else None


def _canonical(run: Run) -> tuple[str, int, int, float, float, bool]:
    rate = run.learning_rate or 0.0
    return run.settings, run.width, run.seed, run.gamma, rate, run.diverged
