"""Make the tables of real proxy runs in data/, or go on making them where they were left.

    python benchmarks/proxy_tables.py main [truth mixture horizon] [--workers 2] [--minutes 60]

One row a measurement; see data/README.md for the columns. A table holds the built-in trial of the
default recipe, compiled, on the CPU; table_designs.py says at which widths, γ, learning rates and
seeds. It can be stopped at any moment and loses the runs that are going on.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from table_designs import DEPTH, DESIGNS, Design, Ended, Spec
from table_file import TableFile, ended, read, row

from critical.trials import ProxyRun, Scale
from critical.trials.corpus import prepare
from critical.trials.training import ARITHMETIC, ProxyTraining, TrainingRecipe

GATHER_EVERY = 10
"""Runs after which the parts are put into the table."""
_COMPILED: set[tuple[str, Scale]] = set()
"""What this worker has compiled."""


def main() -> None:
    """Make the tables that are named, one after another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="+", choices=tuple(DESIGNS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="Begin none after.")
    parser.add_argument(
        "--work-dir", type=Path, default=Path(tempfile.gettempdir()) / "critical-tables"
    )
    given = parser.parse_args()
    deadline = time.monotonic() + 60 * given.minutes
    context = get_context("spawn")
    with ProcessPoolExecutor(given.workers, mp_context=context) as pool:
        for name in given.tables:
            maker = Maker(DESIGNS[name], given.work_dir, pool, given.workers)
            maker.make(deadline)


class Maker:
    """Makes one table."""

    def __init__(self, design: Design, work: Path, pool: ProcessPoolExecutor, workers: int) -> None:
        corpus = prepare(None, work)
        self._design, self._pool, self._workers = design, pool, workers
        self._recipe = TrainingRecipe(corpus, mixture=dict(design.mixture), compiled=True)
        made_of = {
            "corpus": corpus.digest,
            "mixture": json.dumps(dict(design.mixture)),
            "tokens": str(design.tokens),
            "arithmetic": str(ARITHMETIC),
            "purpose": design.purpose,
            "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
        }
        self._file = TableFile(design.name, work, made_of)
        self._rates = ended(read(design.rates_of)) if design.rates_of is not None else []
        self._ended = {one.spec: one for one in ended(self._file.gather())}

    def make(self, deadline: float) -> None:
        """Run what is due until nothing is, or until a time of the monotonic clock."""
        running: dict[Future[list[dict[str, Any]]], Spec] = {}
        since = 0
        while True:
            for spec in self._next(set(running.values())):
                if len(running) == self._workers or time.monotonic() > deadline:
                    break
                running[self._pool.submit(run_one, self._recipe, self._design, spec)] = spec
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                self._end(running.pop(future), future.result())
                since += 1
            if since >= GATHER_EVERY:
                self._file.gather()
                since = 0
        self._file.gather()
        self._say("made" if not any(self._next(set())) else "left")

    def _next(self, running: set[Spec]) -> Iterator[Spec]:
        known = tuple(self._ended.values())
        for spec in dict.fromkeys(self._design.due(known, self._rates)):
            if spec not in self._ended and spec not in running:
                yield spec

    def _end(self, spec: Spec, rows: list[dict[str, Any]]) -> None:
        self._file.add(spec, rows)
        losses = [one["loss"] for one in rows]
        finite = all(loss < float("inf") for loss in losses)
        self._ended[spec] = Ended(spec, min(losses) if finite else float("inf"))
        last = rows[-1]
        self._say(
            f"width {spec.width} γ {spec.gamma:g} rate {spec.learning_rate:g} seed {spec.seed}: "
            f"loss {last['loss']:.3f}, R {last['reasoning']:.3f}, trained accuracy "
            f"{last['trained_accuracy'] or 0:.3f}, {last['device_seconds']:.1f} s"
        )

    def _say(self, what: str) -> None:
        left = sum(1 for _ in self._next(set()))
        print(f"{self._design.name}: {len(self._ended)} runs, {left} due; {what}", flush=True)


def run_one(recipe: TrainingRecipe, design: Design, spec: Spec) -> list[dict[str, Any]]:
    """Train one run and return its rows; in a worker.

    Device-seconds are the process' CPU time, for what else the machine does is no part of a run;
    nor is compiling, which is done once for all runs of a width.
    """
    scale = Scale(spec.width, DEPTH, max(1, spec.width // 16), design.tokens)
    if (design.name, scale) not in _COMPILED:
        ProxyTraining(recipe, ProxyRun(0.5, None, scale, seed=0)).advance(1)
        _COMPILED.add((design.name, scale))
    run = ProxyRun(spec.gamma, spec.learning_rate, scale, spec.seed)
    started = time.process_time()
    return [
        row(spec, DEPTH, measurement, time.process_time() - started) for measurement in recipe(run)
    ]


if __name__ == "__main__":
    main()
