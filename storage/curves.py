"""Queries about curves as columns: half a million rows, without a record for each."""

from __future__ import annotations

import numpy as np
from sqlalchemy import Dialect, Double, Select, select, type_coerce
from sqlalchemy.orm import Session

from critical.storage import extras
from critical.storage.records import CurveRecord
from critical.storage.schema import Measurement, Trial

_ROW = np.dtype((np.float64, 5))


def of_study(session: Session, study_id: int, extra: str) -> dict[int, CurveRecord]:
    """Return the curves of all trials that have measurements, by the trial's id, in one query."""
    rows = session.connection().execute(_rows(session.get_bind().dialect, study_id, extra))
    # To NumPy None is NaN, and so is the text of it that an extra may be.
    table = np.fromiter(map(tuple, rows), dtype=_ROW)
    if not table.size:
        return {}
    trials, *columns = np.ascontiguousarray(table.T)
    ids, starts = np.unique(trials, return_index=True)
    parts = [np.split(column, starts[1:]) for column in columns]
    return {int(key): CurveRecord(*curve) for key, *curve in zip(ids, *parts, strict=True)}


def _rows(
    dialect: Dialect, study_id: int, extra: str
) -> Select[tuple[int, int, float, float, float]]:
    own = select(Trial.id).where(Trial.study_id == study_id)
    return (
        select(
            Measurement.trial_id,
            Measurement.tokens,
            # Without NanDouble, which would be called for every number.
            type_coerce(Measurement.loss, Double),
            type_coerce(Measurement.reasoning, Double),
            extras.column(dialect, extra),
        )
        .where(Measurement.trial_id.in_(own))
        .order_by(Measurement.trial_id, Measurement.number)
    )
