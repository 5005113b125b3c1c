"""The Gaussian process of one output at any hyperparameters.

Symbols and shapes: n observations, p points, d inputs, k values of the hyperparameters, h = 4 + d
of them. Values are standardized.
    x   points    (n, d)     inputs in their own units
    y   values    (n,)       y = f(x) + level + seed effect + noise
    θ   theta     (k, h)     log(signal sd, noise sd, seed sd, seed-by-γ sd, lengthscales)
    w   weights   (n,)       noise variance of observation i is σ² · inflation_i / w_i
    K             (k, n, n)  covariance of y

The prior of the curve is a constant, a level of each scale and s² · Matérn-5/2 (ARD); the seed
effect, q² + v² · Matérn-5/2 over the first input (γ) between runs of one group, belongs to the
covariance of the data and not to the curve that is predicted. Noise is Student-t with ν = 4 as a
scale mixture: w_i = (ν + 1) / (ν + E[r_i²] / σ²) (Lange, Little & Taylor 1989).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

ALONE = -1
"""Group of an observation that has no seed effect."""
_SIGNAL, _NOISE, _SEED, _VARYING, _LENGTH = 0, 1, 2, 3, 4
SD_PRIOR = np.array([(1.0, 0.6), (0.2, 0.8), (0.25, 0.8), (0.15, 0.8)])
"""Prior median and log sd of the signal, noise, seed and seed-by-γ sd, in parts of the scale."""
_CONSTANT_VARIANCE = _LEVEL_VARIANCE = 1.0
_SEED_LENGTH = 0.3
_DEGREES = 4.0
ROUNDS = 3
"""Turns of expectation and maximization: the weights have settled by then."""
_JITTER = 1e-8


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
        sd_prior: Prior median and log sd of the four sds, in parts of the scale. Shape (4, 2).
        least_scale: The scale is the values' sd, and at least this. Few values may happen to be
            alike; that does not make them exact.
    """

    points: Array
    values: Array
    level: Integers
    group: Integers
    inflation: Array
    lengthscales: Array
    sd_prior: Array = field(default_factory=SD_PRIOR.copy)
    least_scale: float = 1e-3

    def taking(self, which: Integers | NDArray[np.bool_]) -> Data:
        """Return some of the observations, by index or mask."""
        return replace(
            self,
            points=self.points[which],
            values=self.values[which],
            level=self.level[which],
            group=self.group[which],
            inflation=self.inflation[which],
        )


class Process:
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
        prior = np.vstack([data.sd_prior, data.lengthscales])
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

    def settle(self, mode: Array) -> Array:
        """Noise weights at a θ that stays as it is. Shape (n,)."""
        weights = np.ones(len(self.values))
        for _ in range(ROUNDS):
            weights = self.reweight(mode, weights)
        return weights

    def reweight(self, mode: Array, weights: Array) -> Array:
        """Expected precision of each observation's noise under Student-t. Shape (n,)."""
        theta, old = torch.from_numpy(mode)[None], torch.from_numpy(weights)
        latent, noise = self.latent(theta)[0], self.noise(theta, old)[0]
        factor = cholesky((latent + torch.diag(noise))[None])[0]
        # Posterior of the noise: mean N K⁻¹ y and variance N − N K⁻¹ N.
        inverse = torch.cholesky_inverse(factor)
        residual = noise * (inverse @ self.values)
        variance = noise - noise.square() * inverse.diagonal()
        base = self.noise(theta, torch.ones_like(old))[0]
        ratio = (residual.square() + variance.clamp_min(0)) / base
        expected: Array = ((_DEGREES + 1) / (_DEGREES + ratio)).numpy()
        return expected


def _matern(squared: Tensor) -> Tensor:
    """Matérn-5/2 correlation at a squared scaled distance, any shape."""
    root = (5 * squared + 1e-12).sqrt()
    correlation: Tensor = (1 + root + root.square() / 3) * torch.exp(-root)
    return correlation


def cholesky(matrix: Tensor) -> Tensor:
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
