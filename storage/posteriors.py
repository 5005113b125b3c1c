"""Queries about posteriors and recommendations: summaries of every step, the latest document."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, Select, func, select, update
from sqlalchemy.orm import Session

from critical.storage.agreement import SETTINGS_DISAGREE, disagreeing
from critical.storage.documents import posterior_document, posterior_record
from critical.storage.records import (
    Document,
    PosteriorRecord,
    PosteriorSummary,
    RecommendationRecord,
)
from critical.storage.schema import Posterior, Recommendation


def add(session: Session, study_id: int, record: PosteriorRecord, spent_seconds: float) -> None:
    """Store a step: its summary for good, its document until the next step's replaces it."""
    _drop_document(session, study_id)
    star = None if record.target is None else record.target.gamma_star
    verdict = None if star is None else star.verdict
    session.add(
        Posterior(
            study_id=study_id,
            trials=record.trials,
            spent_seconds=spent_seconds,
            median=None if star is None else star.median,
            low=None if star is None else star.low,
            high=None if star is None else star.high,
            verdict=SETTINGS_DISAGREE if star and disagreeing(record) else verdict,
            created_at=datetime.now(UTC),
            document=posterior_document(record),
        )
    )


def latest(session: Session, study_id: int) -> PosteriorRecord | None:
    """Return the posterior of the last step, if there was one."""
    document = session.scalar(
        select(Posterior.document)
        .where(Posterior.study_id == study_id)
        .order_by(Posterior.id.desc())
        .limit(1)
    )
    return None if document is None else posterior_record(document)


def latest_at(session: Session, study_id: int) -> datetime | None:
    """Return the moment of the last step, if there was one."""
    statement = select(Posterior.created_at).where(Posterior.study_id == study_id)
    return session.scalar(statement.order_by(Posterior.id.desc()).limit(1))


def narrowing(session: Session, study_id: int) -> list[PosteriorSummary]:
    """Return γ* after each step that had one, oldest first; no document is read."""
    statement = _summaries().where(Posterior.study_id == study_id).order_by(Posterior.id)
    return [_summary(row) for row in session.execute(statement)]


def latest_summaries(session: Session) -> dict[int, PosteriorSummary]:
    """Return each study's latest γ*, by the study's id, in one query."""
    last = (
        select(func.max(Posterior.id))
        .where(Posterior.median.is_not(None))
        .group_by(Posterior.study_id)
    )
    rows = session.execute(_summaries().where(Posterior.id.in_(last)))
    return {row.study_id: _summary(row) for row in rows}


def recommend(session: Session, study_id: int, document: Document) -> None:
    """Store a recommendation; earlier ones stay."""
    session.add(
        Recommendation(study_id=study_id, document=dict(document), created_at=datetime.now(UTC))
    )


def latest_recommendation(session: Session, study_id: int) -> RecommendationRecord | None:
    """Return the last recommendation stored, if there was one."""
    row = session.execute(
        select(Recommendation.document, Recommendation.created_at)
        .where(Recommendation.study_id == study_id)
        .order_by(Recommendation.id.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else RecommendationRecord(row.document, row.created_at)


def _drop_document(session: Session, study_id: int) -> None:
    # A document is some 100 kB: kept for each of 10,000 trials they would fill a gigabyte.
    last = select(func.max(Posterior.id)).where(Posterior.study_id == study_id).scalar_subquery()
    session.execute(update(Posterior).where(Posterior.id == last).values(document=None))


def _summaries() -> Select[*tuple[Any, ...]]:
    return select(
        Posterior.study_id,
        Posterior.trials,
        Posterior.spent_seconds,
        Posterior.median,
        Posterior.low,
        Posterior.high,
        Posterior.verdict,
    ).where(Posterior.median.is_not(None))


def _summary(row: Row[*tuple[Any, ...]]) -> PosteriorSummary:
    _, trials, spent_seconds, median, low, high, verdict = row
    return PosteriorSummary(trials, spent_seconds, median, low, high, verdict)
