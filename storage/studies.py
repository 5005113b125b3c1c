"""Queries about studies. Each takes a session inside a transaction that the store opened."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from critical.storage import ledger, posteriors
from critical.storage.errors import StoreError, StudyNotFound
from critical.storage.records import (
    Document,
    LeaseRecord,
    NewStudy,
    StudyRecord,
    StudyState,
    StudySummary,
    TrialCounts,
)
from critical.storage.schema import NAME_LENGTH, Study, Trial


def create(session: Session, new: NewStudy) -> StudyRecord:
    """Store a running study; a name that is taken fails on the database's constraint."""
    if not 0 < len(new.name) <= NAME_LENGTH:
        raise StoreError(
            f"a study's name of {len(new.name)} characters cannot be stored: "
            f"write 1 to {NAME_LENGTH}"
        )
    low, high = new.interval
    study = Study(
        name=new.name,
        state=StudyState.RUNNING,
        budget_unit=new.budget_unit,
        budget_total=new.budget_total,
        rule=new.rule,
        interval_low=low,
        interval_high=high,
        reference_gamma=new.reference_gamma,
        target_width=new.target_width,
        target_depth=new.target_depth,
        options=dict(new.options),
        plan=dict(new.plan),
        target=None if new.target is None else dict(new.target),
        created_at=datetime.now(UTC),
    )
    session.add(study)
    session.flush()
    return _record(study)


def find(session: Session, name: str) -> StudyRecord | None:
    """Return the study of a name, if there is one."""
    study = session.scalar(select(Study).where(Study.name == name))
    return None if study is None else _record(study)


def names(session: Session) -> list[str]:
    """Return every study's name, the newest first."""
    return list(session.scalars(select(Study.name).order_by(Study.id.desc())))


def summaries(session: Session, held: Mapping[int, LeaseRecord]) -> list[StudySummary]:
    """Return every study with its trials, spending and latest γ*, oldest first: four queries.

    Args:
        session: Inside a transaction.
        held: The lease of each study that has one, by the study's id.
    """
    counts = _counts(session)
    spent = ledger.spent(session)
    latest = posteriors.latest_summaries(session)
    return [
        StudySummary(
            study=_record(study),
            spent_seconds=spent.get(study.id, 0.0),
            counts=counts.get(study.id, TrialCounts()),
            latest=latest.get(study.id),
            lease=held.get(study.id),
        )
        for study in session.scalars(select(Study).order_by(Study.id))
    ]


def counts(session: Session, study_id: int) -> TrialCounts:
    """Return how many trials of a study are in each state."""
    return _counts(session, study_id).get(study_id, TrialCounts())


def extend_budget(session: Session, study_id: int, total: float) -> StudyRecord:
    """Set a total no smaller than the one before."""
    study = _locked(session, study_id)
    if not total >= study.budget_total:
        raise StoreError(
            f"the budget of study {study.name!r} is {study.budget_total:g} and cannot become "
            f"{total:g}: write one that is not smaller"
        )
    study.budget_total = total
    return _flushed(session, study)


def update_plan(session: Session, study_id: int, plan: Document) -> StudyRecord:
    """Replace the plan."""
    study = _locked(session, study_id)
    study.plan = dict(plan)
    return _flushed(session, study)


def set_state(
    session: Session, study_id: int, state: StudyState, reason: str | None
) -> StudyRecord:
    """Set what the study is doing, and why; no reason clears the one before."""
    study = _locked(session, study_id)
    study.state, study.reason = state, reason
    return _flushed(session, study)


def lock(session: Session, study_id: int) -> str:
    """Hold a study's row until the transaction ends, so that writers to it take turns.

    Returns:
        Its name.

    Raises:
        StudyNotFound: There is no such row.
    """
    return _locked(session, study_id).name


def _locked(session: Session, study_id: int) -> Study:
    study = session.scalar(select(Study).where(Study.id == study_id).with_for_update())
    if study is None:
        raise StudyNotFound.keyed(study_id)
    return study


def _flushed(session: Session, study: Study) -> StudyRecord:
    session.flush()
    return _record(study)


def _counts(session: Session, study_id: int | None = None) -> dict[int, TrialCounts]:
    statement = select(Trial.study_id, Trial.state, func.count()).group_by(
        Trial.study_id, Trial.state
    )
    if study_id is not None:
        statement = statement.where(Trial.study_id == study_id)
    found: dict[int, dict[str, int]] = {}
    for study, state, count in session.execute(statement):
        found.setdefault(study, {})[state.value] = count
    return {study: TrialCounts(**by_state) for study, by_state in found.items()}


def _record(study: Study) -> StudyRecord:
    return StudyRecord(
        id=study.id,
        name=study.name,
        state=study.state,
        reason=study.reason,
        budget_unit=study.budget_unit,
        budget_total=study.budget_total,
        rule=study.rule,
        interval=(study.interval_low, study.interval_high),
        reference_gamma=study.reference_gamma,
        target_width=study.target_width,
        target_depth=study.target_depth,
        options=study.options,
        plan=study.plan,
        target=study.target,
        created_at=study.created_at,
    )
