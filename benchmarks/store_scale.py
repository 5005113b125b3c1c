"""How fast a store of 10,000 trials × 50 measurements answers: in one study, and spread over 100.

    python benchmarks/store_scale.py [--trials 10000] [--studies 1 100] [--url postgresql://…]

A search is run and its trials are copied, Optuna's rows too (large_store.py). Then, best and
median of five: what a driver asks, in this process, and what the commands answer, as whole
processes. A posterior and what a sampler is asked take their own time, which is not in here:
service_overhead.py has both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from large_store import build, name_of, prepared_search
from measured_trial import MEASUREMENTS, train

from critical.opening import open_search
from critical.plan import Plan
from critical.preparation import Prepared
from critical.running.history import History
from critical.running.search import Assignment, Search
from critical.storage.records import TrialOutcome, TrialState
from critical.storage.store import Store
from critical.trials import ProxyRun, Scale
from critical.trials.watch import Watched

REPEATS = 5
COMMANDS = (
    ("studies",),
    ("show", "STUDY"),
    ("show", "STUDY", "--json"),
    ("trials", "STUDY", "--csv"),
    ("recommend", "STUDY"),
)

MEASUREMENT = next(train(ProxyRun(0.7, 1e-3, Scale(64, 2, 2, 1000), seed=0)))
"""With as many extras as the built-in trial has."""

T = TypeVar("T")


def main() -> None:
    """Build each store, then ask it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--studies", type=int, nargs="+", default=[1, 100])
    parser.add_argument("--url", help="an empty database, for the first number of studies")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # as the search does
    for studies in arguments.studies[:1] if arguments.url else arguments.studies:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            url = arguments.url or f"sqlite:///{folder}/critical.db"
            each = arguments.trials // studies
            print(f"\n{studies} studies of {each} trials x {MEASUREMENTS} measurements")
            build(url, folder, arguments.trials, studies)
            prepared = prepared_search(url, folder, name_of(studies // 2))
            ask_in_process(url, prepared)
            ask_commands(url, prepared.name)


def ask_in_process(url: str, prepared: Prepared) -> None:
    """Time what a driver does: opening, one trial more, and reading every curve."""
    timed("open the store", lambda: Store.open(url).close())
    with Store.open(url) as store:
        study = store.study(prepared.name)
        plan = Plan.from_document(study.plan)
        timed("open its history", lambda: History(store, study, plan))
        timed("open a search, begin a trial", lambda: begin(open_search(store, prepared)), end)
        search = open_search(store, prepared)
        timed("begin a trial", lambda: begin(search), end)
        timed(f"a trial of {MEASUREMENTS} measurements", lambda: end(measured(begin(search))))
        running = begin(search)
        timed("one measurement", lambda: measure(running), repeats=100)
        end(running)
        timed("all trials", lambda: store.trials(study.id))
        opened = [History(store, study, plan) for _ in range(REPEATS)]
        timed("every curve, for the posterior", lambda: opened.pop().runs())
        timed("every measurement, whole", lambda: store.measurements(study.id))


def ask_commands(url: str, study: str) -> None:
    """Time whole processes of the command line."""
    environment = os.environ | {"CRITICAL_STORAGE": url}

    def run(words: Sequence[str]) -> None:
        named = [study if word == "STUDY" else word for word in words]
        program = [sys.executable, "-m", "critical", *named]
        subprocess.run(program, env=environment, check=True, capture_output=True)

    for words in COMMANDS:
        timed(f"critical {' '.join(words)}", partial(run, words))


@dataclass
class Running:
    """A trial that has begun, and how often it was measured."""

    search: Search
    number: int
    count: int = 0


def begin(search: Search) -> Running:
    """Take the search's next trial."""
    found = search.next()
    assert isinstance(found, Assignment)
    return Running(search, found.number)


def measured(trial: Running) -> Running:
    """Record a whole curve."""
    for _ in range(MEASUREMENTS):
        measure(trial)
    return trial


def measure(trial: Running) -> None:
    """Record one measurement."""
    trial.count += 1
    measurement = replace(MEASUREMENT, tokens=trial.count)
    trial.search.record(trial.number, Watched(measurement, 0.8 * trial.count, diverged=False))


def end(trial: Running) -> None:
    """End a trial with a result, tell Optuna, and store a posterior as if it were inferred."""
    history, posterior = trial.search.history, trial.search.posterior
    assert posterior is not None
    outcome = TrialOutcome(TrialState.COMPLETED, 42.0, None, 0.6, 0.1)
    trial.search._proposals.tell(history.end(trial.number, outcome))
    completed = sum(one.state is TrialState.COMPLETED for one in history.trials)
    whole = replace(posterior, trials=completed)
    history.store.add_posterior(history.study.id, whole, history.ledger.spent_seconds)


def timed(
    name: str,
    call: Callable[[], T],
    after: Callable[[T], object] = lambda _: None,
    repeats: int = REPEATS,
) -> None:
    """Print the best and the median time of a call; what it returns is handed on, untimed."""
    took = []
    for _ in range(repeats):
        started = time.perf_counter()
        found = call()
        took.append(time.perf_counter() - started)
        after(found)
    print(f"{name:30} {min(took):8.4f} {statistics.median(took):8.4f} s", flush=True)


if __name__ == "__main__":
    main()
