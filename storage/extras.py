"""Queries about one extra of measurements, by its name."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Dialect, Double, func, select
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql.elements import ColumnElement

from critical.storage.records import MeasurementRecord
from critical.storage.schema import Measurement, Trial


def column(dialect: Dialect, name: str) -> ColumnElement[float]:
    """Select an extra: NULL where a measurement lacks it, perhaps text where it is not finite."""
    if dialect.name == "sqlite":
        # Not SQLAlchemy's as_float: SQLite casts the text nan to 0.
        return func.json_extract(Measurement.extras, f'$."{name}"', type_=Double)
    found: ColumnElement[float] = Measurement.extras[name].as_float()
    return found


def at_last(session: Session, study_id: int, name: str) -> dict[int, float]:
    """Return an extra of each trial's last measurement, by the trial's number, where it has it."""
    other = aliased(Measurement)
    last = select(func.max(other.number)).where(other.trial_id == Trial.id).scalar_subquery()
    value = column(session.get_bind().dialect, name)
    statement = (
        select(Trial.number, value)
        .join_from(Trial, Measurement)
        .where(Trial.study_id == study_id, Measurement.number == last, value.is_not(None))
        .order_by(Trial.number)
    )
    return {number: float(found) for number, found in session.execute(statement)}


def last_measurements(
    session: Session, study_id: int, names: Sequence[str]
) -> dict[int, MeasurementRecord]:
    """Return each trial's last measurement with those of the extras alone, in one query."""
    other = aliased(Measurement)
    last = select(func.max(other.number)).where(other.trial_id == Trial.id).scalar_subquery()
    dialect = session.get_bind().dialect
    statement = (
        select(
            Trial.number,
            Measurement.tokens,
            Measurement.loss,
            Measurement.reasoning,
            Measurement.device_seconds,
            *(column(dialect, name) for name in names),
        )
        .join_from(Trial, Measurement)
        .where(Trial.study_id == study_id, Measurement.number == last)
        .order_by(Trial.number)
    )
    found: dict[int, MeasurementRecord] = {}
    for number, tokens, loss, reasoning, seconds, *values in session.execute(statement):
        pairs = zip(names, values, strict=True)
        extras = {name: float(value) for name, value in pairs if value is not None}
        found[number] = MeasurementRecord(tokens, loss, reasoning, seconds, extras)
    return found
