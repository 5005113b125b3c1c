"""What the tables of data/ say: does γ* survive learning rate, horizon, mixture and width.

    python benchmarks/table_findings.py [--draws 1000]

Prints Markdown. Every interval is the 90% of a bootstrap over seeds: curves are averaged over
seeds drawn with replacement, the learning rate is chosen anew, γ* is where the share balances (see
table_surfaces.py). Differences are of the same draw of seeds where two conditions share them.

A difference of γ* is *robust* where its whole interval is within ±0.1, the width of a usual
plateau, *conditional* where it is all on one side of ±0.05, else *unresolved*.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from table_file import FOLDER, read
from table_surfaces import REFERENCE, Surfaces, balance, resampled, stars, surfaces

from critical.objectives import LEARNED_ACCURACY

Array = NDArray[np.float64]

SAME, DIFFERENT = 0.1, 0.05


@dataclass(frozen=True, slots=True)
class Condition:
    """γ* under one condition, and its bootstrap draws."""

    label: str
    star: float
    draws: Array


def main() -> None:
    """Print every section whose table is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    draws: int = parser.parse_args().draws
    rng = np.random.default_rng(0)
    main_table = read("main")
    widths = sorted(set(main_table["width"].to_pylist()))
    of_main = {width: surfaces(main_table, width) for width in widths}
    seeds = resampled(len(of_main[widths[0]].seeds), draws, rng)
    best = {w: condition(f"width {w}", found, seeds) for w, found in of_main.items()}
    scales(of_main, best)
    across_widths(best)
    across_rates(of_main, best, seeds)
    halves = {w: surfaces(main_table, w, part=0.5) for w in widths}
    compare(
        "half the tokens against all, the same runs",
        [(best[w], condition(f"width {w}", halves[w], seeds)) for w in widths],
    )
    if (FOLDER / "horizon.parquet").exists():
        compare("all tokens against twice as many", list(_horizon(of_main, draws, rng)))
    if (FOLDER / "mixture.parquet").exists():
        compare("the default mixture against another", list(_mixture(best, draws, rng)))
    if (FOLDER / "truth.parquet").exists():
        compare("three seeds against eight fresh ones", list(_truth(best, draws, rng)))


def condition(label: str, found: Surfaces, seeds: NDArray[np.int64]) -> Condition:
    """Return γ* of all seeds together, and of each draw of them."""
    whole = balance(found, range(len(found.seeds)))
    return Condition(label, whole.star, stars(found, seeds))


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
            f"{_best_rate(found, at.star):g} | {at.star:.2f} | {_interval(best[width].draws)} "
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
    extent = float(octaves.max() - octaves.min())
    print(
        f"Width: slope {whole:+.3f} per doubling, 90% {_interval(slopes)}; "
        f"over the table's {extent:.2f} doublings **{verdict(slopes * extent)}**.\n"
    )


def across_rates(
    of_main: dict[int, Surfaces], best: dict[int, Condition], seeds: NDArray[np.int64]
) -> None:
    """Compare γ* at one rate, the reference at the same one, with that at the best rates."""
    for rate in next(iter(of_main.values())).rates:
        compare(
            f"the best rates against {rate:g} everywhere",
            [
                (best[width], condition(f"width {width}", found.at_rate(float(rate)), seeds))
                for width, found in of_main.items()
            ],
        )


def compare(title: str, pairs: Sequence[tuple[Condition, Condition]]) -> None:
    """Print γ* under two conditions, and the verdict on their difference."""
    print(f"{title[0].upper()}{title[1:]}:\n")
    print("| | γ* | γ* then | difference | 90% | verdict |")
    print("|---|---|---|---|---|---|")
    for one, other in pairs:
        difference = other.draws - one.draws
        print(
            f"| {one.label} | {one.star:.2f} | {other.star:.2f} | {other.star - one.star:+.2f} "
            f"| {_interval(difference)} | {verdict(difference)} |"
        )
    print()


def verdict(difference: Array) -> str:
    """Judge a difference of γ* by its 90% interval."""
    low, high = np.quantile(difference, (0.05, 0.95))
    if low >= -SAME and high <= SAME:
        return "robust"
    return "conditional" if low > DIFFERENT or high < -DIFFERENT else "unresolved"


def _horizon(
    of_main: dict[int, Surfaces], draws: int, rng: np.random.Generator
) -> Iterator[tuple[Condition, Condition]]:
    table = read("horizon")
    for width in sorted(set(table["width"].to_pylist())):
        longer = surfaces(table, width)
        shared = _only_seeds(of_main[width], longer.seeds)
        places = resampled(len(longer.seeds), draws, rng)
        yield (
            condition(f"width {width}", shared, places),
            condition(f"width {width}", longer, places),
        )


def _mixture(
    best: dict[int, Condition], draws: int, rng: np.random.Generator
) -> Iterator[tuple[Condition, Condition]]:
    table = read("mixture")
    for width in sorted(set(table["width"].to_pylist())):
        found = surfaces(table, width)
        places = resampled(len(found.seeds), draws, rng)
        yield best[width], condition(f"width {width}", found, places)


def _truth(
    best: dict[int, Condition], draws: int, rng: np.random.Generator
) -> Iterator[tuple[Condition, Condition]]:
    table = read("truth")
    for width in sorted(set(table["width"].to_pylist())):
        found = surfaces(table, width)
        places = resampled(len(found.seeds), draws, rng)
        yield best[width], condition(f"width {width}", found, places)


def _only_seeds(found: Surfaces, seeds: Sequence[int]) -> Surfaces:
    return found.of_seeds([found.seeds.index(seed) for seed in seeds])


def _best_rate(found: Surfaces, gamma: float) -> float:
    nearest = int(np.argmin(np.abs(found.gammas - gamma)))
    return float(found.rates[np.nanargmin(found.log_loss[nearest].mean(axis=1))])


def _reference_accuracy(found: Surfaces) -> float:
    nearest = int(np.argmin(np.abs(found.gammas - REFERENCE)))
    best = int(np.nanargmin(found.log_loss[nearest].mean(axis=1)))
    return float(found.trained_accuracy[nearest, best].mean())


def _interval(draws: Array) -> str:
    low, high = np.quantile(draws, (0.05, 0.95))
    return f"{low:.2f}–{high:.2f}" if low >= 0 else f"{low:+.2f} … {high:+.2f}"


if __name__ == "__main__":
    main()
