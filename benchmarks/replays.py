"""Whole searches on tables of real runs, judged by the tables: what is lost, what intervals cover.

    python benchmarks/replays.py [--table mixture] [--replays 8] [--budgets 30 60 120]

Each replay is ``critical search`` as it is, but for its trials, which table_trial.py plays back. It
sees as many seeds of the table as its plan takes, others at each replay, and is judged at each
width by all seeds of the table: γ* and shares are there of curves averaged over them (see
table_surfaces.py). Below the searches of a budget stands the whole grid of the same seeds, as of
somebody who has run everything. Printed: the mean share that γ* loses, how often it is under 0.02,
the median error of γ*, how often the 90% interval covers, and its median width.

Replays of one table are not independent, for they share its few seeds.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from table_designs import DESIGNS
from table_file import read
from table_findings import by_width
from table_surfaces import Surfaces, balance

from critical.api import run_search
from critical.inference.rules import share
from critical.plan import Plan
from critical.storage.store import Store

Array = NDArray[np.float64]

TRIALS = Path(__file__).with_name("table_trial.py")
ENOUGH = 0.02
"""Share that may be lost."""
HEADER = """\
| trials | sampler | seeds | share lost | under 0.02 | median error of γ* | covered | interval |
|---|---|---|---|---|---|---|---|"""


@dataclass(frozen=True, slots=True)
class Replay:
    """A search to be made; ``seed`` is its sampler's and the first of its trials'."""

    table: str
    budget: int
    sampler: str
    seed: int


@dataclass(frozen=True, slots=True)
class Star:
    """γ* at one width; the ends of its 90% interval are NaN where it has none."""

    median: float
    low: float = np.nan
    high: float = np.nan


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a search found at each width, and the places of the table's seeds that it saw."""

    stars: Mapping[int, Star]
    seen: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Judge:
    """γ* and the share of every γ at one width, by all seeds of a table."""

    star: float
    gamma: Array
    share: Array

    @classmethod
    def of(cls, found: Surfaces) -> Judge:
        """Judge by the means over all seeds."""
        at = balance(found, range(len(found.seeds)))
        return cls(at.star, at.gamma, share(at.reasoning[None], at.efficiency[None])[0])

    def lost(self, gamma: float) -> float:
        """Share that a γ loses against the best; one outside of the table is taken for its end."""
        return float(self.share.max() - np.interp(gamma, self.gamma, self.share))


def main() -> None:
    """Replay and print a row for each budget and sampler, and one for the grid."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", choices=("main", "mixture", "truth"), default="truth")
    parser.add_argument("--replays", type=int, default=8)
    parser.add_argument("--budgets", type=int, nargs="+", default=[30, 60, 120])
    parser.add_argument("--samplers", nargs="+", default=["gp", "random"])
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    of_width = by_width(read(given.table))
    judges = {width: Judge.of(found) for width, found in of_width.items()}
    print(HEADER)
    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        for budget in given.budgets:
            for sampler in given.samplers:
                replays = [Replay(given.table, budget, sampler, n) for n in range(given.replays)]
                found = list(pool.map(searched, replays))
                print(line(f"{budget} | {sampler}", found, judges), flush=True)
            grid = [gridded(of_width, outcome.seen) for outcome in found]
            print(line("grid | all γ", grid, judges), flush=True)


def searched(replay: Replay) -> Outcome:
    """Make a search; in a worker."""
    design = DESIGNS[replay.table]
    widths = sorted(set(read(replay.table)["width"].to_pylist()))
    gammas = read(replay.table)["gamma"].to_pylist()
    with tempfile.TemporaryDirectory() as folder:
        storage = f"sqlite:///{folder}/critical.db"
        document = run_search(
            budget=f"{replay.budget}trials",
            trainable=f"{TRIALS}:{replay.table}",
            widths=tuple(widths),
            interval=(min(gammas), max(gammas)),
            tokens=design.tokens,
            sampler=replay.sampler,
            seed=replay.seed,
            study="replay",
            workers=0,
            storage=storage,
            work_dir=Path(folder),
        )
        with Store.open(storage) as store:
            plan = Plan.from_document(store.study("replay").plan)
    stars = {
        one["width"]: Star(one["median"], one["low"], one["high"]) for one in document["per_scale"]
    }
    most = len(set(read(replay.table)["seed"].to_pylist()))
    return Outcome(stars, tuple(dict.fromkeys(seed % most for seed in plan.seeds)))


def gridded(of_width: Mapping[int, Surfaces], seen: tuple[int, ...]) -> Outcome:
    """Return γ* of everything that the table has of some seeds."""
    return Outcome({w: Star(balance(one, seen).star) for w, one in of_width.items()}, seen)


def line(label: str, outcomes: Sequence[Outcome], judges: Mapping[int, Judge]) -> str:
    """Return a row of the printed table, over all replays and widths."""
    pairs = [(star, judges[w]) for outcome in outcomes for w, star in outcome.stars.items()]
    lost = np.array([judge.lost(star.median) for star, judge in pairs])
    error = np.array([abs(star.median - judge.star) for star, judge in pairs])
    covered = np.array([star.low <= judge.star <= star.high for star, judge in pairs])
    extent = np.array([star.high - star.low for star, _ in pairs])
    intervals = (
        "– | –" if np.isnan(extent).all() else f"{covered.mean():.0%} | {np.median(extent):.2f}"
    )
    seeds = len(outcomes[0].seen)
    return (
        f"| {label} | {seeds} | {lost.mean():.3f} | {(lost < ENOUGH).mean():.0%} "
        f"| {np.median(error):.3f} | {intervals} |"
    )


if __name__ == "__main__":
    main()
