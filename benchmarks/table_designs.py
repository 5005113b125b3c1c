"""Which proxy runs each table of data/ holds, and in what order they are made.

A table is made in stages. What a later stage runs depends on what the earlier ones came to: first
every learning rate on a coarse grid of γ, then the γ between at the rates that were best beside
them, then further seeds about the optimum.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from critical.trials.mixture import DEFAULT_MIXTURE

NARROW_RATES, WIDE_RATES = (1.5e-3, 3e-3, 6e-3), (7.5e-4, 1.5e-3, 3e-3)
"""Learning rates, a factor 2 apart; the best one falls with the width."""
WIDE = 64
TOKENS = 1_024_000
DEPTH = 2


@dataclass(frozen=True, slots=True)
class Spec:
    """One run of a table."""

    width: int
    gamma: float
    learning_rate: float
    seed: int


@dataclass(frozen=True, slots=True)
class Ended:
    """What a design looks at of a run that has ended.

    Attributes:
        loss: The least validation loss, nats per token; infinite where the run diverged.
    """

    spec: Spec
    loss: float


@dataclass(frozen=True, slots=True)
class Design:
    """One table.

    Attributes:
        name: Of the table and its file, data/NAME.parquet.
        purpose: What it is for, a sentence.
        widths: All of DEPTH blocks and heads of dimension 16.
        coarse: γ that are run at every rate; the reference's is among them.
        fine: γ that are run at the rates that are best at the coarse γ beside them.
        seeds: Every γ is run with each of them.
        tokens: Of training.
        mixture: Fractions of the sources.
        rates_of: The table that tells the best rates; None for this one, whose coarse γ do.
    """

    name: str
    purpose: str
    widths: tuple[int, ...]
    coarse: tuple[float, ...]
    fine: tuple[float, ...]
    seeds: tuple[int, ...]
    tokens: int = TOKENS
    mixture: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_MIXTURE))
    rates_of: str | None = None

    def due(self, ended: Sequence[Ended], rates: Sequence[Ended] = ()) -> Iterator[Spec]:
        """Yield the runs that are wanted as far as is known now, those that have ended too.

        Args:
            ended: Of this table.
            rates: Of the table that ``rates_of`` names.
        """
        for seed in self.seeds:
            for gamma in self.coarse if self.rates_of is None else ():
                for width in self.widths:
                    yield from (Spec(width, gamma, rate, seed) for rate in rates_at(width))
        best = best_rates(ended if self.rates_of is None else rates)
        known = {width: self._complete(width, best.get(width, {})) for width in self.widths}
        for seed in self.seeds:
            for gamma in self.fine:
                for width in self.widths:
                    beside = rates_beside(gamma, known[width], rates_at(width))
                    yield from (Spec(width, gamma, rate, seed) for rate in beside)

    def _complete(self, width: int, best: Mapping[float, Best]) -> dict[float, float]:
        """Return the best rates by γ once every coarse γ has ended at every rate and seed."""
        if self.rates_of is not None:
            return {gamma: found.rate for gamma, found in best.items()}
        whole = all(
            gamma in best and best[gamma].runs == len(rates_at(width)) * len(self.seeds)
            for gamma in self.coarse
        )
        return {gamma: best[gamma].rate for gamma in self.coarse} if whole else {}


@dataclass(frozen=True, slots=True)
class Best:
    """The best learning rate at one width and γ, and how many runs it was chosen from."""

    rate: float
    runs: int


def rates_at(width: int) -> tuple[float, ...]:
    """Return the learning rates that are run at a width, ascending."""
    return NARROW_RATES if width < WIDE else WIDE_RATES


def best_rates(ended: Sequence[Ended]) -> dict[int, dict[float, Best]]:
    """Return by width and γ the rate with the least mean log loss, over γ run at every rate.

    Rates are compared over the seeds that all of them have run; a rate that is not run at this
    width, as an older design may have left, is not looked at. A diverged seed rules its rate out.
    """
    losses: dict[tuple[int, float], dict[float, dict[int, float]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for one in ended:
        spec = one.spec
        if spec.learning_rate in rates_at(spec.width):
            losses[spec.width, spec.gamma][spec.learning_rate][spec.seed] = one.loss
    best: dict[int, dict[float, Best]] = defaultdict(dict)
    for (width, gamma), rates in losses.items():
        shared = set.intersection(*(set(seeds) for seeds in rates.values()))
        if len(rates) == len(rates_at(width)) and shared:
            means = {
                rate: fmean(math.log(seeds[seed]) for seed in shared)
                for rate, seeds in rates.items()
            }
            runs = sum(len(seeds) for seeds in rates.values())
            best[width][gamma] = Best(min(means, key=lambda rate: (means[rate], rate)), runs)
    return best


def rates_beside(
    gamma: float, best: Mapping[float, float], ladder: Sequence[float]
) -> tuple[float, ...]:
    """Return the best rates at the nearest γ below and above, and every rung between them."""
    below = [other for other in best if other <= gamma]
    above = [other for other in best if other >= gamma]
    beside = [best[max(below)]] if below else []
    beside += [best[min(above)]] if above else []
    if not beside:
        return ()
    return tuple(rate for rate in ladder if min(beside) <= rate <= max(beside))


def grid(low: float, high: float, step: float) -> tuple[float, ...]:
    """Return γ from low to high, both included."""
    return tuple(round(low + i * step, 4) for i in range(round((high - low) / step) + 1))


COARSE = (0.3, 0.5, 0.65, 0.8, 0.95, 1.1, 1.2)
DESIGNS = {
    design.name: design
    for design in (
        Design(
            name="main",
            purpose="γ* by width, with the best learning rate known everywhere",
            widths=(32, 48, 64, 96, 128),
            coarse=COARSE,
            fine=tuple(gamma for gamma in grid(0.3, 1.2, 0.05) if gamma not in COARSE),
            seeds=(0, 1, 2),
        ),
        Design(
            name="truth",
            purpose="fresh seeds about the optimum of the widest scales of main, kept apart",
            widths=(64, 96, 128),
            coarse=(),
            fine=(0.5, *grid(0.6, 0.95, 0.05)),
            seeds=tuple(range(100, 108)),
            rates_of="main",
        ),
        Design(
            name="mixture",
            purpose="other fractions and held-out pairs, to judge methods on",
            widths=(32, 48, 64),
            coarse=COARSE,
            fine=(0.4, 0.6, 0.7, 0.75, 0.85, 0.9),
            seeds=(20, 21, 22, 23),
            mixture={"reasoning": 0.45, "memory": 0.3, "text": 0.25},
        ),
        Design(
            name="horizon",
            purpose="twice the tokens of main, on the same data",
            widths=(32, 64),
            coarse=COARSE,
            fine=(0.6, 0.7, 0.75, 0.85, 0.9),
            seeds=(0, 1, 2),
            tokens=2 * TOKENS,
        ),
    )
}
