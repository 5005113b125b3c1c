"""How fast a store of 10,000 trials × 50 measurements answers.

    python benchmarks/store_scale.py [--trials 10000] [--url sqlite:////tmp/scale.db]

Prints seconds of wall time, each question asked once of a store opened anew.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert

from critical.storage.records import (
    Band,
    GammaStar,
    MeasurementRecord,
    NewStudy,
    NewTrial,
    PosteriorRecord,
    Role,
    ScalePosterior,
    TargetPosterior,
    TrialOutcome,
    TrialState,
)
from critical.storage.schema import Charge, Measurement, Posterior, Trial
from critical.storage.store import Store

MEASUREMENTS = 50
TRIAL = NewTrial(
    "w64/target", None, Role.SEARCH, 0.7, 0.003, 64, 2, 2, 10**6, 0, "target", reserved_seconds=60.0
)
STUDY = NewStudy(
    "scale", "gpu-h", 1e9, "balance", (0.3, 1.2), 0.5, 256, 4, {}, {"widths": [64]}, None
)


def main() -> None:
    """Build the store, then time every question."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--url", help="an empty database (default: a temporary SQLite file)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = arguments.url or f"sqlite:///{folder}/scale.db"
        print(f"{arguments.trials} trials x {MEASUREMENTS} measurements")
        _timed("build", lambda: build(url, arguments.trials))
        store = _timed("open", lambda: Store.open(url))
        with store:
            ask(store)


def build(url: str, trials: int) -> None:
    """Fill a store with one study of finished trials, and a posterior after each."""
    with Store.open(url) as store:
        study = store.create_study(STUDY)
        now = datetime.now(UTC)
        trial = _trial_row(study.id, now)
        charge = {
            "study_id": study.id,
            "purpose": "search",
            "reserved_seconds": 60.0,
            "charged_seconds": 42.0,
            "reserved_at": now,
            "settled_at": now,
        }
        step = {
            "study_id": study.id,
            "spent_seconds": 42.0,
            "median": 0.7,
            "low": 0.6,
            "high": 0.8,
            "verdict": "resolved",
            "created_at": now,
            "document": None,
        }
        numbers = range(trials)
        with store._writing() as session:
            session.execute(insert(Trial), [trial | {"id": n + 1, "number": n} for n in numbers])
            session.execute(insert(Charge), [charge | {"trial_id": n + 1} for n in numbers])
            session.execute(insert(Posterior), [step | {"trials": n} for n in numbers])
            for n in numbers:
                session.execute(insert(Measurement), _measurement_rows(n + 1))
        if store._engine.dialect.name == "postgresql":
            _catch_up_sequence(store)


def ask(store: Store) -> None:
    """Time what the driver does for each trial, then what commands and pages need."""
    study = store.study("scale")
    trial = _timed("add_trial", lambda: store.add_trial(study.id, TRIAL))
    curve = [MeasurementRecord(n, 1.0, 0.5, 1.0, {"accuracy": 0.5}) for n in range(5)]
    _timed("add_measurements (5)", lambda: store.add_measurements(trial.id, 0, curve))
    ended = TrialOutcome(TrialState.COMPLETED, 42.0, None, 0.6, 0.1)
    _timed("finish_trial", lambda: store.finish_trial(trial.id, ended))
    posterior = _posterior()
    _timed("add_posterior", lambda: store.add_posterior(study.id, posterior, 42.0))
    _timed("latest_posterior", lambda: store.latest_posterior(study.id))
    _timed("counts", lambda: store.counts(study.id))
    _timed("ledger", lambda: store.ledger(study.id))
    _timed("studies", store.studies)
    _timed("narrowing", lambda: store.narrowing(study.id))
    _timed("trials", lambda: store.trials(study.id))
    _timed("charges", lambda: store.charges(study.id))
    _timed("measurements", lambda: store.measurements(study.id))


def _timed(name: str, call: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever the call returns
    started = time.perf_counter()
    result = call()
    print(f"{name:22} {time.perf_counter() - started:8.3f} s", flush=True)
    return result


def _trial_row(study_id: int, now: datetime) -> dict[str, Any]:
    names = [name for name in NewTrial.__dataclass_fields__ if name != "reserved_seconds"]
    return {name: getattr(TRIAL, name) for name in names} | {
        "study_id": study_id,
        "state": TrialState.COMPLETED,
        "reasoning": 0.6,
        "log2_efficiency": 0.1,
        "started_at": now,
        "finished_at": now,
    }


def _measurement_rows(trial_id: int) -> list[dict[str, Any]]:
    return [
        {
            "trial_id": trial_id,
            "number": n,
            "tokens": 1000 * (n + 1),
            "loss": 5 / math.sqrt(n + 1),
            "reasoning": 0.01 * n,
            "device_seconds": 0.8 * n,
            "extras": {"accuracy": 0.02 * n, "probability": 0.5, "matched": 1.25, "norm": 3.5},
        }
        for n in range(MEASUREMENTS)
    ]


def _posterior() -> PosteriorRecord:
    """Return a posterior of the size that a search stores: 3 scales, 91 γ, 256 draws."""
    grid = tuple(0.3 + 0.01 * n for n in range(91))
    draws = tuple(math.sin(n) for n in range(256))
    band = Band(grid, grid, grid)
    star = GammaStar(0.7, 0.6, 0.8, (0.65, 0.75), "resolved", 0.97)
    scales = tuple(
        ScalePosterior(
            width, "target", 100, True, grid, band, band, band, grid, star, draws, 0.5, 0.9, 0.03
        )
        for width in (32, 64, 128)
    )
    target = TargetPosterior(256, star, (0.5, 0.9), False, 0.01, draws)
    return PosteriorRecord(300, scales, 64.0, draws, draws, 0.02, target, None, None, 0.03)


def _catch_up_sequence(store: Store) -> None:
    from sqlalchemy import text

    query = "SELECT setval('critical_trial_id_seq', (SELECT max(id) FROM critical_trial))"
    with store._engine.begin() as connection:
        connection.execute(text(query))


if __name__ == "__main__":
    main()
