"""What the tables of data/ say: does γ* survive learning rate, horizon, mixture and width.

    python benchmarks/table_findings.py [--draws 1000]

Prints Markdown. Standard errors are a bootstrap's over seeds: curves are averaged over seeds drawn
with replacement, the learning rate is chosen anew, γ* is where the share balances (see
table_surfaces.py). Differences are of the same draw of seeds where two conditions share them. With
n seeds the 90% interval is γ* ± t · se · √(n / (n − 1)), t of Student's with n − 1 degrees of
freedom: bare percentiles of two or three seeds would cover 50 to 62 of 100 times.

A difference of γ* is *robust* where its whole interval is within ±0.1, the width of a usual
plateau; else *conditional* where it is all on one side of ±0.05; else *unresolved*.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import t as student
from table_designs import NARROW_RATES, WIDE_RATES, rates_at
from table_file import FOLDER, read
from table_surfaces import (
    REFERENCE,
    Surfaces,
    balance,
    resampled,
    standard_error,
    stars,
    surfaces,
)

from critical.inference.objectives import LEARNED_ACCURACY

Array = NDArray[np.float64]

SAME, DIFFERENT = 0.1, 0.05


@dataclass(frozen=True, slots=True)
class Condition:
    """γ* under one condition, of all seeds and of draws of them.

    Attributes:
        draws: γ* of each draw. Shape (draws,).
        seeds: n.
    """

    label: str
    star: float
    draws: Array
    seeds: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 90% interval; NaN for its ends where there is one seed only."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, draws: Array, seeds: int) -> Estimate:
        """Return the interval of a value by its bootstrap draws over n seeds."""
        if seeds < 2:
            return cls(value, np.nan, np.nan)
        half = float(student.ppf(0.95, seeds - 1)) * standard_error(draws, seeds)
        return cls(value, value - half, value + half)

    def __str__(self) -> str:
        return "–" if np.isnan(self.low) else f"{self.low:+.2f} … {self.high:+.2f}"

    @property
    def verdict(self) -> str:
        """What the interval of a difference of γ* says."""
        if np.isnan(self.low):
            return "one seed only"
        if self.low >= -SAME and self.high <= SAME:
            return "robust"
        outside = self.low > DIFFERENT or self.high < -DIFFERENT
        return "conditional" if outside else "unresolved"


def main() -> None:
    """Print every section whose table is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    draws: int = parser.parse_args().draws
    rng = np.random.default_rng(0)
    main_table = read("main")
    of_main = by_width(main_table)
    shared = min(len(found.seeds) for found in of_main.values())
    of_main = {w: found.of_seeds(range(shared)) for w, found in of_main.items()}
    seeds = resampled(shared, draws, rng)
    best = {w: condition(f"width {w}", found, seeds) for w, found in of_main.items()}
    scales(of_main, best)
    across_widths(best)
    across_rates(of_main, best, seeds)
    halves = {w: found.of_seeds(range(shared)) for w, found in by_width(main_table, 0.5).items()}
    compare(
        "half the tokens against all, the same runs",
        [(best[w], condition(f"width {w}", halves[w], seeds)) for w in halves],
    )
    if (FOLDER / "horizon.parquet").exists():
        compare("all tokens against twice as many", list(_horizon(of_main, draws, rng)))
    if (FOLDER / "mixture.parquet").exists():
        _, other = _of_fresh_seeds("mixture", draws, rng)
        compare("the default mixture against another", [(best[w], other[w]) for w in other])
    if (FOLDER / "truth.parquet").exists():
        of_truth, fresh = _of_fresh_seeds("truth", draws, rng)
        print("Of eight fresh seeds:\n")
        scales(of_truth, fresh)
        across_widths(fresh)
        compare("three seeds against eight fresh ones", [(best[w], fresh[w]) for w in fresh])


def by_width(table: pa.Table, part: float = 1.0) -> dict[int, Surfaces]:
    """Return the runs of each width, as they were after a part of their tokens."""
    return {w: surfaces(table, w, part) for w in sorted(set(table["width"].to_pylist()))}


def condition(label: str, found: Surfaces, seeds: NDArray[np.int64]) -> Condition:
    """Return γ* of all seeds together, and of each draw of them."""
    whole = balance(found, range(len(found.seeds)))
    return Condition(label, whole.star, stars(found, seeds), len(found.seeds))


def scales(of_main: dict[int, Surfaces], best: dict[int, Condition]) -> None:
    """Print γ* by width and what it trades."""
    print("| width | reference's trained accuracy | best rate at γ 0.5, at γ* | γ* | 90% "
          "| γ of best R | γ of best ρ | R at γ*, at 0.5 | ρ at γ* |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    for width, found in of_main.items():
        everything = range(len(found.seeds))
        at = balance(found, everything)
        star = int(np.argmin(np.abs(at.gamma - at.star)))
        half = int(np.argmin(np.abs(at.gamma - REFERENCE)))
        accuracy = _reference_accuracy(found)
        exploratory = "" if accuracy >= LEARNED_ACCURACY else ", exploratory"
        print(
            f"| {width} | {accuracy:.2f}{exploratory} | {_best_rate(found, REFERENCE):g}, "
            f"{_best_rate(found, at.star):g} | {at.star:.2f} | {_of(best[width])} "
            f"| {at.most_reasoning:.2f} | {at.most_efficient:.2f} "
            f"| {at.reasoning[star]:.3f}, {at.reasoning[half]:.3f} "
            f"| {2 ** at.efficiency[star]:.2f} |"
        )
    print()


def across_widths(best: dict[int, Condition]) -> None:
    """Print the slope of γ* over log₂ width, least squares."""
    octaves = np.log2(list(best))
    slopes = np.polyfit(octaves, np.stack([one.draws for one in best.values()]), 1)[0]
    whole = float(np.polyfit(octaves, [one.star for one in best.values()], 1)[0])
    seeds = min(one.seeds for one in best.values())
    extent = float(octaves.max() - octaves.min())
    over_all = Estimate.of(whole * extent, slopes * extent, seeds)
    print(
        f"Width: slope {whole:+.3f} per doubling, 90% {Estimate.of(whole, slopes, seeds)}; "
        f"over the table's {extent:.2f} doublings **{over_all.verdict}**.\n"
    )


def across_rates(
    of_main: dict[int, Surfaces], best: dict[int, Condition], seeds: NDArray[np.int64]
) -> None:
    """Compare γ* at one rate, the reference at the same one, with that at the best rates."""
    for rate in sorted({*NARROW_RATES, *WIDE_RATES}):
        compare(
            f"the best rates against {rate:g} everywhere",
            [
                (best[width], condition(f"width {width}", found.at_rate(rate), seeds))
                for width, found in of_main.items()
                if rate in rates_at(width)
            ],
        )


def compare(title: str, pairs: Sequence[tuple[Condition, Condition]]) -> None:
    """Print γ* under two conditions, and the verdict on their difference."""
    print(f"{title[0].upper()}{title[1:]}:\n")
    print("| | γ* | γ* then | difference | 90% | verdict |")
    print("|---|---|---|---|---|---|")
    for one, other in [*pairs, _mean_of(pairs)] if len(pairs) > 1 else pairs:
        seeds = min(one.seeds, other.seeds)
        difference = Estimate.of(other.star - one.star, other.draws - one.draws, seeds)
        print(
            f"| {one.label} | {one.star:.2f} | {other.star:.2f} | {difference.value:+.2f} "
            f"| {difference} | {difference.verdict} |"
        )
    print()


def _mean_of(pairs: Sequence[tuple[Condition, Condition]]) -> tuple[Condition, Condition]:
    """Return the mean over the widths; a draw takes the same seeds at each of them."""
    one, other = (
        Condition(
            "mean",
            float(np.mean([each.star for each in side])),
            np.mean([each.draws for each in side], axis=0),
            min(each.seeds for each in side),
        )
        for side in zip(*pairs, strict=True)
    )
    return one, other


def _horizon(
    of_main: dict[int, Surfaces], draws: int, rng: np.random.Generator
) -> Iterator[tuple[Condition, Condition]]:
    found = by_width(read("horizon"))
    places = resampled(min(len(each.seeds) for each in found.values()), draws, rng)
    for width, longer in found.items():
        shared = _only_seeds(of_main[width], longer.seeds)
        yield (
            condition(f"width {width}", shared, places),
            condition(f"width {width}", longer, places),
        )


def _of_fresh_seeds(
    name: str, draws: int, rng: np.random.Generator
) -> tuple[dict[int, Surfaces], dict[int, Condition]]:
    """Return surfaces and γ* by width of a table that shares no seed with main."""
    found = by_width(read(name))
    places = resampled(min(len(each.seeds) for each in found.values()), draws, rng)
    return found, {w: condition(f"width {w}", each, places) for w, each in found.items()}


def _only_seeds(found: Surfaces, seeds: Sequence[int]) -> Surfaces:
    return found.of_seeds([found.seeds.index(seed) for seed in seeds])


def _best_rate(found: Surfaces, gamma: float) -> float:
    nearest = int(np.argmin(np.abs(found.gammas - gamma)))
    return float(found.rates[np.nanargmin(found.log_loss[nearest].mean(axis=1))])


def _reference_accuracy(found: Surfaces) -> float:
    nearest = int(np.argmin(np.abs(found.gammas - REFERENCE)))
    best = int(np.nanargmin(found.log_loss[nearest].mean(axis=1)))
    return float(found.trained_accuracy[nearest, best].mean())


def _of(one: Condition) -> str:
    found = Estimate.of(one.star, one.draws, one.seeds)
    return "–" if np.isnan(found.low) else f"{found.low:.2f}–{found.high:.2f}"


if __name__ == "__main__":
    main()
