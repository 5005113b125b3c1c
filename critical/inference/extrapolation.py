"""γ* at the target's width, from draws of γ* at the scales that learned.

Symbols and shapes: s scales, m draws.
    γ*_s  stars   (s, m)  draws of γ* at each scale
    x_s           (s,)    log₂(width / centre width), octaves
    a, b          (m,)    intercept, γ at the centre width; slope, γ per octave
    d_s           (s,)    discrepancy of each scale from the line, N(0, discrepancy_sd²)
    V_s           (s,)    discrepancy_sd² + Var γ*_s

Model: γ*_s = a + b·x_s + d_s, a flat, b ~ N(0, slope_sd²). Each draw is one sample of (a, b) by
perturbation (Papandreou & Yuille 2010): γ*_s of the draw plus a drawn discrepancy is regressed
with weights 1/V_s, and the slope shrunk towards a draw of its prior. For normal draws this is
exactly the posterior of (a, b); where every scale is known exactly it is the conditional
posterior given the draw. That the slope is small, and that scales depart from a line by about
0.02, are assumptions of the model and not findings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from critical.inference.gamma_grid import grid
from critical.inference.rules import EDGE_DRAWS, middle_argmax, plateau, share
from critical.storage.records import (
    GammaStar,
    Holdout,
    PosteriorRecord,
    ScalePosterior,
    TargetPosterior,
)

Array = NDArray[np.float64]

_DOMINATED = 0.25
_LEAST_VARIANCE = 1e-8


@dataclass(frozen=True, slots=True)
class TrendPrior:
    """What is assumed of γ* over widths.

    Attributes:
        slope_sd: Standard deviation of the slope, γ per octave, > 0.
        discrepancy_sd: Standard deviation of one scale around the line, γ.
        interval: γ of the search; draws outside are not believed.
    """

    slope_sd: float
    discrepancy_sd: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Trend:
    """Draws of the line, each of shape (m,)."""

    centre_width: float
    intercept: Array
    slope: Array

    def at(self, width: float) -> Array:
        """Draws of the line at a width, without discrepancy. Shape (m,)."""
        line: Array = self.intercept + self.slope * np.log2(width / self.centre_width)
        return line


def regress(scales: Sequence[ScalePosterior], prior: TrendPrior, rng: np.random.Generator) -> Trend:
    """Sample intercept and slope of γ* over log₂ width.

    Args:
        scales: At least one, all with m draws; they are centred at their geometric mean width.
        prior: The model's assumptions.
        rng: Consumes the same numbers whatever the prior.
    """
    stars = np.array([scale.draws for scale in scales])
    octaves = np.log2([scale.width for scale in scales])
    centre = float(octaves.mean())
    x = octaves - centre
    variance = prior.discrepancy_sd**2 + stars.var(axis=1)
    weight = 1 / np.maximum(variance, _LEAST_VARIANCE)
    perturbed = stars + prior.discrepancy_sd * rng.standard_normal(stars.shape)
    precision = prior.slope_sd**-2
    assumed = prior.slope_sd * rng.standard_normal(stars.shape[1])
    normal = np.array(
        [
            [weight.sum(), (weight * x).sum()],
            [(weight * x).sum(), (weight * x**2).sum() + precision],
        ]
    )
    right = np.array([weight @ perturbed, (weight * x) @ perturbed + precision * assumed])
    intercept, slope = np.linalg.solve(normal, right)
    return Trend(2.0**centre, intercept, slope)


def truncate(
    draws: Array, interval: tuple[float, float], rng: np.random.Generator
) -> tuple[Array, float]:
    """Redraw what lies outside the interval from what lies inside, or clip where nothing does.

    Returns:
        Draws within the interval, shape (m,), and the part that lay outside, in [0, 1].
    """
    inside = (draws >= interval[0]) & (draws <= interval[1])
    if not inside.any():
        return np.clip(draws, *interval), 1.0
    redrawn = rng.choice(draws[inside], size=draws.size)
    return np.where(inside, draws, redrawn), float(np.mean(~inside))


def extrapolate(
    scales: Sequence[ScalePosterior],
    trend: Trend,
    width: int,
    prior: TrendPrior,
    rng: np.random.Generator,
) -> TargetPosterior:
    """Predict γ* at a width, with a fresh discrepancy.

    Args:
        scales: Those that the trend was found from, ascending by width.
        trend: Draws of the line.
        width: The target's.
        prior: The model's assumptions.
        rng: For the discrepancy and the comparison of priors.
    """
    fresh = prior.discrepancy_sd * rng.standard_normal(trend.slope.size)
    draws, truncated = truncate(trend.at(width) + fresh, prior.interval, rng)
    doubled, dominated = _prior_sensitivity(scales, width, prior, rng)
    return TargetPosterior(
        width=width,
        gamma_star=_summarize(draws, truncated, scales[-1], prior.interval),
        doubled=doubled,
        prior_dominated=dominated,
        truncated=truncated,
        draws=tuple(draws.tolist()),
    )


def at_widest(scales: Sequence[ScalePosterior]) -> TargetPosterior:
    """What stands for the target where none was given: the widest scale's own γ*."""
    widest = scales[-1]
    star = widest.gamma_star
    return TargetPosterior(widest.width, star, (star.low, star.high), False, 0.0, widest.draws)


def hold_out_widest(
    scales: Sequence[ScalePosterior], prior: TrendPrior, rng: np.random.Generator
) -> Holdout | None:
    """Predict the widest scale from the others; None where there is no other."""
    *others, widest = scales
    if not others:
        return None
    trend = regress(others, prior, rng)
    predicted = extrapolate(others, trend, widest.width, prior, rng)
    return Holdout(widest.width, predicted.gamma_star, widest.gamma_star)


def joined(scales: Sequence[ScalePosterior], settings: str) -> list[ScalePosterior]:
    """The scales of some settings that take part: those that learned, ascending by width."""
    found = [scale for scale in scales if scale.learned and scale.settings == settings]
    return sorted(found, key=lambda scale: scale.width)


def gamma_at(
    record: PosteriorRecord,
    width: int,
    interval: tuple[float, float],
    rng: np.random.Generator,
    settings: str | None = None,
) -> TargetPosterior | None:
    """Recommend γ* at any width from a stored posterior, without fitting anything.

    Args:
        record: As stored.
        width: Model width, > 0.
        interval: γ of the search.
        rng: For the discrepancy.
        settings: Whose γ*; by default the record's own, the first.

    Returns:
        The posterior at that width, or None where no scale of those settings has learned.
    """
    own = next(one for one in record.answers if one.settings == (settings or record.settings))
    scales = joined(record.scales, own.settings)
    if not scales:
        return None
    trend = Trend(own.centre_width, np.array(own.intercept), np.array(own.slope))
    prior = TrendPrior(record.slope_sd, record.discrepancy_sd, interval)
    return extrapolate(scales, trend, width, prior, rng)


def _prior_sensitivity(
    scales: Sequence[ScalePosterior], width: int, prior: TrendPrior, rng: np.random.Generator
) -> tuple[tuple[float, float], bool]:
    """The 90% interval at twice the slope's sd, and whether the sd decides the interval."""
    seed = int(rng.integers(2**63))
    widths = []
    for factor in (1.0, 0.5, 2.0):
        # The same numbers under each prior, so that only the prior is compared.
        same = np.random.default_rng(seed)
        trend = regress(scales, replace(prior, slope_sd=factor * prior.slope_sd), same)
        draws = trend.at(width) + prior.discrepancy_sd * same.standard_normal(trend.slope.size)
        widths.append(float(np.diff(np.quantile(draws, (0.05, 0.95)))[0]))
    doubled, _ = truncate(draws, prior.interval, same)
    low, high = np.quantile(doubled, (0.05, 0.95))
    change = max(abs(other / widths[0] - 1) for other in widths[1:])
    return (float(low), float(high)), bool(change > _DOMINATED)


def _summarize(
    draws: Array, truncated: float, widest: ScalePosterior, interval: tuple[float, float]
) -> GammaStar:
    """Summarize γ* at the target; its share curve is the widest scale's, moved along with γ*."""
    low, median, high = (float(q) for q in np.quantile(draws, (0.05, 0.5, 0.95)))
    gamma = np.array(widest.gamma)
    curve = share(np.array([widest.reasoning.median]), np.array([widest.log2_efficiency.median]))
    shift = gamma[middle_argmax(curve)[0]] - draws[:, None]
    points = grid(interval)
    expected = np.interp(points + shift, gamma, curve[0]).mean(axis=0)
    one_sided = truncated > EDGE_DRAWS
    return GammaStar(
        median=median,
        low=low,
        high=high,
        plateau=plateau(points, expected),
        verdict="one-sided" if one_sided else widest.gamma_star.verdict,
        share=float(np.interp(median, points, expected)),
    )
