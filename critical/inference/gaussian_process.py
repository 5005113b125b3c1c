"""An exact Gaussian process of one output: its hyperparameters, and joint draws of its curve.

Symbols and shapes are those of ``noisy_process``; p points to predict at, m draws. Values are
standardized within. θ is integrated over: k samples of a Laplace approximation around its
posterior mode, found by L-BFGS in turn with the weights of the Student-t noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import minimize

from critical.inference.noisy_process import (
    ROUNDS,
    Array,
    Data,
    Integers,
    Process,
    cholesky,
    prior,
    shared,
    squares,
)

_GROWTH = 1.1
_ENOUGH = 200
"""Observations that θ is found from at most: it needs no more, and costs their cube."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Hyperparameters and noise weights, conditioned on the data."""

    data: Data
    shift: float
    scale: float
    mode: Array
    theta: Array
    weights: Array
    fitted: int
    """Number of observations at which θ was last optimized."""


def fit(data: Data, rng: np.random.Generator, samples: int, previous: Fit | None = None) -> Fit:
    """Find θ and the noise weights.

    Args:
        data: At least one observation.
        rng: For the samples of θ.
        samples: k, how many θ to sample; 1 keeps the mode alone.
        previous: An earlier fit, of the same inputs, to start from. Its θ is kept
            until the data have grown by a tenth; the weights are always found anew.
    """
    count = data.values.size
    if previous is not None and count < _GROWTH * previous.fitted:
        process = Process(data, previous.shift, previous.scale)
        return replace(previous, data=data, weights=process.settle(previous.mode))
    shift, scale = float(data.values.mean()), max(float(data.values.std()), data.least_scale)
    some = data if count <= _ENOUGH else data.taking(rng.permutation(count)[:_ENOUGH])
    process = Process(some, shift, scale)
    mode = process.prior_mean if previous is None else previous.mode
    weights = np.ones(some.values.size)
    for _ in range(ROUNDS):
        mode = _optimize(process, mode, weights)
        weights = process.reweight(mode, weights)
    theta = _sample_theta(process, mode, weights, rng, samples)
    if some is not data:
        weights = Process(data, shift, scale).settle(mode)
    return Fit(data, shift, scale, mode, theta, weights, count)


def draw(fit: Fit, points: Array, level: Integers, normals: Array) -> Array:
    """Draw the curve jointly at all points, without seed effect and noise.

    Args:
        fit: k samples of θ.
        points: Inputs. Shape (p, d).
        level: Scale of each point, numbered as in the data. Shape (p,).
        normals: Independent standard normal numbers, m a multiple of k. Shape (m, p).

    Returns:
        The output in its own units. Shape (m, p).
    """
    process = Process(fit.data, fit.shift, fit.scale)
    new, new_level = torch.from_numpy(points), torch.from_numpy(level)
    between = squares(process.points, new), shared(process.level, new_level)
    within = squares(new, new), shared(new_level, new_level)
    weights = torch.from_numpy(fit.weights)
    drawn = np.empty_like(normals)
    own = len(normals) // len(fit.theta)
    # One θ after another: matrices of all of them together would not stay in the cache.
    for first, theta in zip(range(0, len(normals), own), fit.theta, strict=True):
        factor = process.factor(theta, weights)
        right = torch.column_stack([prior(theta, *between), process.values])
        whitened = torch.linalg.solve_triangular(factor, right, upper=False)
        white, target = whitened[:, :-1], whitened[:, -1]
        covariance = torch.addmm(prior(theta, *within), white.T, white, alpha=-1)
        normal = torch.from_numpy(normals[first : first + own])
        found = torch.addmm(white.T @ target, normal, cholesky(covariance).T)
        drawn[first : first + own] = found.numpy()
    return fit.shift + fit.scale * drawn


def _objective(process: Process, weights: Array) -> Callable[[Array], tuple[float, Array]]:
    """−log p(θ | y) up to a constant, and its gradient, as a function of θ of shape (h,)."""

    def evaluate(theta: Array) -> tuple[float, Array]:
        value, gradient = process.evaluate(theta, weights)
        away = (theta - process.prior_mean) / process.prior_sd
        return value + 0.5 * float(away @ away), gradient + away / process.prior_sd

    return evaluate


def _optimize(process: Process, start: Array, weights: Array) -> Array:
    """The mode of θ's posterior. Shape (h,)."""
    reach = 4 * process.prior_sd
    bounds = list(zip(process.prior_mean - reach, process.prior_mean + reach, strict=True))
    found = minimize(
        _objective(process, weights),
        np.clip(start, process.prior_mean - reach, process.prior_mean + reach),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 50, "ftol": 1e-5},
    )
    mode: Array = found.x
    return mode


def _sample_theta(
    process: Process, mode: Array, weights: Array, rng: np.random.Generator, samples: int
) -> Array:
    """Sample θ around its mode with the inverse Hessian as covariance. Shape (k, h)."""
    if samples == 1:
        return mode[None]
    gradient, step = _objective(process, weights), 1e-3
    steps = step * np.eye(mode.size)
    rows = [(gradient(mode + e)[1] - gradient(mode - e)[1]) / (2 * step) for e in steps]
    values, vectors = np.linalg.eigh((np.array(rows) + np.array(rows).T) / 2)
    # Nothing is known less well than before the data were seen.
    least = 1 / np.max(process.prior_sd) ** 2
    sd = 1 / np.sqrt(np.maximum(values, least))
    moved = (rng.standard_normal((samples, mode.size)) * sd) @ vectors.T
    reach = 4 * process.prior_sd
    theta: Array = np.clip(mode + moved, process.prior_mean - reach, process.prior_mean + reach)
    return theta
