"""An exact Gaussian process of one output, with a seed effect and heavy-tailed replicate noise.

Symbols and shapes: n observations, p points to predict at, d inputs, m draws, k samples of the
hyperparameters, h = 4 + d of them. Values are standardized within.
    x   points    (n, d)     inputs in their own units
    y   values    (n,)       y = f(x) + level + seed effect + noise
    θ   theta     (k, h)     log(signal sd, noise sd, seed sd, seed-by-γ sd, lengthscales)
    w   weights   (n,)       noise variance of observation i is σ² · inflation_i / w_i
    K   (k, n, n)            covariance of y

The prior of the curve is a constant, a level of each scale and s² · Matérn-5/2 (ARD); the seed
effect, q² + v² · Matérn-5/2 over the first input (γ) between runs of one group, belongs to the
covariance of the data and not to the curve that is predicted. Noise is Student-t with ν = 4 as a scale
mixture: w_i = (ν + 1) / (ν + E[r_i²] / σ²) (Lange, Little & Taylor 1989). θ is integrated
over: a Laplace approximation around its posterior mode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

ALONE = -1
"""Group of an observation that has no seed effect."""
_SIGNAL, _NOISE, _SEED, _VARYING, _LENGTH = 0, 1, 2, 3, 4
_SD_PRIOR = np.array([(1.0, 0.6), (0.2, 0.8), (0.25, 0.8), (0.15, 0.8)])
_CONSTANT_VARIANCE = _LEVEL_VARIANCE = 1.0
_SEED_LENGTH = 0.3
_DEGREES = 4.0
_ROUNDS = 3
_JITTER = 1e-8
_GROWTH = 1.1


@dataclass(frozen=True, slots=True)
class Data:
    """Observations of one output.

    Attributes:
        points: Inputs. Shape (n, d).
        values: The output. Shape (n,).
        level: Which scale each belongs to. Shape (n,).
        group: Which seed effect each shares, or ``ALONE``. Shape (n,).
        inflation: Factor on the noise variance, > 0. Shape (n,).
        lengthscales: Prior median and log sd of each input's lengthscale. Shape (d, 2).
    """

    points: Array
    values: Array
    level: Integers
    group: Integers
    inflation: Array
    lengthscales: Array


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
        previous: An earlier fit, of the same inputs, to start from. Its θ is kept until the data have grown by a
            tenth; the weights are always found anew.
    """
    count = data.values.size
    weights = np.ones(count)
    if previous is not None and count < _GROWTH * previous.fitted:
        process = _Process(data, previous.shift, previous.scale)
        for _ in range(_ROUNDS):
            weights = process.reweight(previous.mode, weights)
        return replace(previous, data=data, weights=weights)
    shift, scale = float(data.values.mean()), max(float(data.values.std()), 1e-3)
    process = _Process(data, shift, scale)
    mode = process.prior_mean if previous is None else previous.mode
    for _ in range(_ROUNDS):
        mode = process.optimize(mode, weights)
        weights = process.reweight(mode, weights)
    theta = process.sample_theta(mode, weights, rng, samples)
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
    process = _Process(fit.data, fit.shift, fit.scale)
    theta = torch.from_numpy(fit.theta)
    new = torch.from_numpy(points)
    new_level = torch.from_numpy(level)
    factor = _cholesky(process.covariance(theta, torch.from_numpy(fit.weights)))
    cross = process.prior(theta, process.points, new, process.level, new_level)
    whitened = torch.linalg.solve_triangular(factor, cross, upper=False)
    target = torch.linalg.solve_triangular(factor, process.values[:, None], upper=False)
    mean = (whitened.mT @ target).squeeze(-1)
    covariance = process.prior(theta, new, new, new_level, new_level) - whitened.mT @ whitened
    normal = torch.from_numpy(normals).reshape(theta.shape[0], -1, points.shape[0])
    found = mean[:, None] + normal @ _cholesky(covariance).mT
    drawn: Array = found.reshape(normals.shape).numpy()
    return fit.shift + fit.scale * drawn


class _Process:
    """The model of one data set at any θ."""

    def __init__(self, data: Data, shift: float, scale: float) -> None:
        self.points = torch.from_numpy(data.points)
        self.values = torch.from_numpy((data.values - shift) / scale)
        self.level = torch.from_numpy(data.level)
        self.inflation = torch.from_numpy(data.inflation)
        group = torch.from_numpy(data.group)
        gamma = self.points[:, 0]
        self.seed = (group[:, None] == group) & (group[:, None] != ALONE)
        self.varying = self.seed * _matern(((gamma[:, None] - gamma) / _SEED_LENGTH) ** 2)
        prior = np.vstack([_SD_PRIOR, data.lengthscales])
        self.prior_mean: Array = np.log(prior[:, 0])
        self.prior_sd: Array = prior[:, 1]

    def prior(self, theta: Tensor, a: Tensor, b: Tensor, la: Tensor, lb: Tensor) -> Tensor:
        """Prior covariance of the curve between points (p, d) and (q, d). Shape (k, p, q)."""
        inverse = torch.exp(-theta[:, None, _LENGTH:])
        left, right = a * inverse, b * inverse
        squared = (left[:, :, None] - right[:, None]).square().sum(-1)
        signal = torch.exp(2 * theta[:, _SIGNAL])[:, None, None]
        same = (la[:, None] == lb) * _LEVEL_VARIANCE
        return signal * _matern(squared) + same + _CONSTANT_VARIANCE

    def latent(self, theta: Tensor) -> Tensor:
        """Covariance of curve and seed effect at the data. Shape (k, n, n)."""
        own = self.prior(theta, self.points, self.points, self.level, self.level)
        seed, varying = torch.exp(2 * theta[:, [_SEED, _VARYING], None, None]).unbind(1)
        return own + seed * self.seed + varying * self.varying

    def noise(self, theta: Tensor, weights: Tensor) -> Tensor:
        """Noise variances. Shape (k, n)."""
        return torch.exp(2 * theta[:, _NOISE])[:, None] * self.inflation / weights

    def covariance(self, theta: Tensor, weights: Tensor) -> Tensor:
        """Covariance of the data. Shape (k, n, n)."""
        return self.latent(theta) + torch.diag_embed(self.noise(theta, weights))

    def objective(self, weights: Array) -> Callable[[Array], tuple[float, Array]]:
        """−log p(θ | y) up to a constant, and its gradient, as a function of θ of shape (h,)."""
        weight = torch.from_numpy(weights)
        mean, sd = torch.from_numpy(self.prior_mean), torch.from_numpy(self.prior_sd)

        def evaluate(theta: Array) -> tuple[float, Array]:
            free = torch.tensor(theta, requires_grad=True)
            factor = _cholesky(self.covariance(free[None], weight))[0]
            white = torch.linalg.solve_triangular(factor, self.values[:, None], upper=False)
            fitness = 0.5 * white.square().sum() + factor.diagonal().log().sum()
            loss = fitness + 0.5 * ((free - mean) / sd).square().sum()
            (gradient,) = torch.autograd.grad(loss, free)
            return float(loss.detach()), gradient.numpy()

        return evaluate

    def optimize(self, start: Array, weights: Array) -> Array:
        """The mode of θ's posterior. Shape (h,)."""
        reach = 4 * self.prior_sd
        bounds = list(zip(self.prior_mean - reach, self.prior_mean + reach, strict=True))
        found = minimize(
            self.objective(weights),
            np.clip(start, self.prior_mean - reach, self.prior_mean + reach),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": 50, "ftol": 1e-5},
        )
        mode: Array = found.x
        return mode

    def reweight(self, mode: Array, weights: Array) -> Array:
        """Expected precision of each observation's noise under Student-t. Shape (n,)."""
        theta, old = torch.from_numpy(mode)[None], torch.from_numpy(weights)
        latent, noise = self.latent(theta)[0], self.noise(theta, old)[0]
        factor = _cholesky((latent + torch.diag(noise))[None])[0]
        # Posterior of the noise: mean N K⁻¹ y and variance N − N K⁻¹ N.
        inverse = torch.cholesky_inverse(factor)
        residual = noise * (inverse @ self.values)
        variance = noise - noise.square() * inverse.diagonal()
        base = self.noise(theta, torch.ones_like(old))[0]
        ratio = (residual.square() + variance.clamp_min(0)) / base
        expected: Array = ((_DEGREES + 1) / (_DEGREES + ratio)).numpy()
        return expected

    def sample_theta(
        self, mode: Array, weights: Array, rng: np.random.Generator, samples: int
    ) -> Array:
        """Sample θ around its mode with the inverse Hessian as covariance. Shape (k, h)."""
        if samples == 1:
            return mode[None]
        gradient, step = self.objective(weights), 1e-3
        steps = step * np.eye(mode.size)
        rows = [(gradient(mode + e)[1] - gradient(mode - e)[1]) / (2 * step) for e in steps]
        values, vectors = np.linalg.eigh((np.array(rows) + np.array(rows).T) / 2)
        # Nothing is known less well than before the data were seen.
        least = 1 / np.max(self.prior_sd) ** 2
        sd = 1 / np.sqrt(np.maximum(values, least))
        moved = (rng.standard_normal((samples, mode.size)) * sd) @ vectors.T
        reach = 4 * self.prior_sd
        return np.clip(mode + moved, self.prior_mean - reach, self.prior_mean + reach)


def _matern(squared: Tensor) -> Tensor:
    """Matérn-5/2 correlation at a squared scaled distance, any shape."""
    root = (5 * squared + 1e-12).sqrt()
    correlation: Tensor = (1 + root + root.square() / 3) * torch.exp(-root)
    return correlation


def _cholesky(matrix: Tensor) -> Tensor:
    """Factor (k, n, n), raising the jitter tenfold until it succeeds.

    Raises:
        RuntimeError: The matrix is not positive definite even so: its entries are not finite.
    """
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype)
    for attempt in range(6):
        factor, info = torch.linalg.cholesky_ex(matrix + _JITTER * 10.0**attempt * eye)
        if int(info.max()) == 0:
            found: Tensor = factor
            return found
    raise RuntimeError("the covariance of the Gaussian process is not positive definite")
