"""The tables. Optuna's live in the same database, so ours all begin with ``critical_``.

What costs device-time stands once, in ``critical_charge``: a trial's reservation and charge are
read from there. A change here needs a migration; tests/storage compares the two.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from critical.storage.columns import NanDouble, UtcDateTime, one_of
from critical.storage.records import Role, StudyState, TrialState

TABLE_PREFIX = "critical_"
NAME_LENGTH = 255


class Base(DeclarativeBase):
    """What the tables share: constraints with names, so that a migration can drop them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        float: Double,
        datetime: UtcDateTime,
        dict[str, Any]: JSON(none_as_null=True),
    }


class Study(Base):
    """One search over γ and scale."""

    __tablename__ = "critical_study"
    __table_args__ = (
        CheckConstraint("budget_total >= 0", name="budget_total"),
        CheckConstraint("interval_low < interval_high", name="interval"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH), unique=True)
    state: Mapped[StudyState] = mapped_column(one_of(StudyState, "state"))
    reason: Mapped[str | None] = mapped_column(Text)
    budget_unit: Mapped[str] = mapped_column(String(32))
    budget_total: Mapped[float]
    rule: Mapped[str] = mapped_column(String(64))
    interval_low: Mapped[float]
    interval_high: Mapped[float]
    reference_gamma: Mapped[float]
    target_width: Mapped[int | None]
    target_depth: Mapped[int | None]
    options: Mapped[dict[str, Any]]
    plan: Mapped[dict[str, Any]]
    target: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]


class Trial(Base):
    """One proxy run."""

    __tablename__ = "critical_trial"
    __table_args__ = (
        UniqueConstraint("study_id", "number"),
        # One row for one of Optuna's trials: none is run twice.
        UniqueConstraint("study_id", "arm", "optuna_number"),
        Index(None, "study_id", "state"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("critical_study.id", ondelete="CASCADE"))
    number: Mapped[int]
    arm: Mapped[str] = mapped_column(String(128))
    optuna_number: Mapped[int | None]
    role: Mapped[Role] = mapped_column(one_of(Role, "role"))
    gamma: Mapped[float]
    learning_rate: Mapped[float | None]
    width: Mapped[int]
    depth: Mapped[int]
    heads: Mapped[int]
    tokens: Mapped[int] = mapped_column(BigInteger)
    seed: Mapped[int] = mapped_column(BigInteger)
    settings: Mapped[str] = mapped_column(String(64))
    state: Mapped[TrialState] = mapped_column(one_of(TrialState, "state"))
    reason: Mapped[str | None] = mapped_column(Text)
    reasoning: Mapped[float | None]
    log2_efficiency: Mapped[float | None]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class Measurement(Base):
    """One evaluation within a trial, the rows of a trial side by side on disk."""

    __tablename__ = "critical_measurement"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012 - SQLAlchemy reads it from the class

    trial_id: Mapped[int] = mapped_column(
        ForeignKey("critical_trial.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True)
    tokens: Mapped[int] = mapped_column(BigInteger)
    loss: Mapped[float] = mapped_column(NanDouble, nullable=True)
    reasoning: Mapped[float] = mapped_column(NanDouble, nullable=True)
    device_seconds: Mapped[float]
    extras: Mapped[dict[str, Any]]


class Charge(Base):
    """One line of the ledger, device-seconds: one for each attempt at a trial."""

    __tablename__ = "critical_charge"
    __table_args__ = (
        UniqueConstraint("trial_id", "attempt"),
        CheckConstraint("reserved_seconds >= 0", name="reserved_seconds"),
        CheckConstraint("charged_seconds >= 0", name="charged_seconds"),
        CheckConstraint("(charged_seconds IS NULL) = (settled_at IS NULL)", name="settled"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(
        ForeignKey("critical_study.id", ondelete="CASCADE"), index=True
    )
    trial_id: Mapped[int | None] = mapped_column(
        ForeignKey("critical_trial.id", ondelete="CASCADE")
    )
    attempt: Mapped[int]
    purpose: Mapped[str] = mapped_column(String(64))
    reserved_seconds: Mapped[float]
    charged_seconds: Mapped[float | None]
    reason: Mapped[str | None] = mapped_column(Text)
    reserved_at: Mapped[datetime]
    settled_at: Mapped[datetime | None]


class Lease(Base):
    """A driver's right to write to a study, and under what it ran; one at a time is unreleased."""

    __tablename__ = "critical_lease"
    __table_args__ = (
        Index(
            "uq_critical_lease_unreleased",
            "study_id",
            unique=True,
            sqlite_where=text("released_at IS NULL"),
            postgresql_where=text("released_at IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    study_id: Mapped[int] = mapped_column(
        ForeignKey("critical_study.id", ondelete="CASCADE"), index=True
    )
    host: Mapped[str] = mapped_column(String(NAME_LENGTH))
    machine: Mapped[str] = mapped_column(String(NAME_LENGTH))
    pid: Mapped[int]
    started: Mapped[str] = mapped_column(String(64))
    acquired_at: Mapped[datetime]
    expires_at: Mapped[float]
    """Seconds since 1970 by the database's clock, which all drivers share."""
    released_at: Mapped[datetime | None]
    environment: Mapped[dict[str, Any]]


class Posterior(Base):
    """What was inferred, step by step; the document of the latest step only."""

    __tablename__ = "critical_posterior"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(
        ForeignKey("critical_study.id", ondelete="CASCADE"), index=True
    )
    trials: Mapped[int]
    spent_seconds: Mapped[float]
    median: Mapped[float | None]
    low: Mapped[float | None]
    high: Mapped[float | None]
    verdict: Mapped[str | None] = mapped_column(String(32))
    created_at: Mapped[datetime]
    document: Mapped[dict[str, Any] | None]


class Recommendation(Base):
    """The JSON of ``critical recommend``."""

    __tablename__ = "critical_recommendation"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(
        ForeignKey("critical_study.id", ondelete="CASCADE"), index=True
    )
    document: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
