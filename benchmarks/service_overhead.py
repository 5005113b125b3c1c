"""What the service itself costs a trial: ask, store, tell and posterior, over one whole search.

    python benchmarks/service_overhead.py [--budget 200trials] [--sampler gp] [--lr 3e-4 1e-3]

A real search in process over a SQLite store, with examples/analytic_trial.py as the trial, 48
measurements each with as many extras as the built-in trial's, at three widths. What the driver
calls (``next``, ``record``, ``finish``) and what these call in turn is wrapped from outside, and
every second belongs to the innermost of them; the trial's own time belongs to none. Printed:
milliseconds a trial, medians over the last ten trials that the sampler was asked for at each size
of the search (references and confirmation runs ask nothing); the median and the greatest total of
those ten (θ is found anew whenever the data have grown by a tenth); and the median in parts of a
trial of 60 s.
"""

from __future__ import annotations

import argparse
import inspect
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

import critical.running.belief
from critical.inference.posterior import infer
from critical.opening import open_search
from critical.options import SearchOptions
from critical.preparation import prepare_search
from critical.running.driving import run_in_process
from critical.running.search import Search
from critical.storage.store import Store

TRAINABLE = f"{Path(__file__).parent / 'measured_trial.py'}:analytic"
SIZES = (20, 60, 120, 200)
RECENT = 10
"""Trials that a median is taken over."""
TRIAL_SECONDS = 60.0
COLUMNS = {
    "choose": ("next",),
    "ask": ("next/ask",),
    "begin": ("next/enter", "next/store"),
    "measure": ("record", "record/store"),
    "result": ("finish",),
    "store": ("finish/store",),
    "tell": ("finish/tell",),
    "posterior": ("finish/posterior",),
}
"""What is printed, from what is timed: a call of the driver's, and what it called in turn."""

Seconds = defaultdict[str, float]
"""What one trial cost, by what was called."""


class Clock:
    """Adds up seconds by the innermost of the wrapped calls, and closes the book at each trial."""

    def __init__(self) -> None:
        self.trials: list[Seconds] = []
        self._open: Seconds = defaultdict(float)
        self._names: list[str] = []
        self._since = 0.0

    def wrap(self, owner: object, method: str, name: str, *, ends: bool = False) -> None:
        """Time a method of an object, or a function of a module, from now on.

        Args:
            owner: Whose attribute is replaced.
            method: Name of the attribute.
            name: What its seconds are booked as, below the call that it was made from.
            ends: Whether a trial is over when it returns.
        """
        call: Callable[..., Any] = getattr(owner, method)

        @wraps(call)
        def timed(*arguments: object, **named: object) -> object:
            with self._running(name):
                found = call(*arguments, **named)
            if ends:
                self.trials.append(self._open)
                self._open = defaultdict(float)
            return found

        setattr(owner, method, timed)

    @contextmanager
    def _running(self, name: str) -> Iterator[None]:
        self._book()
        self._names.append(name)
        try:
            yield
        finally:
            self._book()
            self._names.pop()

    def _book(self) -> None:
        now = time.perf_counter()
        if self._names:
            # At most two deep: what a store's method calls of the store's is the store's.
            path = dict.fromkeys((self._names[0], self._names[-1]))
            self._open["/".join(path)] += now - self._since
        self._since = now


def watch(search: Search, store: Store, clock: Clock) -> None:
    """Time what the driver calls, and what these calls consist of."""
    clock.wrap(search, "next", "next")
    clock.wrap(search, "record", "record")
    clock.wrap(search, "finish", "finish", ends=True)
    clock.wrap(search._proposals, "propose", "ask")
    clock.wrap(search._proposals, "enter", "enter")
    clock.wrap(search._proposals, "tell", "tell")
    for method, _ in inspect.getmembers(type(store), inspect.isfunction):
        if not method.startswith("_"):
            clock.wrap(store, method, "store")
    clock.wrap(critical.running.belief, "infer", "posterior")


def header() -> str:
    """Name the columns of ``row``."""
    columns = " ".join(f"{name:>9}" for name in COLUMNS)
    return f"{'trials':>6} {columns} {'total':>9} {'greatest':>9}  of {TRIAL_SECONDS:.0f} s"


def row(trials: Sequence[Seconds], size: int) -> str:
    """Summarize the last trials of a search's first so many, in milliseconds."""
    recent = [trial for trial in trials[:size] if "next/ask" in trial][-RECENT:]
    columns = [
        statistics.median(sum(trial[path] for path in paths) for trial in recent)
        for paths in COLUMNS.values()
    ]
    totals = [sum(trial.values()) for trial in recent]
    total = statistics.median(totals)
    cells = " ".join(f"{1000 * seconds:9.1f}" for seconds in (*columns, total, max(totals)))
    return f"{size:>6} {cells} {total / TRIAL_SECONDS:7.2%}"


def measure(options: SearchOptions) -> list[Seconds]:
    """Run a whole search; return what each trial cost, seconds by name."""
    prepared = prepare_search(options)
    clock = Clock()
    # Wrapped below, and put back in the end: a function of a module outlives this search.
    with Store.open(options.storage) as store, patch("critical.running.belief.infer", infer):
        search = open_search(store, prepared)
        watch(search, store, clock)
        run_in_process(search, prepared.trainable)
    return clock.trials


def main() -> None:
    """Run one search and print a row a size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--budget", default="200trials")
    parser.add_argument("--widths", type=int, nargs="+", help="default: 32 64 128")
    parser.add_argument("--sampler", default="gp", choices=("gp", "random"))
    parser.add_argument("--lr", type=float, nargs="*", help="a ladder of learning rates")
    parser.add_argument("--at", type=int, nargs="+", default=SIZES, help="sizes to report")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # as the command does
    given: dict[str, object] = {"budget": arguments.budget, "sampler": arguments.sampler}
    for option in ("lr", "widths"):
        if (values := getattr(arguments, option)) is not None:
            given[option] = tuple(values)
    with tempfile.TemporaryDirectory() as folder:
        given |= {"storage": f"sqlite:///{folder}/critical.db", "work_dir": Path(folder) / "work"}
        fixed = {"trainable": TRAINABLE, "workers": 0}
        started = time.perf_counter()
        trials = measure(SearchOptions.model_validate(fixed | given))
        elapsed = time.perf_counter() - started
    print(f"{len(trials)} trials in {elapsed:.0f} s; milliseconds a trial, medians of {RECENT}")
    print(header())
    for size in arguments.at:
        if size <= len(trials) and any("next/ask" in trial for trial in trials[:size]):
            print(row(trials, size))


if __name__ == "__main__":
    main()
