"""How fast the built-in trial trains on the CPU, against a plain loop and the machine's own matmul.

    python benchmarks/trial_speed.py [--widths 32 64 128 256] [--eager] [--rounds 5]

Per width, one core each: thousands of tokens a second of the plain loop (plain_loop.py) and of the
trial, uncompiled and compiled; trials an hour with all that belongs to one, its 40 evaluations too;
what part of a step the trial's own matrix products would take by themselves, that is the FLOP/s
achieved over the FLOP/s of matmul on the same shapes (forward and both of backward; attention's are
not among them); and the tokens a second of two workers over those of one.

All contenders take turns, a few steps each, and medians are printed. Steps are timed in CPU seconds
of the process, so that what else the machine does counts little; only the two workers are timed by
the wall and need two idle cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier
from typing import Protocol

import torch
from plain_loop import PlainLoop
from torch import nn

from critical.trials import ProxyRun, Scale
from critical.trials.corpus import Corpus, prepare
from critical.trials.training import ProxyTraining, TrainingRecipe

WARM_UP = 3
"""Steps that are not timed: compiling, and torch's own first calls."""


class Loop(Protocol):
    """What is timed."""

    def advance(self, step: int) -> None:
        """Take a step."""
        ...


def proxy(width: int, depth: int, tokens: int, device: str = "cpu") -> ProxyRun:
    """Return a run at a width, with heads of 16 dimensions."""
    scale = Scale(width, depth, max(1, width // 16), tokens)
    return ProxyRun(gamma=0.7, learning_rate=4e-3, scale=scale, seed=0, device=device)


def step_seconds(loops: Sequence[Loop], rounds: int, steps: int) -> list[float]:
    """Time loops in turn; return the median CPU seconds of a step of each."""
    for loop in loops:
        for step in range(1, WARM_UP + 1):
            loop.advance(step)
    seconds: list[list[float]] = [[] for _ in loops]
    for number in range(rounds):
        first = WARM_UP + 1 + number * steps
        for loop, times in zip(loops, seconds, strict=True):
            started = time.process_time()
            for step in range(first, first + steps):
                loop.advance(step)
            times.append((time.process_time() - started) / steps)
    return [statistics.median(times) for times in seconds]


def look_seconds(training: ProxyTraining) -> float:
    """Return the CPU seconds of all a run's evaluations, with what some of them record."""
    started = time.process_time()
    for step in sorted(training.looks):
        training.measure(step)
    return time.process_time() - started


def products(training: ProxyTraining) -> Counter[tuple[int, int, int]]:
    """Count a forward pass's matrix products of rows × fan-in × fan-out, as they are called."""
    found: Counter[tuple[int, int, int]] = Counter()

    def note(module: nn.Linear, given: tuple[torch.Tensor, ...]) -> None:
        found[given[0].numel() // module.in_features, module.in_features, module.out_features] += 1

    linears = [each for each in training.model.modules() if isinstance(each, nn.Linear)]
    hooks = [linear.register_forward_pre_hook(note) for linear in linears]
    training.first_loss()()
    for hook in hooks:
        hook.remove()
    return found


class Products:
    """A step's matrix products by themselves, forward and both of backward."""

    def __init__(self, shapes: Counter[tuple[int, int, int]]) -> None:
        self._of = [
            (torch.randn(rows, fan_in), torch.randn(fan_out, fan_in), torch.randn(rows, fan_out))
            for rows, fan_in, fan_out in shapes.elements()
        ]

    def advance(self, step: int) -> None:
        """Multiply."""
        for x, w, y in self._of:
            for one, other in ((x, w.t()), (y, w), (y.t(), x)):
                torch.mm(one, other)


def workers_ratio(recipe: TrainingRecipe, run: ProxyRun, seconds: float, rounds: int) -> float:
    """Return the steps a second of two processes at a time over those of one, by the wall.

    The first trains alone, then both do, in turn: the median over the rounds.
    """
    context = get_context("spawn")
    with context.Manager() as manager:
        barrier = manager.Barrier(2)
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            given = [
                pool.submit(_worker, recipe, run, [first, 1] * rounds, seconds, barrier)
                for first in (1, 0)
            ]
            one, other = (future.result() for future in given)
    pairs = zip(one[::2], one[1::2], other[1::2], strict=True)
    return statistics.median((ours + theirs) / alone for alone, ours, theirs in pairs)


def _worker(
    recipe: TrainingRecipe, run: ProxyRun, turns: Sequence[int], seconds: float, barrier: Barrier
) -> list[float]:
    """Train for a while in each turn that is 1, all workers at once; return steps a second."""
    training = ProxyTraining(recipe, run)
    for step in range(1, WARM_UP + 1):
        training.advance(step)
    found, step = [], WARM_UP
    for turn in turns:
        barrier.wait()
        started, first = time.perf_counter(), step
        while turn and time.perf_counter() - started < seconds:
            step += 1
            training.advance(step)
        found.append((step - first) / (time.perf_counter() - started))
    return found


HEADER = (
    f"{'width':>5} {'':<9} {'plain ktok/s':>12} {'trial ktok/s':>12} {'trial/plain':>11} "
    f"{'trials/h':>8} {'of matmul':>9} {'2 workers':>9}"
)


def measure(
    recipe: TrainingRecipe, run: ProxyRun, rounds: int, steps: int, seconds: float
) -> Iterator[str]:
    """Yield a row uncompiled and, where the recipe is compiled, one more."""
    recipes = [replace(recipe, compiled=compiled) for compiled in sorted({False, recipe.compiled})]
    trials = [ProxyTraining(each, run) for each in recipes]
    plain = [PlainLoop(each, run) for each in recipes]
    alone = Products(products(trials[0]))
    *times, product = step_seconds([*trials, *plain, alone], rounds, steps)
    tokens = trials[0]._mixture.tokens_per_step
    looks = look_seconds(trials[0])
    for number, each in enumerate(recipes):
        ours, theirs = times[number], times[len(recipes) + number]
        ratio = workers_ratio(each, run, seconds, rounds) if seconds else float("nan")
        yield (
            f"{run.scale.width:>5} {'compiled' if each.compiled else '':<9} "
            f"{tokens / theirs / 1000:12.1f} {tokens / ours / 1000:12.1f} {theirs / ours:11.2f} "
            f"{3600 / (trials[0].steps * ours + looks):8.0f} {product / ours:9.0%} {ratio:9.2f}"
        )


def main() -> None:
    """Print a row a width and way."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=1_024_000, help="of a whole trial")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="of each contender in a round")
    parser.add_argument("--eager", action="store_true", help="nothing compiled")
    parser.add_argument(
        "--workers-seconds", type=float, default=2.0, help="a turn; 0 for no two workers"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        corpus: Corpus = prepare(None, Path(folder))
        recipe = TrainingRecipe(corpus, batch_tokens=given.batch, compiled=not given.eager)
        load = os.getloadavg()[0]
        print(f"torch {torch.__version__}, {os.cpu_count()} cores, load {load:.1f} at the start")
        print(HEADER)
        for width in given.widths:
            run = proxy(width, given.depth, given.tokens)
            for row in measure(recipe, run, given.rounds, given.steps, given.workers_seconds):
                print(row, flush=True)


if __name__ == "__main__":
    main()
