"""R, log₂ ρ and γ* of a table's runs, by resampled seeds.

Symbols and shapes: g values of γ, k learning rates, s seeds.
    reasoning   (g, k, s)     R of docs/quantities.md
    log_loss    (g, k, s)     log of the least validation loss
    efficiency  (g, k, s, k)  log₂ ρ against the reference of the same seed at each rate, octaves

What was not run is NaN. γ* comes from the rule ``balance`` on means over seeds, at each γ at the
rate with the least mean log loss, smoothed over γ by a Gaussian kernel of sd ``SMOOTHING``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from table_file import KEY

from critical.inference.objectives import Curve, efficiency, final_loss, reasoning_score
from critical.inference.rules import middle_argmax, share

Array = NDArray[np.float64]

REFERENCE = 0.5
SMOOTHING = 0.05
STEP = 0.01
_DIVERGED = Curve(np.empty(0), np.empty(0), np.empty(0))


@dataclass(frozen=True, slots=True)
class Surfaces:
    """The runs of one width of a table; see the module's text for the shapes."""

    width: int
    gammas: Array
    rates: Array
    seeds: tuple[int, ...]
    reasoning: Array
    log_loss: Array
    efficiency: Array
    trained_accuracy: Array

    def at_rate(self, rate: float) -> Surfaces:
        """Return what is known at one learning rate, the reference's too."""
        one = np.isclose(self.rates, rate)
        found = replace(
            self,
            rates=self.rates[one],
            reasoning=self.reasoning[:, one],
            log_loss=self.log_loss[:, one],
            efficiency=self.efficiency[:, one][..., one],
            trained_accuracy=self.trained_accuracy[:, one],
        )
        known = np.isfinite(found.reasoning.sum(axis=(1, 2)))
        return found.of_gammas(np.flatnonzero(known).tolist())

    def of_gammas(self, places: Sequence[int]) -> Surfaces:
        """Return the runs of some γ, given by their places."""
        chosen = list(places)
        return replace(
            self,
            gammas=self.gammas[chosen],
            reasoning=self.reasoning[chosen],
            log_loss=self.log_loss[chosen],
            efficiency=self.efficiency[chosen],
            trained_accuracy=self.trained_accuracy[chosen],
        )

    def of_seeds(self, places: Sequence[int]) -> Surfaces:
        """Return the runs of some seeds, given by their places."""
        chosen = list(places)
        return replace(
            self,
            seeds=tuple(self.seeds[place] for place in chosen),
            reasoning=self.reasoning[..., chosen],
            log_loss=self.log_loss[..., chosen],
            efficiency=self.efficiency[:, :, chosen],
            trained_accuracy=self.trained_accuracy[..., chosen],
        )


@dataclass(frozen=True, slots=True)
class Balance:
    """The curves over a grid of γ for some seeds, and where they balance.

    Attributes:
        gamma: The grid, steps of ``STEP``. Shape (n,).
        reasoning: R. Shape (n,).
        efficiency: log₂ ρ, octaves. Shape (n,).
        share: Of both that is kept. Shape (n,).
        star: γ*.
        most_reasoning: γ with the greatest R.
        most_efficient: γ with the greatest ρ.
    """

    gamma: Array
    reasoning: Array
    efficiency: Array
    share: Array
    star: float
    most_reasoning: float
    most_efficient: float


def surfaces(table: pa.Table, width: int, part: float = 1.0) -> Surfaces:
    """Gather the runs of a width, as they were after a part of their tokens.

    Of a table that is still being made, the seeds that have come furthest, and the γ that all of
    these have run.
    """
    rows = table.filter(pc.equal(table["width"], width))
    limit = part * pc.max(rows["tokens"]).as_py()
    found = curves(rows.filter(pc.less_equal(rows["tokens"], limit * 1.0001)))
    gammas, rates = (sorted({float(key[i]) for key in found}) for i in (0, 1))
    seeds = sorted({key[2] for key in found})
    shape = len(gammas), len(rates), len(seeds)
    reasoning, log_loss, accuracy = (np.full(shape, np.nan) for _ in range(3))
    against = np.full((*shape, len(rates)), np.nan)
    for (gamma, rate, seed), curve in found.items():
        at = gammas.index(gamma), rates.index(rate), seeds.index(seed)
        whole = bool(np.isfinite(curve.loss).all())
        reasoning[at] = reasoning_score(curve) if whole else 0.0
        log_loss[at] = math.log(final_loss(curve)) if whole else np.inf
        assert curve.trained_accuracy is not None
        accuracy[at] = curve.trained_accuracy[-1]
        for other, reference_rate in enumerate(rates):
            reference = found.get((REFERENCE, reference_rate, seed), _DIVERGED)
            if reference.tokens.size and np.isfinite(reference.loss).all():
                against[(*at, other)] = efficiency(curve, reference).log2 if whole else -6.0
    every = Surfaces(
        width, np.array(gammas), np.array(rates), tuple(seeds), reasoning, log_loss, against,
        accuracy,
    )  # fmt: skip
    return _whole(every)


def curves(rows: pa.Table) -> dict[tuple[float, float, int], Curve]:
    """Return the runs of one width by γ, learning rate and seed."""
    names = (*KEY[1:], "tokens", "loss", "reasoning", "trained_accuracy")
    columns = {name: rows[name].to_numpy() for name in names}
    order = np.lexsort([columns[name] for name in reversed(names[:4])])
    keys = np.column_stack([columns[name][order] for name in names[:3]])
    starts = np.flatnonzero(np.r_[True, (keys[1:] != keys[:-1]).any(axis=1)])
    found = {}
    for places in np.split(order, starts[1:]):
        key = tuple(columns[name][places[0]].item() for name in names[:3])
        found[key] = Curve(*(columns[name][places].astype(np.float64) for name in names[3:]))
    return found


def best_places(found: Surfaces, seeds: Sequence[int]) -> tuple[NDArray[np.int64], int]:
    """Return the place of the rate with the least mean log loss at each γ, and the reference's."""
    loss = found.log_loss[:, :, list(seeds)].mean(axis=2)
    best: NDArray[np.int64] = np.argmin(np.where(np.isnan(loss), np.inf, loss), axis=1)
    return best, int(best[np.argmin(np.abs(found.gammas - REFERENCE))])


def balance(found: Surfaces, seeds: Sequence[int]) -> Balance:
    """Balance the means over some seeds, given by their places; one may be taken several times."""
    best, reference = best_places(found, seeds)
    places = np.arange(found.gammas.size)
    reasoning = found.reasoning[places, best][:, list(seeds)].mean(axis=1)
    log_rho = found.efficiency[places, best][:, list(seeds), reference].mean(axis=1)
    gamma = np.arange(found.gammas[0], found.gammas[-1] + STEP / 2, STEP)
    weight = np.exp(-0.5 * ((gamma[:, None] - found.gammas) / SMOOTHING) ** 2)
    weight /= weight.sum(axis=1, keepdims=True)
    smooth_r, smooth_e = weight @ reasoning, weight @ log_rho
    both = share(smooth_r[None], smooth_e[None])
    return Balance(
        gamma,
        smooth_r,
        smooth_e,
        both[0],
        *(
            float(gamma[middle_argmax(score)[0]])
            for score in (both, smooth_r[None], smooth_e[None])
        ),
    )


def resampled(count: int, draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return places of seeds drawn with replacement. Shape (draws, count)."""
    return rng.integers(0, count, (draws, count))


def stars(found: Surfaces, draws: NDArray[np.int64]) -> Array:
    """Return γ* for each draw of seeds. Shape (draws,)."""
    return np.array([balance(found, row).star for row in draws.tolist()])


def standard_error(draws: Array, seeds: int) -> float:
    """Return the standard error of what was drawn over n > 1 seeds: its sd · √(n / (n − 1))."""
    return float(draws.std() * np.sqrt(seeds / (seeds - 1)))


def _whole(found: Surfaces) -> Surfaces:
    ran = ~np.isnan(found.log_loss)
    reached = ran.any(axis=1).sum(axis=0)  # γ; a seed may have further rates from an older design
    furthest = found.of_seeds(np.flatnonzero(reached == reached.max()).tolist())
    at_no_rate = np.isnan(furthest.log_loss.sum(axis=2)).sum(axis=1) == furthest.rates.size
    return furthest.of_gammas(np.flatnonzero(~at_no_rate).tolist())
