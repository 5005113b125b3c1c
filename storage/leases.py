"""Queries about leases: one driver at a time writes to a study. Each takes a session.

A lease ends when it is released, or when it is not renewed in time by the database's clock, which
all drivers share; whoever takes a study over releases the old lease in the same transaction. Every
write of a driver holds its lease's row, so that nothing of an old driver can be written after that.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import Dialect, Double, literal_column, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from critical.storage import studies
from critical.storage.errors import LeaseLost, StudyBusy
from critical.storage.records import Document, LeaseRecord, Process
from critical.storage.schema import Lease

LEASE_SECONDS = 60.0
"""How long a lease lasts from its last renewal."""


def acquire(
    session: Session,
    study_id: int,
    process: Process,
    is_gone: Callable[[Process], bool],
    environment: Document,
    seconds: float,
) -> LeaseRecord:
    """Take the lease of a study that nobody holds, whose holder is gone, or whose time is up.

    Raises:
        StudyBusy: Another driver holds it.
    """
    name = studies.lock(session, study_id)
    found = current(session, study_id)
    if found is not None:
        if found.holds and not is_gone(found.process):
            raise _busy(name, found)
        release(session, found.id)
    lease = Lease(
        id=uuid.uuid4().hex,
        study_id=study_id,
        host=process.host,
        machine=process.machine,
        pid=process.pid,
        started=process.started,
        acquired_at=datetime.now(UTC),
        expires_at=_now(session) + seconds,
        released_at=None,
        environment=dict(environment),
    )
    session.add(lease)
    session.flush()
    return _record(lease, _now(session))


def renew(session: Session, lease_id: str, seconds: float) -> None:
    """Let a lease last so many seconds from now.

    Raises:
        LeaseLost: It has been released, by another driver.
    """
    renewed = session.scalar(
        update(Lease)
        .where(Lease.id == lease_id, Lease.released_at.is_(None))
        .values(expires_at=_now(session) + seconds)
        .returning(Lease.id)
    )
    if renewed is None:
        raise _lost()


def check(session: Session, lease_id: str) -> None:
    """Hold a lease's row until the transaction ends, so that nobody takes over in between.

    Raises:
        LeaseLost: It has been released, by another driver.
    """
    held = session.scalar(
        select(Lease.id)
        .where(Lease.id == lease_id, Lease.released_at.is_(None))
        .with_for_update(read=True)
    )
    if held is None:
        raise _lost()


def release(session: Session, lease_id: str) -> None:
    """End a lease; one that has ended stays as it is."""
    session.execute(
        update(Lease)
        .where(Lease.id == lease_id, Lease.released_at.is_(None))
        .values(released_at=datetime.now(UTC))
    )


def current(session: Session, study_id: int) -> LeaseRecord | None:
    """Return the lease of a study that has not been released, if there is one."""
    lease = session.scalar(
        select(Lease).where(Lease.study_id == study_id, Lease.released_at.is_(None))
    )
    return None if lease is None else _record(lease, _now(session))


def all_current(session: Session) -> dict[int, LeaseRecord]:
    """Return the leases that have not been released, by study id, in one query."""
    clock = _clock(session.get_bind().dialect)
    rows = session.execute(select(Lease, clock).where(Lease.released_at.is_(None)))
    return {lease.study_id: _record(lease, float(now)) for lease, now in rows}


def of_study(session: Session, study_id: int) -> list[LeaseRecord]:
    """Return every lease that a study has had, oldest first."""
    now = _now(session)
    statement = select(Lease).where(Lease.study_id == study_id).order_by(Lease.acquired_at)
    return [_record(lease, now) for lease in session.scalars(statement)]


def _now(session: Session) -> float:
    """Seconds since 1970 by the database's clock."""
    seconds = session.scalar(select(_clock(session.get_bind().dialect)))
    assert seconds is not None
    return float(seconds)


def _clock(dialect: Dialect) -> ColumnElement[float]:
    if dialect.name == "sqlite":
        return literal_column("(julianday('now') - 2440587.5) * 86400.0", Double)
    return literal_column("extract(epoch FROM clock_timestamp())", Double)


def _busy(study: str, lease: LeaseRecord) -> StudyBusy:
    since = lease.acquired_at.strftime("%Y-%m-%d %H:%M UTC")
    holder = lease.process
    return StudyBusy(
        f"study {study!r} is being searched by process {holder.pid} on {holder.host} since "
        f"{since}: let it finish or stop it (if it is gone, its lease ends in "
        f"{lease.expires_in:.0f} s), or name another with --study"
    )


def _lost() -> LeaseLost:
    return LeaseLost(
        "another driver has taken this search over, since the lease was not renewed in time: "
        "critical studies shows it"
    )


def _record(lease: Lease, now: float) -> LeaseRecord:
    return LeaseRecord(
        id=lease.id,
        study_id=lease.study_id,
        process=Process(lease.host, lease.machine, lease.pid, lease.started),
        acquired_at=lease.acquired_at,
        expires_in=lease.expires_at - now,
        released_at=lease.released_at,
        environment=lease.environment,
    )
