"""Queries about trials and their measurements. Each takes a session inside a transaction."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, Select, func, insert, select, update
from sqlalchemy.orm import Session

from critical.storage import ledger, studies
from critical.storage.documents import extras_document, extras_mapping
from critical.storage.errors import StoreError, TrialNotFound
from critical.storage.records import (
    OPEN,
    MeasurementRecord,
    NewTrial,
    Role,
    TrialOutcome,
    TrialRecord,
    TrialState,
)
from critical.storage.schema import Charge, Measurement, Trial


def add(session: Session, study_id: int, new: NewTrial) -> TrialRecord:
    """Store a running trial under the study's next number, and its reservation."""
    studies.lock(session, study_id)
    highest = session.scalar(select(func.max(Trial.number)).where(Trial.study_id == study_id))
    columns = asdict(new)
    reserved = columns.pop("reserved_seconds")
    trial = Trial(
        study_id=study_id,
        number=0 if highest is None else highest + 1,
        state=TrialState.RUNNING,
        started_at=datetime.now(UTC),
        **columns,
    )
    session.add(trial)
    session.flush()
    ledger.reserve(session, study_id, trial.id, new.role.value, reserved)
    return by_id(session, trial.id)


def finish(session: Session, trial_id: int, outcome: TrialOutcome) -> TrialRecord:
    """Store how an open trial ended and settle its charge; a finished one stays as it is."""
    if outcome.state in OPEN:
        raise ValueError(f"trial {trial_id} cannot end as {outcome.state}: give another TrialState")
    ended = session.scalar(
        update(Trial)
        .where(Trial.id == trial_id, Trial.state.in_(OPEN))
        .values(
            state=outcome.state,
            reason=outcome.reason,
            reasoning=_number_or_none(outcome.reasoning),
            log2_efficiency=_number_or_none(outcome.log2_efficiency),
            finished_at=datetime.now(UTC),
        )
        .returning(Trial.id)
    )
    if ended is not None:
        ledger.settle(session, trial_id, outcome.device_seconds)
    return by_id(session, trial_id)


def interrupt(session: Session, trial_id: int, device_seconds: float, reason: str) -> TrialRecord:
    """Settle a running trial's attempt, which ended before the trial; another state stays."""
    if _swap(session, trial_id, TrialState.RUNNING, TrialState.INTERRUPTED, reason):
        ledger.settle(session, trial_id, device_seconds, reason)
    return by_id(session, trial_id)


def resume(session: Session, trial_id: int, reserved_seconds: float) -> TrialRecord:
    """Let an interrupted trial run on under its number, with a reservation of its own.

    Raises:
        StoreError: It is not interrupted: it runs, or has ended.
    """
    if not _swap(session, trial_id, TrialState.INTERRUPTED, TrialState.RUNNING, None):
        found = by_id(session, trial_id)
        raise StoreError(
            f"trial {found.number} is {found.state} and cannot go on: only an interrupted one can"
        )
    study_id, role = session.execute(
        select(Trial.study_id, Trial.role).where(Trial.id == trial_id)
    ).one()
    ledger.reserve(session, study_id, trial_id, role.value, reserved_seconds)
    return by_id(session, trial_id)


def adopt(session: Session, study_id: int, reason: str) -> list[TrialRecord]:
    """Interrupt what a dead driver left running, charged to its last measurement."""
    orphans = session.scalars(
        select(Trial.id)
        .where(Trial.study_id == study_id, Trial.state == TrialState.RUNNING)
        .order_by(Trial.number)
    ).all()
    return [interrupt(session, key, _measured(session, key), reason) for key in orphans]


def _measured(session: Session, trial_id: int) -> float:
    """Device-seconds of the running attempt up to its last measurement."""
    last = session.scalar(
        select(func.max(Measurement.device_seconds)).where(Measurement.trial_id == trial_id)
    )
    return max(0.0, (last or 0.0) - ledger.charged(session, trial_id))


def _swap(
    session: Session, trial_id: int, old: TrialState, new: TrialState, reason: str | None
) -> bool:
    """Change a trial's state only if it is still the old one; tell whether it was."""
    swapped = session.scalar(
        update(Trial)
        .where(Trial.id == trial_id, Trial.state == old)
        .values(state=new, reason=reason)
        .returning(Trial.id)
    )
    return swapped is not None


def of_study(
    session: Session, study_id: int, role: Role | None, *, with_reason: bool
) -> list[TrialRecord]:
    """Return a study's trials in number order: all, those of a role, those that have a reason."""
    statement = _trials().where(Trial.study_id == study_id).order_by(Trial.number)
    if role is not None:
        statement = statement.where(Trial.role == role)
    if with_reason:
        statement = statement.where(Trial.reason.is_not(None))
    return [TrialRecord(**row) for row in session.execute(statement).mappings()]


def by_id(session: Session, trial_id: int) -> TrialRecord:
    """Return the trial of a key."""
    row = session.execute(_trials().where(Trial.id == trial_id)).mappings().one_or_none()
    if row is None:
        raise _no_trial(trial_id)
    return TrialRecord(**row)


def study_of(session: Session, trial_id: int) -> int:
    """Return the key of the study that a trial belongs to."""
    found = session.scalar(select(Trial.study_id).where(Trial.id == trial_id))
    if found is None:
        raise _no_trial(trial_id)
    return found


def by_number(session: Session, study_id: int, number: int) -> TrialRecord:
    """Return a study's trial of a number."""
    statement = _trials().where(Trial.study_id == study_id, Trial.number == number)
    row = session.execute(statement).mappings().one_or_none()
    if row is None:
        count = session.scalar(
            select(func.count()).select_from(Trial).where(Trial.study_id == study_id)
        )
        raise TrialNotFound(
            f"the study has no trial {number}: it has {count}, numbered from 0"
            if count
            else f"the study has no trial {number}, nor any other yet"
        )
    return TrialRecord(**row)


def measure(
    session: Session,
    trial_id: int,
    first: int,
    measurements: Sequence[MeasurementRecord],
    used_seconds: float,
) -> None:
    """Store measurements ``first``, ``first + 1``, …; numbers that are stored already stay.

    ``used_seconds``, device-seconds of the running attempt, are held from now on if more than
    what was reserved.
    """
    # The lock on the trial keeps another writer from storing a number after we looked.
    if session.scalar(select(Trial.id).where(Trial.id == trial_id).with_for_update()) is None:
        raise _no_trial(trial_id)
    stored = set(
        session.scalars(
            select(Measurement.number).where(
                Measurement.trial_id == trial_id, Measurement.number >= first
            )
        )
    )
    rows = [
        _measurement_row(trial_id, number, each)
        for number, each in enumerate(measurements, first)
        if number not in stored
    ]
    if rows:
        session.execute(insert(Measurement), rows)
    if used_seconds:
        ledger.hold(session, trial_id, used_seconds)


def measurements(session: Session, trial_id: int) -> tuple[MeasurementRecord, ...]:
    """Return a trial's measurements in order."""
    statement = _measurements().where(Measurement.trial_id == trial_id).order_by(Measurement.number)
    return tuple(_measurement(row) for row in session.execute(statement))


def study_measurements(session: Session, study_id: int) -> dict[int, tuple[MeasurementRecord, ...]]:
    """Return the measurements of every trial that has any, by its id, in one query."""
    statement = (
        _measurements()
        .where(Measurement.trial_id.in_(select(Trial.id).where(Trial.study_id == study_id)))
        .order_by(Measurement.trial_id, Measurement.number)
    )
    # Not session.execute: half a million rows cost a second more through the ORM.
    return _grouped(session.connection().execute(statement))


def _grouped(rows: Iterable[Row[*tuple[Any, ...]]]) -> dict[int, tuple[MeasurementRecord, ...]]:
    found: dict[int, list[MeasurementRecord]] = {}
    for row in rows:
        found.setdefault(row.trial_id, []).append(_measurement(row))
    return {trial: tuple(each) for trial, each in found.items()}


def _trials() -> Select[*tuple[Any, ...]]:
    """Select a TrialRecord's fields by name; what a trial costs stands in the ledger."""
    columns = select(
        Trial.id,
        Trial.number,
        Trial.arm,
        Trial.optuna_number,
        Trial.role,
        Trial.gamma,
        Trial.learning_rate,
        Trial.width,
        Trial.depth,
        Trial.heads,
        Trial.tokens,
        Trial.seed,
        Trial.settings,
        Trial.state,
        Trial.reason,
        Trial.reasoning,
        Trial.log2_efficiency,
        func.count().label("attempts"),
        func.sum(Charge.reserved_seconds).label("reserved_seconds"),
        func.sum(Charge.charged_seconds).label("device_seconds"),
        Trial.started_at,
        Trial.finished_at,
    )
    return columns.join_from(Trial, Charge).group_by(Trial.id)


def _measurements() -> Select[*tuple[Any, ...]]:
    return select(
        Measurement.trial_id,
        Measurement.tokens,
        Measurement.loss,
        Measurement.reasoning,
        Measurement.device_seconds,
        Measurement.extras,
    )


def _measurement(row: Row[*tuple[Any, ...]]) -> MeasurementRecord:
    _, tokens, loss, reasoning, device_seconds, extras = row
    return MeasurementRecord(tokens, loss, reasoning, device_seconds, extras_mapping(extras))


def _measurement_row(trial_id: int, number: int, record: MeasurementRecord) -> dict[str, Any]:
    return {
        "trial_id": trial_id,
        "number": number,
        "tokens": record.tokens,
        "loss": record.loss,
        "reasoning": record.reasoning,
        "device_seconds": record.device_seconds,
        "extras": extras_document(record.extras),
    }


def _number_or_none(value: float | None) -> float | None:
    """A NaN objective is no objective, on every database alike."""
    return None if value is None or math.isnan(value) else value


def _no_trial(trial_id: int) -> TrialNotFound:
    return TrialNotFound(
        f"no trial has the id {trial_id}: take it from a TrialRecord of this store"
    )
