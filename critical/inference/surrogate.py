"""The surrogate of R, log₂ ρ and the loss over (γ, learning rate, width): one GP an output.

Symbols and shapes: n observations, p points, m joint draws.
    inputs      (·, 3)  γ; ln of the learning rate, 0 where there is none; log₂ width
    arcsin √R   (n,)    radians in [0, π/2]: a proportion's noise is level on this scale
    log₂ ρ      (n,)    octaves
    log loss    (n,)    ln nats per token

Inputs that do not vary over the observations are dropped. Two things that the objectives say
are told to the model otherwise: a diverged run (log₂ ρ = −6) counts as one octave worse than any
finished one, as a cliff of six octaves would set the lengthscale of the whole curve; and the
baselines of a scale, whose log₂ ρ is 0 by definition, count as one exact observation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from critical.inference.gaussian_process import Fit, draw, fit
from critical.inference.noisy_process import ALONE, Data
from critical.inference.objectives import LOG2_EFFICIENCY_LIMIT, Observation

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

HYPERPARAMETER_SAMPLES = 8
"""Samples of the hyperparameters that the draws are spread over."""
_LENGTHSCALES = np.array([(0.27, 0.35), (1.6, 0.5), (3.0, 0.6)])
"""Prior median and log sd: γ, e-folds of the learning rate, octaves of width. Shape (3, 2)."""
_REASONING_SDS = np.array([(1.0, 0.6), (0.37, 0.5), (0.2, 0.6), (0.6, 0.35)])
"""R is noisier than the others: prior median and log sd of its sds, as in ``SD_PRIOR``.

Both are about what the modes are on the tables of data/, where a seed moves γ* by 0.06 (sd). What a
few seeds have in common by chance is no evidence that all seeds have it, hence how narrow the last
one is. The least scales below are what the modes were on two searches of the built-in trial.
"""
_SEED_LENGTHS = np.array([0.2, np.inf, 0.5])
_REASONING_SEED_LENGTHS = np.array([0.2, np.inf, 1.0])
"""Lengthscales of a seed's effect, over inputs in their units: the likeliest on those tables. Its
data and held-out items are the same at every width, so what it does to R is alike at others."""
_DOUBTFUL = 9.0
"""Factor on the noise variance of a censored or unresolved log₂ ρ."""
_EXACT = 1e-4
MOST = 600
"""Observations of one settings that are conditioned on, beside the baselines: their cube is what a
posterior costs, and the seeds' effects, not the number of runs, are what is left to know."""
_NEW_LEVEL = -1


@dataclass(frozen=True, slots=True)
class Draws:
    """Joint posterior draws at p points. Each of shape (m, p)."""

    reasoning: Array
    log2_efficiency: Array
    log_loss: Array


@dataclass(frozen=True, slots=True)
class Surrogate:
    """The three fitted processes, and what translates points into their inputs."""

    varying: tuple[int, ...]
    widths: tuple[int, ...]
    reasoning: Fit
    log2_efficiency: Fit
    log_loss: Fit


def inputs(gamma: Array, learning_rate: Array, width: Array) -> Array:
    """Stack points of the design into inputs; a learning rate of NaN stands for none.

    Args:
        gamma: γ. Shape (p,).
        learning_rate: Rates, > 0 or NaN. Shape (p,).
        width: Model widths, > 0. Shape (p,).

    Returns:
        Shape (p, 3).
    """
    return np.column_stack([gamma, np.nan_to_num(np.log(learning_rate)), np.log2(width)])


def fit_surrogate(
    observations: Sequence[Observation],
    rng: np.random.Generator,
    previous: Surrogate | None = None,
) -> Surrogate:
    """Fit the three processes to the observations of one settings.

    Args:
        observations: At least one, of any widths. Of more than ``MOST`` some stand for all.
        rng: For sampling hyperparameters.
        previous: An earlier surrogate of the same search, whose hyperparameters are kept until
            the data have grown by a tenth, and started from then.
    """
    found = _thinned(sorted(observations, key=_canonical))
    points = inputs(
        np.array([one.gamma for one in found]),
        np.array([one.learning_rate or np.nan for one in found]),
        np.array([one.width for one in found], dtype=np.float64),
    )
    varying = tuple(i for i in range(3) if i == 0 or np.ptp(points[:, i]) > 0)
    widths = tuple(sorted({one.width for one in found}))
    data = _Builder(found, points[:, varying], varying, widths)
    same = previous if previous is not None and previous.varying == varying else None
    pairs = (
        (data.reasoning(), same.reasoning if same else None),
        (data.efficiency(), same.log2_efficiency if same else None),
        (data.log_loss(), same.log_loss if same else None),
    )
    with _one_thread():
        fits = [fit(one, rng, HYPERPARAMETER_SAMPLES, earlier) for one, earlier in pairs]
    return Surrogate(varying, widths, *fits)


def draw_surfaces(
    surrogate: Surrogate, points: Array, count: int, rng: np.random.Generator
) -> Draws:
    """Draw R, log₂ ρ and log loss of the mean over seeds, jointly over all points.

    Args:
        surrogate: Fitted.
        points: As ``inputs`` stacks them. Shape (p, 3).
        count: m, a multiple of ``HYPERPARAMETER_SAMPLES``.
        rng: For the draws.
    """
    x = np.ascontiguousarray(points[:, surrogate.varying])
    same = np.isclose(points[:, 2, None], np.log2(surrogate.widths))
    level = np.where(same.any(axis=1), same.argmax(axis=1), _NEW_LEVEL)
    normals = rng.standard_normal((3, count, len(points)))
    with _one_thread():
        angle = draw(surrogate.reasoning, x, level, normals[0])
        efficiency = draw(surrogate.log2_efficiency, x, level, normals[1])
        log_loss = draw(surrogate.log_loss, x, level, normals[2])
    return Draws(
        np.sin(np.clip(angle, 0, np.pi / 2)) ** 2,
        np.clip(efficiency, -LOG2_EFFICIENCY_LIMIT, LOG2_EFFICIENCY_LIMIT),
        log_loss,
    )


@dataclass(frozen=True, slots=True)
class _Builder:
    """The data of each output, from observations in canonical order."""

    found: Sequence[Observation]
    points: Array
    varying: tuple[int, ...]
    widths: tuple[int, ...]

    def reasoning(self) -> Data:
        score = np.array([one.reasoning for one in self.found])
        angle = np.arcsin(np.sqrt(np.clip(score, 0, 1)))
        return replace(
            self._data(angle),
            least_scale=0.1,
            sd_prior=_REASONING_SDS,
            seed_lengths=_REASONING_SEED_LENGTHS[list(self.varying)],
        )

    def log_loss(self) -> Data:
        found = self._data(np.array([one.log_loss for one in self.found]))
        return replace(found, least_scale=0.4)

    def efficiency(self) -> Data:
        values = np.array([one.log2_efficiency for one in self.found])
        diverged = np.array([one.diverged for one in self.found])
        baseline = np.array([one.baseline for one in self.found])
        doubtful = np.array([one.censored or one.unresolved for one in self.found])
        finished = values[~diverged]
        values = np.where(diverged, np.maximum(values, finished.min(initial=0.0) - 1), values)
        inflation = np.where(baseline, _EXACT, np.where(doubtful, _DOUBTFUL, 1.0))
        groups = np.where(baseline, ALONE, self._groups())
        whole = replace(self._data(values, groups, inflation), least_scale=0.45)
        return whole.taking(self._first_baselines() | ~baseline)

    def _data(
        self, values: Array, group: Integers | None = None, inflation: Array | None = None
    ) -> Data:
        return Data(
            points=np.ascontiguousarray(self.points),
            values=values,
            level=np.searchsorted(self.widths, [one.width for one in self.found]),
            group=self._groups() if group is None else group,
            inflation=np.ones(len(values)) if inflation is None else inflation,
            lengthscales=_LENGTHSCALES[list(self.varying)],
            seed_lengths=_SEED_LENGTHS[list(self.varying)],
        )

    def _groups(self) -> Integers:
        return np.unique([one.seed for one in self.found], return_inverse=True)[1]

    def _first_baselines(self) -> NDArray[np.bool_]:
        seen: set[int] = set()
        first = []
        for one in self.found:
            first.append(one.baseline and one.width not in seen)
            if one.baseline:
                seen.add(one.width)
        return np.array(first)


def _thinned(found: Sequence[Observation]) -> Sequence[Observation]:
    """Keep ``MOST``, evenly spaced in canonical order: so in width, in seed and in γ."""
    if len(found) <= MOST:
        return found
    even = set(np.linspace(0, len(found) - 1, MOST).round().astype(int).tolist())
    return [one for index, one in enumerate(found) if index in even or one.baseline]


def _canonical(one: Observation) -> tuple[float, ...]:
    rate = one.learning_rate or 0.0
    return (one.width, one.seed, one.gamma, rate, one.reasoning, one.log2_efficiency)


@contextmanager
def _one_thread() -> Iterator[None]:
    # Beside busy workers, a second thread waits for a core at every small operation.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
