"""The posterior of one scale: bands over γ, γ* by the rule, and how the reference compares.

Symbols and shapes, of one scale: m joint draws, r rungs of the learning-rate ladder, c nodes of
γ at which the surrogate is drawn, f points of the grid that the rule is applied to, g ≈ f / 2
points of the grid that is stored; the reference's γ is one more point, the last.
    log loss    (m, r, f + 1)  decides the rung of each γ in each draw: the least loss
    reasoning   (m, f + 1)     R at that rung
    efficiency  (m, f + 1)     log₂ ρ at that rung, octaves
    γ*          (m,)           the rule applied to each draw

Draws at nodes 0.02 apart are carried to the grid by cubic splines: the surrogate's curves are
smooth over ten times that, and joint draws cost the cube of the points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from critical.inference.gamma_grid import grid
from critical.inference.objectives import Observation, Run, learned
from critical.inference.rules import Rule, critical_indices, plateau, share, verdict
from critical.inference.surrogate import Draws, inputs
from critical.storage.records import Band, GammaStar, ScalePosterior

Array = NDArray[np.float64]

_NODE_STEP = 0.02


@dataclass(frozen=True, slots=True)
class Arm:
    """The runs of one width and settings, and the γ that they bracket."""

    width: int
    settings: str
    runs: Sequence[Run]
    observations: Sequence[Observation]
    bracket: tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Curves:
    """R and log₂ ρ at the best rung. On the grid of shape (m, f), at the reference (m,)."""

    reasoning: Array
    efficiency: Array
    reference_reasoning: Array
    reference_efficiency: Array


def points(arm: Arm, rungs: Array, reference_gamma: float) -> Array:
    """The inputs at which one scale is drawn: every rung × (nodes, then reference).

    Args:
        arm: The scale.
        rungs: Learning rates, NaN for none. Shape (r,).
        reference_gamma: γ of the reference.

    Returns:
        Shape (r · (c + 1), 3).
    """
    gamma = np.append(grid(arm.bracket, _NODE_STEP), reference_gamma)
    rate, point = np.repeat(rungs, gamma.size), np.tile(gamma, rungs.size)
    return inputs(point, rate, np.full(point.size, float(arm.width)))


def scale_posterior(
    arm: Arm,
    rungs: Array,
    draws: Draws,
    rule: Rule,
    reference_gamma: float,
    learned_loss: float | None,
) -> ScalePosterior:
    """Summarize the draws of one scale.

    Args:
        arm: The scale.
        rungs: Learning rates, NaN for none. Shape (r,).
        draws: At what ``points`` returned. Each of shape (m, r · (c + 1)).
        rule: Which γ is critical.
        reference_gamma: γ of the reference.
        learned_loss: A final loss of the reference that counts as learned, or None.
    """
    stored = grid(arm.bracket)
    gamma = np.linspace(*arm.bracket, 2 * stored.size - 1)
    weights = _spline_weights(arm, gamma)
    log_loss = _refine(draws.log_loss, weights, rungs.size)
    curves = _at_least_loss(draws, log_loss, weights)
    stars = gamma[critical_indices(rule, curves.reasoning, curves.efficiency)]
    kept = share(curves.reasoning, curves.efficiency)
    star = _gamma_star(gamma, stars, kept, curves)
    rates = rungs[log_loss[..., :-1:2].mean(axis=0).argmin(axis=0)]
    return ScalePosterior(
        width=arm.width,
        settings=arm.settings,
        trials=sum(not run.diverged for run in arm.runs),
        learned=learned(arm.runs, learned_loss),
        gamma=tuple(stored.tolist()),
        reasoning=_band(curves.reasoning[:, ::2]),
        log2_efficiency=_band(curves.efficiency[:, ::2]),
        share=_band(kept[:, ::2]),
        learning_rate=tuple(None if np.isnan(rate) else float(rate) for rate in rates),
        gamma_star=star,
        draws=tuple(stars.tolist()),
        reference_gamma=reference_gamma,
        better=_better(gamma, star.median, curves),
        expected_loss=float(kept.max(axis=1).mean()) - star.share,
    )


def _spline_weights(arm: Arm, gamma: Array) -> Array:
    """What each node counts at each point of the grid; the reference stays. (c + 1, f + 1).

    A cubic spline is linear in its values, so that one product carries every draw.
    """
    nodes = grid(arm.bracket, _NODE_STEP)
    weights = np.zeros((nodes.size + 1, gamma.size + 1))
    weights[:-1, :-1] = CubicSpline(nodes, np.eye(nodes.size))(gamma).T
    weights[-1, -1] = 1
    return weights


def _refine(values: Array, weights: Array, rungs: int) -> Array:
    """Carry draws from the nodes to the grid; the reference stays last. (m, r, f + 1)."""
    carried: Array = values.reshape(len(values), rungs, len(weights)) @ weights
    return carried


def _at_least_loss(draws: Draws, log_loss: Array, weights: Array) -> _Curves:
    """R and log₂ ρ at the rung that has the least loss in the same draw: never chosen by R."""
    rung = log_loss.argmin(axis=1)[:, None]
    reasoning, efficiency = (
        np.take_along_axis(_refine(one, weights, log_loss.shape[1]), rung, axis=1)[:, 0]
        for one in (draws.reasoning, draws.log2_efficiency)
    )
    reasoning = np.clip(reasoning, 0, 1)
    return _Curves(reasoning[:, :-1], efficiency[:, :-1], reasoning[:, -1], efficiency[:, -1])


def _gamma_star(gamma: Array, stars: Array, kept: Array, curves: _Curves) -> GammaStar:
    low, median, high = (float(q) for q in np.quantile(stars, (0.05, 0.5, 0.95)))
    expected = kept.mean(axis=0)
    return GammaStar(
        median=median,
        low=low,
        high=high,
        plateau=plateau(gamma, expected),
        verdict=verdict(gamma, stars, curves.reasoning, curves.efficiency),
        share=float(np.interp(median, gamma, expected)),
    )


def _better(gamma: Array, median: float, curves: _Curves) -> float:
    """P(R and ρ at the median γ* both exceed the reference's)."""
    at = int(np.argmin(np.abs(gamma - median)))
    more_reasoning = curves.reasoning[:, at] > curves.reference_reasoning
    more_efficient = curves.efficiency[:, at] > curves.reference_efficiency
    return float(np.mean(more_reasoning & more_efficient))


def _band(draws: Array) -> Band:
    low, median, high = np.quantile(draws, (0.05, 0.5, 0.95), axis=0).tolist()
    return Band(tuple(low), tuple(median), tuple(high))
