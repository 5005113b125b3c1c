"""A store of a thousand trials answers at once; benchmarks/store_scale.py has ten thousand."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import insert

from critical.storage.records import MeasurementRecord, NewStudy, NewTrial, PosteriorRecord
from critical.storage.schema import Charge, Measurement, Trial
from critical.storage.store import Store

TRIALS = 1000
MEASUREMENTS = 10
SECONDS = 1.0


def test_a_large_study_answers_within_a_second(
    sqlite_url: str, new_study: NewStudy, new_trial: NewTrial, posterior: PosteriorRecord
) -> None:
    """What a command or a page needs first does not grow slow with the study."""
    with Store.open(sqlite_url) as store:
        study = store.create_study(new_study)
        first = store.add_trial(study.id, new_trial)
        store.add_measurements(first.id, 0, [MeasurementRecord(1, 2.0, 0.1, 1.0)])
        _multiply(store)
        for step in range(20):
            store.add_posterior(study.id, replace(posterior, trials=step), float(step))
        questions: list[Callable[[], object]] = [
            lambda: store.add_trial(study.id, new_trial),
            lambda: store.counts(study.id),
            lambda: store.ledger(study.id),
            lambda: store.trials(study.id),
            lambda: store.measurements(study.id),
            lambda: store.narrowing(study.id),
            store.studies,
        ]
        for question in questions:
            started = time.perf_counter()
            question()
            assert time.perf_counter() - started < SECONDS
        assert store.counts(study.id).running == TRIALS + 1
        assert sum(map(len, store.measurements(study.id).values())) == TRIALS * MEASUREMENTS


def _multiply(store: Store) -> None:
    """Copy the first trial, its charge and its measurement until there are enough."""
    with store._writing() as session:
        for table in (Trial, Charge, Measurement):
            row = dict(session.execute(table.__table__.select()).mappings().one())
            session.execute(insert(table), list(_copies(table, row)))


def _copies(table: type, row: dict[str, object]) -> list[dict[str, object]]:
    others = range(2, TRIALS + 1)
    if table is Trial:
        return [row | {"id": n, "number": n - 1} for n in others]
    if table is Charge:
        return [row | {"id": n, "trial_id": n} for n in others]
    return [
        row | {"trial_id": trial, "number": number}
        for trial in range(1, TRIALS + 1)
        for number in range(MEASUREMENTS)
        if (trial, number) != (1, 0)
    ]
