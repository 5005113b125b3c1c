"""A store of 2,000 trials answers at once; benchmarks/store_scale.py has ten thousand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

from sqlalchemy import event, insert

from critical.storage.records import (
    MeasurementRecord,
    NewStudy,
    NewTrial,
    PosteriorRecord,
    Process,
    TrialOutcome,
    TrialState,
)
from critical.storage.schema import Charge, Measurement, Trial
from critical.storage.store import Store

Within = Callable[[float], AbstractContextManager[None]]

TRIALS = 2000
MEASUREMENTS = 10
SECONDS = 2.0


def test_a_large_study_answers_within_a_second(
    sqlite_url: str,
    new_study: NewStudy,
    new_trial: NewTrial,
    posterior: PosteriorRecord,
    within: Within,
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
            lambda: store.charges(study.id),
            lambda: store.curves(study.id, "trained_accuracy"),
            lambda: store.last_extras(study.id, "checkpoint_failures"),
            lambda: store.measurements(study.id),
            lambda: store.narrowing(study.id),
            store.studies,
        ]
        for question in questions:
            with within(SECONDS):
                question()
        assert store.counts(study.id).running == TRIALS + 1
        assert sum(map(len, store.measurements(study.id).values())) == TRIALS * MEASUREMENTS


def test_one_trial_more_reads_no_other_trial(
    sqlite_url: str, new_study: NewStudy, new_trial: NewTrial, posterior: PosteriorRecord
) -> None:
    """SQLite finds the rows of every statement of a trial by a key, however many others there are.

    Of charges and measurements, those of one trial; the ledger, which is a sum, is left out.
    """
    driver = Process("host", "machine", 1, "0")
    one = MeasurementRecord(1000, 2.0, 0.1, 90.0, {"trained_accuracy": 0.5})
    with Store.open(sqlite_url) as store:
        study = store.create_study(new_study)
        lease = store.acquire(study.id, driver)
        with _plans(store) as plans:
            trial = store.add_trial(study.id, new_trial)
            store.add_measurements(trial.id, 0, [one], used_seconds=90.0)
            store.interrupt_trial(trial.id, 90.0, "its worker died")
            store.trial_measurements(trial.id)
            store.resume_trial(trial.id, 60.0)
            store.finish_trial(trial.id, TrialOutcome(TrialState.COMPLETED, 1.0, None, 0.5, 0.1))
            store.add_posterior(study.id, posterior, 91.0)
            store.latest_posterior(study.id)
            store.inferred_at(study.id)
            store.trial(study.id, trial.number)
            store.renew(lease)
    assert len(plans) > 30
    for statement, steps in plans:
        for step in steps:
            assert not step.startswith("SCAN critical_"), statement
            if "critical_charge" in step or "critical_measurement" in step:
                assert "(trial_id=?" in step, statement


@contextmanager
def _plans(store: Store) -> Iterator[list[tuple[str, list[str]]]]:
    """Collect what a store sends within the block, and how SQLite goes about it."""
    sent: list[tuple[str, Any]] = []
    found: list[tuple[str, list[str]]] = []

    def note(*seen: Any) -> None:
        statement, parameters, many = seen[2], seen[3], seen[5]
        sent.append((statement, parameters[0] if many else parameters))

    event.listen(store._engine, "before_cursor_execute", note)
    yield found
    event.remove(store._engine, "before_cursor_execute", note)
    with store._engine.connect() as connection:
        for statement, parameters in sent:
            if not statement.startswith(("BEGIN", "PRAGMA")):
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                found.append((statement, [row.detail for row in rows]))


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
