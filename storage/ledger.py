"""Queries about the ledger: device-seconds reserved before they are used, settled after."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from critical.storage.records import ChargeRecord, LedgerRecord
from critical.storage.schema import Charge, Trial


def reserve(session: Session, study_id: int, trial_id: int, purpose: str, seconds: float) -> None:
    """Hold device-seconds for an attempt at a trial that is about to start."""
    before = session.scalar(
        select(func.count()).select_from(Charge).where(Charge.trial_id == trial_id)
    )
    session.add(
        Charge(
            study_id=study_id,
            trial_id=trial_id,
            attempt=before or 0,
            purpose=purpose,
            reserved_seconds=_checked(seconds),
            reserved_at=datetime.now(UTC),
        )
    )
    session.flush()


def hold(session: Session, trial_id: int, seconds: float) -> None:
    """Raise what a running attempt holds to what it has used already, if that is more."""
    session.execute(
        update(Charge)
        .where(
            Charge.trial_id == trial_id,
            Charge.settled_at.is_(None),
            Charge.reserved_seconds < seconds,
        )
        .values(reserved_seconds=_checked(seconds))
    )


def settle(session: Session, trial_id: int, seconds: float, reason: str | None = None) -> None:
    """Charge an attempt what it used. It is settled once; later calls change nothing.

    Args:
        session: Inside a transaction.
        trial_id: The trial's key.
        seconds: Device-seconds of this attempt alone.
        reason: Why it ended before its trial did, if so.
    """
    session.execute(
        update(Charge)
        .where(Charge.trial_id == trial_id, Charge.settled_at.is_(None))
        .values(charged_seconds=_checked(seconds), settled_at=datetime.now(UTC), reason=reason)
    )


def charged(session: Session, trial_id: int) -> float:
    """Return the device-seconds that a trial's attempts have been charged so far."""
    statement = select(func.sum(Charge.charged_seconds)).where(Charge.trial_id == trial_id)
    return session.scalar(statement) or 0.0


def charge(session: Session, study_id: int, purpose: str, seconds: float) -> None:
    """Charge what no trial used, such as timing steps."""
    now = datetime.now(UTC)
    session.add(
        Charge(
            study_id=study_id,
            attempt=0,
            purpose=purpose,
            reserved_seconds=_checked(seconds),
            charged_seconds=seconds,
            reserved_at=now,
            settled_at=now,
        )
    )


def total(session: Session, study_id: int) -> LedgerRecord:
    """Return what a study has spent, by purpose too, and what its running trials hold."""
    held = func.sum(Charge.reserved_seconds).filter(Charge.settled_at.is_(None))
    rows = session.execute(
        select(Charge.purpose, func.sum(Charge.charged_seconds), held, func.count())
        .where(Charge.study_id == study_id)
        .group_by(Charge.purpose)
        .order_by(Charge.purpose)
    ).all()
    by_purpose = {purpose: spent for purpose, spent, _, _ in rows if spent is not None}
    return LedgerRecord(
        spent_seconds=math.fsum(by_purpose.values()),
        held_seconds=math.fsum(held or 0.0 for _, _, held, _ in rows),
        by_purpose=by_purpose,
        charges=sum(count for *_, count in rows),
    )


def spent(session: Session) -> dict[int, float]:
    """Return the device-seconds charged to each study that has any, by its id."""
    statement = (
        select(Charge.study_id, func.sum(Charge.charged_seconds))
        .where(Charge.charged_seconds.is_not(None))
        .group_by(Charge.study_id)
    )
    return {study: seconds or 0.0 for study, seconds in session.execute(statement)}


def charges(session: Session, study_id: int, *, with_reason: bool) -> list[ChargeRecord]:
    """Return the lines of a study's ledger in the order of reservation."""
    statement = (
        select(
            Trial.number.label("trial_number"),
            Charge.attempt,
            Charge.purpose,
            Charge.reserved_seconds,
            Charge.charged_seconds,
            Charge.reason,
            Charge.reserved_at,
            Charge.settled_at,
        )
        .join_from(Charge, Trial, isouter=True)
        .where(Charge.study_id == study_id)
        .order_by(Charge.id)
    )
    if with_reason:
        statement = statement.where(Charge.reason.is_not(None))
    return [ChargeRecord(**row) for row in session.execute(statement).mappings()]


def _checked(seconds: float) -> float:
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{seconds} device-seconds cannot be charged: give a number, 0 or more")
    return seconds
