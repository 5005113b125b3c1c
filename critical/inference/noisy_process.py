"""The Gaussian process of one output at any hyperparameters.

Symbols and shapes: n observations, p and q points, d inputs, h = 4 + d hyperparameters. Values are
standardized.
    x   points    (n, d)     inputs in their own units
    y   values    (n,)       y = f(x) + level + seed effect + noise
    g   lengths   (d,)       lengthscales of the seed effect
    θ   theta     (h,)       log(signal sd, noise sd, seed sd, seed-by-γ sd, lengthscales)
    w   weights   (n,)       noise variance of observation i is σ² · inflation_i / w_i
    D   squares   (d, p, q)  squared differences of each input between points
    C   shared    (p, q)     prior covariance of what does not depend on θ: constant and level
    K             (n, n)     covariance of y

The prior of the curve is a constant, a level of each scale and s² · Matérn-5/2 (ARD). The seed
effect is between runs of one group q² + v² · Matérn-5/2 over the first input (γ), and both parts
fade over the other inputs, by another Matérn-5/2; it belongs to the covariance of the data and not
to the curve that is predicted. Noise is Student-t with ν = 4 as a scale mixture:
w_i = (ν + 1) / (ν + E[r_i²] / σ²) (Lange, Little & Taylor 1989).

The gradient over θ is written out (Rasmussen & Williams 2006, eq. 5.9): it costs one inverse and
a few products more than the value, a third of what automatic differentiation took.
"""

from __future__ import annotations

import math
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
SD_PRIOR = np.array([(1.0, 0.6), (0.14, 0.6), (0.13, 0.6), (0.25, 0.4)])
"""Prior median and log sd of the signal, noise, seed and seed-by-γ sd, in parts of the scale."""
_CONSTANT_VARIANCE = _LEVEL_VARIANCE = 1.0
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
        seed_lengths: g, over which a seed's effect changes with each input; infinite where it
            does not. Shape (d,).
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
    seed_lengths: Array
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
        self._squares = squares(self.points, self.points)
        self._shared = shared(self.level, self.level)
        group = torch.from_numpy(data.group)
        same = (group[:, None] == group) & (group[:, None] != ALONE)
        elsewhere = data.seed_lengths.copy()
        elsewhere[0] = np.inf
        self._seed = same * _correlation(elsewhere, self._squares)
        self._varying = same * _correlation(data.seed_lengths, self._squares)
        prior = np.vstack([data.sd_prior, data.lengthscales])
        self.prior_mean: Array = np.log(prior[:, 0])
        self.prior_sd: Array = prior[:, 1]

    def latent(self, theta: Array) -> Tensor:
        """Covariance of curve and seed effect at the data. Shape (n, n)."""
        own = prior(theta, self._squares, self._shared)
        return self._add_seeds(own, theta)

    def noise(self, theta: Array, weights: Tensor) -> Tensor:
        """Noise variances. Shape (n,)."""
        return _variance(theta, _NOISE) * self.inflation / weights

    def factor(self, theta: Array, weights: Tensor) -> Tensor:
        """Lower Cholesky factor of K. Shape (n, n)."""
        return _factor(self.latent(theta), self.noise(theta, weights))

    def evaluate(self, theta: Array, weights: Array) -> tuple[float, Array]:
        """−log p(y | θ) up to a constant, and its gradient. Shapes () and (h,)."""
        root, closeness = _roots(theta, self._squares)
        decay = torch.exp(-root)
        correlation = _polynomial(root).mul_(decay)
        signal, noise = _variance(theta, _SIGNAL), self.noise(theta, torch.from_numpy(weights))
        latent = torch.add(self._shared, correlation, alpha=signal)
        factor = _factor(self._add_seeds(latent, theta), noise)
        inverse = torch.cholesky_inverse(factor).mT  # symmetric, and so laid out as the others
        solved = inverse @ self.values
        value = 0.5 * self.values @ solved + factor.diagonal().log().sum()
        # Half of this is what a change of K's entries does to the value.
        by_entry = inverse.addr_(solved, solved, alpha=-1)
        flat = by_entry.view(-1)
        sds = (
            signal * float(flat @ correlation.view(-1)),
            float(noise @ by_entry.diagonal()),
            _variance(theta, _SEED) * float(flat @ self._seed.view(-1)),
            _variance(theta, _VARYING) * float(flat @ self._varying.view(-1)),
        )
        # d Matérn / d ln ℓ_j = 5/3 (1 + √5 r) exp(−√5 r) D_j / ℓ_j².
        by_square = root.add_(1).mul_(decay).mul_(by_entry).view(-1)
        moved = (self._squares.flatten(1) @ by_square).numpy()
        return float(value), np.append(sds, 5 / 6 * signal * closeness * moved)

    def settle(self, mode: Array) -> Array:
        """Noise weights at a θ that stays as it is. Shape (n,)."""
        latent, weights = self.latent(mode), torch.ones_like(self.values)
        for _ in range(ROUNDS):
            weights = self._expected(mode, latent, weights)
        return weights.numpy()

    def reweight(self, mode: Array, weights: Array) -> Array:
        """Expected precision of each observation's noise under Student-t. Shape (n,)."""
        return self._expected(mode, self.latent(mode), torch.from_numpy(weights)).numpy()

    def _add_seeds(self, covariance: Tensor, theta: Array) -> Tensor:
        covariance.add_(self._seed, alpha=_variance(theta, _SEED))
        return covariance.add_(self._varying, alpha=_variance(theta, _VARYING))

    def _expected(self, theta: Array, latent: Tensor, weights: Tensor) -> Tensor:
        noise = self.noise(theta, weights)
        # Posterior of the noise: mean N K⁻¹ y and variance N − N K⁻¹ N.
        inverse = torch.cholesky_inverse(_factor(latent, noise))
        residual = noise * (inverse @ self.values)
        variance = noise - noise.square() * inverse.diagonal()
        base = self.noise(theta, torch.ones_like(weights))
        ratio = (residual.square() + variance.clamp_min(0)) / base
        expected: Tensor = (_DEGREES + 1) / (_DEGREES + ratio)
        return expected


def squares(a: Tensor, b: Tensor) -> Tensor:
    """D, the squared difference of each input between points (p, d) and (q, d). Shape (d, p, q)."""
    return (a.T[:, :, None] - b.T[:, None, :]).square()


def shared(a: Tensor, b: Tensor) -> Tensor:
    """C between points of levels (p,) and (q,). Shape (p, q)."""
    return (a[:, None] == b) * _LEVEL_VARIANCE + _CONSTANT_VARIANCE


def prior(theta: Array, squares: Tensor, shared: Tensor) -> Tensor:
    """Prior covariance of the curve between points, from their D and C. Shape (p, q)."""
    root, _ = _roots(theta, squares)
    return torch.add(shared, _matern(root), alpha=_variance(theta, _SIGNAL))


def cholesky(matrix: Tensor) -> Tensor:
    """Factor a symmetric matrix, raising the jitter tenfold until it succeeds. Shape (p, p).

    Raises:
        RuntimeError: The matrix is not positive definite even so: its entries are not finite.
    """
    for attempt in range(6):
        raised = matrix.clone()
        raised.diagonal().add_(_JITTER * 10.0**attempt)
        factor, info = torch.linalg.cholesky_ex(raised)
        if int(info) == 0:
            found: Tensor = factor
            return found
    raise RuntimeError("the covariance of the Gaussian process is not positive definite")


def _factor(latent: Tensor, noise: Tensor) -> Tensor:
    return cholesky(latent + torch.diag(noise))


def _variance(theta: Array, which: int) -> float:
    # A plain number: torch multiplies by a tensor of one many times slower.
    return math.exp(2 * theta[which])


def _roots(theta: Array, squares: Tensor) -> tuple[Tensor, Array]:
    """√5 r, the scaled distances between points, (p, q), and 1 / ℓ² of every input, (d,)."""
    closeness: Array = np.exp(-2 * theta[_LENGTH:])
    return _scaled(closeness, squares), closeness


def _scaled(closeness: Array, squares: Tensor) -> Tensor:
    """√5 r, given 1 / ℓ² of every input, (d,). Shape (p, q)."""
    squared = torch.from_numpy(5 * closeness) @ squares.flatten(1)
    return squared.sqrt_().view(squares.shape[1:])


def _correlation(lengths: Array, squares: Tensor) -> Tensor:
    """Matérn-5/2 correlation at lengthscales that are known. Shapes (d,) and (p, q)."""
    return _matern(_scaled(lengths**-2, squares))


def _polynomial(root: Tensor) -> Tensor:
    """1 + √5 r + 5 r² / 3 at √5 r, any shape."""
    return (root / 3).add_(1).mul_(root).add_(1)


def _matern(root: Tensor) -> Tensor:
    """Matérn-5/2 correlation at √5 r, any shape; the argument is written over."""
    return _polynomial(root).mul_(root.neg_().exp_())
