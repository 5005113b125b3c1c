"""Whether 90% intervals of γ* cover it, the share that the median loses, and what a fit costs.

    python benchmarks/posterior_calibration.py --searches 200

Each simulated search draws a surface that the surrogate's model does not contain (skewed bumps
in γ, seeds that move the optimum, Student-t noise, R lifted and optima drifting with width, both
drift and departures from it as large as the prior assumes),
runs 20, 60 or 200 trials on it, half spread over the interval and half gathered around γ* as a
search gathers them, and computes the posterior. Printed: coverage of the 5–95% interval per
scale and at a target three octaves wider, the error of the median, the share lost there, and
seconds. With --ladder 3e-4 1e-3 3e-3 the learning rate is a nuisance parameter, whose best value
moves with γ.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from critical.inference.objectives import Curve, Run
from critical.inference.posterior import PosteriorSpec, compute
from critical.inference.rules import share
from critical.storage.records import PosteriorRecord

Array = NDArray[np.float64]

INTERVAL = (0.3, 1.2)
REFERENCE = 0.5
TARGET_OCTAVES = 3
PARTS = np.geomspace(0.002, 1, 48)
FINE = np.linspace(*INTERVAL, 901)
DESIGNS = {20: (64, 128), 60: (64, 128, 256), 200: (64, 128, 256)}
SEEDS = {20: 2, 60: 3, 200: 5}
SEED_SHIFT = (0.02, 0.08)
"""Sds of γ by which a seed moves the optimum, the least and the greatest: 0.06 in data/truth."""
SEED_SHARED = 0.7
"""Part of the variance of what a seed does that all widths have in common."""


@dataclass(frozen=True)
class Surface:
    """True curves over γ, and the noise around them. Sds of angles are in radians of arcsin √R."""

    speed_peak: float
    reason_peak: float
    speed_reach: tuple[float, float]
    reason_reach: tuple[float, float]
    best_angle: float
    base_angle: float
    lift: float
    drift: float
    seed_angle: float
    seed_speed: float
    seed_shift: float
    noise_angle: float
    noise_speed: float
    rate_drift: float
    departures: tuple[float, ...]

    def log2_speed(self, gamma: Array, octaves: float) -> Array:
        """Speed at a γ, octaves below the fastest."""
        return -1.44 * _bump(gamma - self.speed_peak - self._moved(octaves), self.speed_reach)

    def angle(self, gamma: Array, octaves: float, shift: float = 0.0) -> Array:
        """The angle arcsin √R at a γ, radians."""
        moved = gamma - self.reason_peak - self._moved(octaves) - shift
        height = self.best_angle + self.lift * octaves - self.base_angle
        return self.base_angle + height * np.exp(-_bump(moved, self.reason_reach))

    def _moved(self, octaves: float) -> float:
        return self.drift * octaves + self.departures[round(octaves)]

    def share(self, octaves: float) -> Array:
        """True share over ``FINE``."""
        r = np.sin(self.angle(FINE, octaves)) ** 2
        return np.asarray(share(r[None], self.log2_speed(FINE, octaves)[None])[0])

    def critical(self, octaves: float) -> float:
        """True γ*."""
        return float(FINE[np.argmax(self.share(octaves))])


def _bump(distance: Array, reach: tuple[float, float]) -> Array:
    return np.asarray((distance / np.where(distance < 0, reach[0], reach[1])) ** 2)


def random_surface(rng: np.random.Generator) -> Surface:
    """Draw a surface whose optima of R and ρ are 0.1 to 0.4 apart."""
    peak = rng.uniform(0.5, 0.75)
    return Surface(
        speed_peak=peak,
        reason_peak=peak + rng.uniform(0.1, 0.4),
        speed_reach=(rng.uniform(0.2, 0.45), rng.uniform(0.2, 0.45)),
        reason_reach=(rng.uniform(0.2, 0.45), rng.uniform(0.2, 0.45)),
        best_angle=rng.uniform(0.6, 1.1),
        base_angle=rng.uniform(0.05, 0.3),
        lift=rng.uniform(0.0, 0.1),
        drift=0.03 * rng.standard_normal(),
        seed_angle=rng.uniform(0.02, 0.2),
        seed_speed=rng.uniform(0.0, 0.4),
        seed_shift=rng.uniform(*SEED_SHIFT),
        noise_angle=rng.uniform(0.02, 0.12),
        noise_speed=rng.uniform(0.05, 0.3),
        rate_drift=rng.uniform(-1.5, 1.5),
        departures=tuple(0.02 * rng.standard_normal(TARGET_OCTAVES + 3)),
    )


def search(
    surface: Surface, trials: int, rng: np.random.Generator, ladder: Sequence[float] = ()
) -> list[Run]:
    """Run a simulated search: references of every width and seed first, then the design."""
    widths, seeds = DESIGNS[trials], SEEDS[trials]
    of_seeds = rng.standard_normal((seeds, 3))
    runs = []
    for width in widths:
        octaves = np.log2(width / 64)
        gammas = _gammas(surface.critical(octaves), trials // len(widths), seeds, len(ladder), rng)
        own = rng.standard_normal((seeds, 3))
        of_seed = np.sqrt(SEED_SHARED) * of_seeds + np.sqrt(1 - SEED_SHARED) * own
        for index, (gamma, rate) in enumerate(_with_rates(gammas, seeds, ladder, rng)):
            seed = index % seeds
            runs.append(_run(surface, gamma, rate, width, seed, of_seed[seed], rng))
    return runs


def _gammas(critical: float, count: int, seeds: int, rungs: int, rng: np.random.Generator) -> Array:
    references = seeds * max(rungs, 1)
    spread = (count - references + 1) // 2
    strata = INTERVAL[0] + (rng.permutation(spread) + rng.uniform(size=spread)) / spread * 0.9
    # A search gathers its trials around where it believes γ* to be, not where it is.
    believed = critical + rng.normal(0, 0.06)
    near = np.clip(rng.normal(believed, 0.12, count - references - spread), *INTERVAL)
    return np.concatenate([np.full(references, REFERENCE), rng.permutation([*strata, *near])])


def _with_rates(
    gammas: Array, seeds: int, ladder: Sequence[float], rng: np.random.Generator
) -> Iterator[tuple[float, float | None]]:
    for index, gamma in enumerate(gammas):
        if not ladder:
            yield float(gamma), None
        elif index < seeds * len(ladder):
            yield float(gamma), ladder[index // seeds]
        else:
            yield float(gamma), float(rng.choice(ladder))


def _run(
    surface: Surface,
    gamma: float,
    rate: float | None,
    width: int,
    seed: int,
    of_seed: Array,
    rng: np.random.Generator,
) -> Run:
    octaves, at = np.log2(width / 64), np.array([gamma])
    noise = rng.standard_t(4, size=2) / np.sqrt(2)
    speed = float(surface.log2_speed(at, octaves)[0])
    speed += surface.seed_speed * of_seed[0] + surface.noise_speed * noise[0]
    angle = float(surface.angle(at, octaves, surface.seed_shift * of_seed[2])[0])
    angle += surface.seed_angle * of_seed[1] + surface.noise_angle * noise[1]
    if rate is not None:
        # The best rate moves with γ; away from it a run is slower, and reasons a little better.
        off = np.log(rate / 1e-3) - surface.rate_drift * (gamma - 0.7)
        speed, angle = speed - 0.8 * off**2, angle + 0.05 * off
    progress = PARTS * 2.0**speed
    score = np.sin(np.clip(angle, 0, np.pi / 2)) ** 2
    curve = Curve(
        tokens=1e6 * PARTS,
        loss=0.02 + 4.4 * (1 + 60 * progress) ** -1.2,
        reasoning=score * (1 - np.exp(-8 * PARTS)),
    )
    return Run(gamma, rate, width, "target", seed, gamma == REFERENCE, curve)


def simulate(
    trials: int, seed: tuple[int, int], ladder: Sequence[float] = ()
) -> tuple[Surface, list[Run], PosteriorSpec, np.random.Generator]:
    """Run the search of one seed; its posterior is asked of what is left of the generator."""
    rng = np.random.default_rng([seed[0], trials, seed[1]])
    surface = random_surface(rng)
    runs = search(surface, trials, rng, ladder)
    spec = PosteriorSpec(
        INTERVAL,
        REFERENCE,
        target_width=DESIGNS[trials][-1] * 2**TARGET_OCTAVES,
        ladder=tuple(ladder),
    )
    return surface, runs, spec, rng


@dataclass(frozen=True)
class Outcome:
    """Of one γ* against the truth."""

    covered: bool
    error: float
    share_lost: float
    width: float


def judge(surface: Surface, record: PosteriorRecord) -> tuple[list[Outcome], Outcome | None]:
    """Compare γ* of every scale, and at the target, with the truth."""
    scales = [
        _judge(
            surface,
            np.log2(one.width / 64),
            one.gamma_star.low,
            one.gamma_star.median,
            one.gamma_star.high,
        )
        for one in record.scales
    ]
    if record.target is None:
        return scales, None
    star, octaves = record.target.gamma_star, np.log2(record.target.width / 64)
    return scales, _judge(surface, octaves, star.low, star.median, star.high)


def _judge(surface: Surface, octaves: float, low: float, median: float, high: float) -> Outcome:
    true, curve = surface.critical(octaves), surface.share(octaves)
    lost = curve.max() - float(np.interp(median, FINE, curve))
    return Outcome(low <= true <= high, abs(median - true), lost, high - low)


def _report(name: str, outcomes: Sequence[Outcome]) -> str:
    covered = np.mean([one.covered for one in outcomes])
    error = np.median([one.error for one in outcomes])
    lost = np.array([one.share_lost for one in outcomes])
    width = np.median([one.width for one in outcomes])
    return (
        f"{name:>8}  coverage {covered:.3f}  median |error| {error:.3f}  interval {width:.3f}  "
        f"share lost: mean {lost.mean():.4f}, 90% {np.quantile(lost, 0.9):.4f}, "
        f"≤ 0.02 in {np.mean(lost <= 0.02):.2f}"
    )


def main() -> None:
    """Print one block a size of search."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--searches", type=int, default=200)
    parser.add_argument("--sizes", type=int, nargs="+", default=sorted(DESIGNS))
    parser.add_argument("--ladder", type=float, nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for trials in options.sizes:
        scales: list[Outcome] = []
        targets: list[Outcome] = []
        seconds = []
        for index in range(options.searches):
            surface, runs, spec, rng = simulate(trials, (options.seed, index), options.ladder)
            start = time.perf_counter()
            record = compute(runs, spec, rng)
            seconds.append(time.perf_counter() - start)
            own, target = judge(surface, record)
            scales += own
            targets += [target] if target is not None else []
        print(
            f"{trials} trials, {options.searches} searches, {np.median(seconds):.2f} s a posterior"
        )
        print(_report("scales", scales))
        print(_report("target", targets), flush=True)


if __name__ == "__main__":
    main()
