"""Whether intervals of γ* hold on real runs: posteriors of some seeds of a table, judged by others.

    python benchmarks/table_calibration.py [--table truth main mixture] [--repeats 24]

Each repeat draws some seeds of a table and, at every width, their references and as many further
runs as are wanted, half over the whole interval of γ and half gathered about γ*, as a search
gathers them; every γ at its best learning rate. The posterior of these runs is judged at each width
by the table's other seeds: γ* and shares of their mean curves (see table_surfaces.py). Printed: the
error of the median; the share that it loses, and what the whole grid of the same seeds would lose;
how often the 90% interval covers; and its width. The judges are uncertain too: their standard
error, a bootstrap's over seeds, is added in quadrature to an interval before it is asked to cover.

Repeats of one table are not independent, for they share its few seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from table_file import read
from table_findings import by_width
from table_surfaces import (
    REFERENCE,
    Balance,
    Surfaces,
    balance,
    best_places,
    curves,
    resampled,
    standard_error,
    stars,
)

from critical.inference.objectives import Run
from critical.inference.posterior import PosteriorSpec, compute
from critical.storage.records import ScalePosterior

Cells = Mapping[tuple[float, int], Run]
"""The runs of one width by γ and seed, each at the learning rate that is best at its γ."""

SPREAD, BELIEF = 0.12, 0.06
"""Sds of γ about where a search believes γ* to be, and of that about γ*."""
DRAWS = 40
NORMAL = 1.645
"""Of a 90% interval, in standard errors."""


@dataclass(frozen=True, slots=True)
class Table:
    """What is drawn from."""

    surfaces: Mapping[int, Surfaces]
    cells: Mapping[int, Cells]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those that every width has."""
        return next(iter(self.surfaces.values())).seeds

    @property
    def interval(self) -> tuple[float, float]:
        """The least and the greatest γ."""
        gammas = [gamma for cells in self.cells.values() for gamma, _ in cells]
        return min(gammas), max(gammas)


@dataclass(frozen=True, slots=True)
class Judge:
    """The curves of some seeds at one width, and the standard error of their γ*."""

    at: Balance
    error: float

    @classmethod
    def of(cls, found: Surfaces, rng: np.random.Generator) -> Judge:
        """Judge by the means over all seeds of what is given."""
        count = len(found.seeds)
        draws = stars(found, resampled(count, DRAWS, rng))
        return cls(balance(found, range(count)), standard_error(draws, count))

    def lost(self, gamma: float) -> float:
        """Share that a γ loses against the best."""
        return float(self.at.share.max() - np.interp(gamma, self.at.gamma, self.at.share))

    def covered(self, scale: ScalePosterior) -> bool:
        """Whether a 90% interval, and the judge's own uncertainty, reach γ*."""
        star, true = scale.gamma_star, self.at.star
        half = star.high - star.median if true > star.median else star.median - star.low
        return bool(abs(true - star.median) <= np.hypot(half, NORMAL * self.error))


@dataclass(frozen=True, slots=True)
class Score:
    """Of one width of one repeat."""

    error: float
    lost: float
    lost_by_grid: float
    covered: bool
    extent: float


def main() -> None:
    """Print a row for each table, number of seeds and number of runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ["truth", "main", "mixture"]
    parser.add_argument("--table", nargs="+", choices=names, default=names)
    parser.add_argument("--runs", type=int, nargs="+", default=[10, 16, 24], help="A width.")
    parser.add_argument("--repeats", type=int, default=24)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| table | runs a width | seeds | mean error of γ* | share lost | by the whole grid "
          "| 90% intervals that cover | their median width |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    for name in given.table:
        table = taken(read(name))
        for runs in given.runs:
            for seeds in (1, 2, 4):
                if seeds <= len(table.seeds) - 2:
                    found = list(scores(table, runs, seeds, given.repeats))
                    print(f"| {name} | {runs} | {seeds} | {summary(found)} |", flush=True)


def taken(rows: pa.Table) -> Table:
    """Return a table's runs at each γ's best rate."""
    found = by_width(rows)
    return Table(found, {width: _cells(rows, width, one) for width, one in found.items()})


def scores(table: Table, runs: int, seeds: int, repeats: int) -> Iterator[Score]:
    """Yield a score for every width of every repeat."""
    for repeat in range(repeats):
        rng = np.random.default_rng([repeat, seeds])
        places = rng.permutation(len(table.seeds)).tolist()
        mine, others = places[:seeds], places[seeds:]
        judges = {w: Judge.of(one.of_seeds(others), rng) for w, one in table.surfaces.items()}
        own = {table.seeds[place] for place in mine}
        chosen = [
            run
            for width, cells in table.cells.items()
            for run in picked(cells, own, runs, judges[width].at.star, rng)
        ]
        for scale in compute(chosen, PosteriorSpec(table.interval, REFERENCE), rng).scales:
            judge, star = judges[scale.width], scale.gamma_star
            yield Score(
                abs(star.median - judge.at.star),
                judge.lost(star.median),
                judge.lost(balance(table.surfaces[scale.width], mine).star),
                judge.covered(scale),
                star.high - star.low,
            )


def picked(
    cells: Cells, seeds: set[int], runs: int, star: float, rng: np.random.Generator
) -> list[Run]:
    """Pick runs of some seeds as a search would: the references, then a spread, then about γ*."""
    own = [run for (_, seed), run in cells.items() if seed in seeds]
    references = [run for run in own if run.reference]
    others = [run for run in own if not run.reference]
    count = min(runs - len(references), len(others))
    order = rng.permutation(len(others)).tolist()
    spread, rest = order[: (count + 1) // 2], order[(count + 1) // 2 :]
    believed = star + rng.normal(0, BELIEF)
    away = np.array([others[place].gamma - believed for place in rest])
    # Exponential races: without replacement, in proportion to the density about the belief.
    race = rng.exponential(size=len(rest)) * np.exp(0.5 * (away / SPREAD) ** 2)
    near = [rest[place] for place in np.argsort(race)[: count - len(spread)]]
    return references + [others[place] for place in (*spread, *near)]


def summary(found: Sequence[Score]) -> str:
    """Return the numbers of a row."""
    return " | ".join(
        (
            f"{np.mean([one.error for one in found]):.3f}",
            f"{np.mean([one.lost for one in found]):.3f}",
            f"{np.mean([one.lost_by_grid for one in found]):.3f}",
            f"{np.mean([one.covered for one in found]):.0%}",
            f"{np.median([one.extent for one in found]):.2f}",
        )
    )


def _cells(rows: pa.Table, width: int, found: Surfaces) -> Cells:
    best, _ = best_places(found, range(len(found.seeds)))
    rates = dict(zip(found.gammas.tolist(), found.rates[best].tolist(), strict=True))
    return {
        (gamma, seed): Run(gamma, None, width, "target", seed, gamma == REFERENCE, curve)
        for (gamma, rate, seed), curve in curves(
            rows.filter(pc.equal(rows["width"], width))
        ).items()
        if seed in found.seeds and rate == rates.get(gamma)
    }


if __name__ == "__main__":
    main()
