"""Trials that play back the tables of data/: real runs, without running anything.

    critical search --budget 60trials --trainable benchmarks/table_trial.py:main --workers 0
        --widths 64,96,128 --lr 1.5e-3,3e-3 --tokens 1024000

Without --lr each γ has the learning rate that is best there. Between the γ that were run, log loss,
arcsin √R and trained accuracy are linear in γ. The seeds of a search take turns at those of the
table, those of its confirmation too: what it confirms is not news.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from statistics import fmean

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from table_file import read
from table_surfaces import curves

from critical.inference.objectives import Curve, final_loss
from critical.trials import Measurement, ProxyRun

Array = NDArray[np.float64]


def main(run: ProxyRun) -> Iterator[Measurement]:
    """Play a run of data/main.parquet back; see ``play``."""
    return play("main", run)


def truth(run: ProxyRun) -> Iterator[Measurement]:
    """Play a run of data/truth.parquet back; see ``play``."""
    return play("truth", run)


def mixture(run: ProxyRun) -> Iterator[Measurement]:
    """Play a run of data/mixture.parquet back; see ``play``."""
    return play("mixture", run)


@dataclass(frozen=True, slots=True)
class Played:
    """The runs of one width, learning rate and seed, by γ.

    Attributes:
        gammas: That were run, ascending. Shape (g,).
        tokens: At the measurements. Shape (n,).
        log_loss: Log of the loss, nats per token. Shape (g, n).
        angle: arcsin √R, radians. Shape (g, n).
        accuracy: Of trained items. Shape (g, n).
    """

    gammas: Array
    tokens: Array
    log_loss: Array
    angle: Array
    accuracy: Array

    @classmethod
    def of(cls, by_gamma: Mapping[float, Curve]) -> Played:
        """Return runs by γ, measured after the same tokens."""
        gammas = sorted(by_gamma)
        own = [by_gamma[gamma] for gamma in gammas]
        return cls(
            np.array(gammas),
            own[0].tokens,
            np.log([one.loss for one in own]),
            np.arcsin(np.sqrt([one.reasoning for one in own])),
            np.array([one.trained_accuracy for one in own]),
        )

    def at(self, gamma: float) -> Iterator[Measurement]:
        """Yield what a run at a γ measures; beyond the γ that were run, what the last one did."""
        rows = np.stack([self.log_loss, self.angle, self.accuracy])
        found = np.apply_along_axis(lambda row: np.interp(gamma, self.gammas, row), 1, rows)
        for tokens, log_loss, angle, accuracy in zip(self.tokens, *found, strict=True):
            yield Measurement(
                int(tokens),
                float(np.exp(log_loss)),
                float(np.sin(angle) ** 2),
                {"trained_accuracy": float(accuracy)},
            )


def play(table: str, run: ProxyRun) -> Iterator[Measurement]:
    """Play a run back; without a learning rate, at the one that is best at each γ.

    Raises:
        ValueError: The table has no such width or learning rate, or other tokens.
    """
    found = _played(table, run.scale.width)
    seeds = sorted({seed for _, seed in found})
    key = run.learning_rate, seeds[run.seed % len(seeds)] if seeds else 0
    if key not in found:
        rates = sorted({rate for rate, _ in found if rate is not None})
        raise ValueError(
            f"data/{table}.parquet has no runs of width {run.scale.width} at learning rate "
            f"{run.learning_rate}: its rates there are {rates}"
        )
    if not np.isclose(found[key].tokens[-1], run.scale.tokens, rtol=1e-3):  # whole batches
        raise ValueError(
            f"the runs of data/{table}.parquet are of {found[key].tokens[-1]:.0f} tokens, not "
            f"{run.scale.tokens}: write them as --tokens"
        )
    yield from found[key].at(run.gamma)


@cache
def _played(table: str, width: int) -> dict[tuple[float | None, int], Played]:
    """Return the runs of a width by learning rate, None for each γ's best, and seed."""
    rows = read(table)
    runs = curves(rows.filter(pc.equal(rows["width"], width)))
    by_key: dict[tuple[float | None, int], dict[float, Curve]] = defaultdict(dict)
    best = _best_rates(runs)
    for (gamma, rate, seed), curve in runs.items():
        by_key[rate, seed][gamma] = curve
        if rate == best[gamma]:
            by_key[None, seed][gamma] = curve
    return {key: Played.of(by_gamma) for key, by_gamma in by_key.items()}


def _best_rates(runs: Mapping[tuple[float, float, int], Curve]) -> dict[float, float]:
    """Return the rate with the least mean log loss at each γ, of those that most seeds have."""
    losses: dict[float, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (gamma, rate, _), curve in runs.items():
        losses[gamma][rate].append(float(np.log(final_loss(curve))))
    best = {}
    for gamma, rates in losses.items():
        most = max(map(len, rates.values()))
        means = {rate: fmean(found) for rate, found in rates.items() if len(found) == most}
        best[gamma] = min(means, key=lambda rate: (means[rate], rate))
    return best
