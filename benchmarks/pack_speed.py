"""How many more trials an hour a pack trains than one process a trial, on a GPU or on the CPU.

    python benchmarks/pack_speed.py [--device cuda] [--members 2 4 8 16 32] [--processes 1 4 8]
    python benchmarks/pack_speed.py --device cpu --width 32 --depth 2 --members 2 4 --steps 10

Without Ray. Ways to train: a plain loop (plain_loop.py), the trial in a process of its own, several
such processes that share the device, and packs. Each is timed in fresh processes, by the wall, once
all of them have taken their first steps. Printed: milliseconds a step, thousands of tokens a second
of all trials together, the same over those of one process per trial, trials an hour with their 40
evaluations, and the greatest memory that one process held on the device. What packs are to reach is
8 times one process per trial.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier

import torch
from plain_loop import PlainLoop
from trial_speed import WARM_UP, proxy

from critical.trials import ProxyRun
from critical.trials.corpus import prepare
from critical.trials.pack import Pack
from critical.trials.training import ProxyTraining, TrainingRecipe

LOOKS = 40
"""Evaluations of a trial."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to train.

    Attributes:
        name: As printed.
        processes: At a time.
        members: Trials of each process.
        kind: ``plain``, ``alone`` or ``pack``.
    """

    name: str
    processes: int
    members: int
    kind: str


@dataclass(frozen=True, slots=True)
class Speed:
    """What one process came to.

    Attributes:
        step_seconds: Of all its members together.
        look_seconds: Of one evaluation of all its members, the mean over all looks of a run.
        memory: Greatest bytes on the device, 0 where there are none.
    """

    step_seconds: float
    look_seconds: float
    memory: int


def ways(processes: Sequence[int], members: Sequence[int]) -> Iterator[Way]:
    """Yield what is compared; the first one is what the others are compared with."""
    yield Way("one process per trial", 1, 1, "alone")
    yield Way("plain loop", 1, 1, "plain")
    for count in processes:
        if count > 1:
            yield Way(f"{count} processes", count, 1, "alone")
    for count in members:
        yield Way(f"pack of {count}", 1, count, "pack")


def train(way: Way, recipe: TrainingRecipe, run: ProxyRun, steps: int, barrier: Barrier) -> Speed:
    """Take steps when all processes are ready, then evaluate; in a process of its own."""
    advance, measure = _prepared(way, recipe, run)
    for step in range(1, WARM_UP + 1):
        advance(step)
    _wait_for(run.device)
    barrier.wait()
    started = time.perf_counter()
    for step in range(WARM_UP + 1, WARM_UP + 1 + steps):
        advance(step)
    _wait_for(run.device)
    seconds = (time.perf_counter() - started) / steps
    barrier.wait()
    started = time.perf_counter()
    measure()
    looks = (time.perf_counter() - started) / LOOKS
    memory = torch.cuda.max_memory_allocated() if run.device != "cpu" else 0
    return Speed(seconds, looks, memory)


def _prepared(
    way: Way, recipe: TrainingRecipe, run: ProxyRun
) -> tuple[Callable[[int], None], Callable[[], None]]:
    """Return what takes a step, and what evaluates as often as a whole run does."""
    if way.kind == "plain":
        return PlainLoop(recipe, run).advance, lambda: None
    trains: Pack | ProxyTraining
    if way.kind == "alone":
        trains = ProxyTraining(recipe, run)
    else:
        gammas = [0.4 + 0.8 * number / way.members for number in range(way.members)]
        trains = Pack(recipe, [replace(run, gamma=gamma) for gamma in gammas])
    return trains.advance, lambda: _measure_all(trains)


def _measure_all(trains: Pack | ProxyTraining) -> None:
    for step in sorted(trains.looks):
        trains.measure(step)


def _wait_for(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def speeds(way: Way, recipe: TrainingRecipe, run: ProxyRun, steps: int) -> list[Speed]:
    """Train in fresh processes; raise what one of them raises."""
    context = get_context("spawn")
    with context.Manager() as manager:
        barrier = manager.Barrier(way.processes)
        with ProcessPoolExecutor(way.processes, mp_context=context) as pool:
            given = [
                pool.submit(train, way, recipe, run, steps, barrier) for _ in range(way.processes)
            ]
            return [future.result() for future in given]


HEADER = (
    f"{'':<22} {'ms a step':>9} {'ktok/s':>9} {'× one':>6} {'trials/h':>9} {'× one':>6} "
    f"{'memory GB':>9}"
)


def came_to(way: Way, found: Sequence[Speed], tokens: int, whole: int) -> tuple[float, float]:
    """Return tokens a second and trials an hour of all processes together.

    Args:
        way: What was timed.
        found: A Speed a process.
        tokens: Of a step of one trial.
        whole: Steps of a whole trial.
    """
    rates, hourly = 0.0, 0.0
    for speed in found:
        rates += way.members * tokens / speed.step_seconds
        hours = (whole * speed.step_seconds + LOOKS * speed.look_seconds) / 3600
        hourly += way.members / hours
    return rates, hourly


def row(
    way: Way, found: Sequence[Speed], here: tuple[float, float], one: tuple[float, float]
) -> str:
    """Return a line of what a way came to, and how many times what one process per trial did."""
    step = max(speed.step_seconds for speed in found)
    memory = max(speed.memory for speed in found) / 1e9
    return (
        f"{way.name:<22} {1000 * step:9.2f} {here[0] / 1000:9.1f} {here[0] / one[0]:6.2f} "
        f"{here[1]:9.0f} {here[1] / one[1]:6.2f} {memory:9.2f}"
    )


def main() -> None:
    """Print a row a way."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=1_024_000, help="of a whole trial")
    parser.add_argument("--members", type=int, nargs="*", default=[2, 4, 8, 16, 32])
    parser.add_argument("--processes", type=int, nargs="*", default=[4, 8])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--development", type=int, default=8, help="evaluations that look inside")
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--autocast", action="store_true", help="bfloat16 in training steps")
    given = parser.parse_args()
    run = proxy(given.width, given.depth, given.tokens, given.device)
    with tempfile.TemporaryDirectory() as folder:
        recipe = TrainingRecipe(
            prepare(None, Path(folder)),
            development=given.development,
            compiled=given.compiled,
            autocast=given.autocast,
        )
        trial = ProxyTraining(recipe, replace(run, device="cpu"))
        tokens = round(given.tokens / trial.steps)
        name = torch.cuda.get_device_name() if run.device != "cpu" else "CPU"
        print(f"torch {torch.__version__}, {name}, width {given.width}, {given.depth} layers")
        print(HEADER)
        one: tuple[float, float] | None = None
        for way in ways(given.processes, given.members):
            found = speeds(way, recipe, run, given.steps)
            here = came_to(way, found, tokens, trial.steps)
            one = one or here
            print(row(way, found, here, one), flush=True)


if __name__ == "__main__":
    main()
