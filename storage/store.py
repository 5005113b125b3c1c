"""The store: every query goes through it, each in one transaction, and records come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from types import TracebackType
from typing import Self

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from critical.storage import extras, leases, ledger, posteriors, studies, trials
from critical.storage.engine import make_engine, transaction, writing
from critical.storage.errors import StudyExists, StudyNotFound
from critical.storage.leases import LEASE_SECONDS
from critical.storage.migrate import bring_to_head
from critical.storage.records import (
    ChargeRecord,
    CurveRecord,
    Document,
    LeaseRecord,
    LedgerRecord,
    MeasurementRecord,
    NewStudy,
    NewTrial,
    PosteriorRecord,
    PosteriorSummary,
    Process,
    RecommendationRecord,
    Role,
    StudyRecord,
    StudyState,
    StudySummary,
    TrialCounts,
    TrialOutcome,
    TrialRecord,
)
from critical.storage.url import check_place, parse_url, place


class Store:
    """One database of studies. Safe to share between threads; one process writes to a study.

    Once a store has acquired the lease of a study, each of its writes to that study raises
    LeaseLost where another driver has taken the study over meanwhile.

    Any method raises StoreError, in one sentence, where the database cannot be reached, read or
    written, and StudyNotFound or TrialNotFound for an id that is not in it.
    """

    def __init__(self, engine: Engine) -> None:
        """Wrap an engine whose tables are at this version; `Store.open` makes one."""
        self._engine = engine
        self._read = sessionmaker(engine)
        self._write = sessionmaker(writing(engine))
        self._leases: dict[int, str] = {}

    @classmethod
    def open(cls, url: str, *, create: bool = True) -> Self:
        """Open the store at a URL, creating or migrating its tables.

        Raises:
            StoreNotFound: There is none, and ``create`` is false.
            StoreTooNew: A newer version of Critical wrote it.
            StoreError: The URL is malformed, or its database cannot be used.
        """
        parsed = parse_url(url)
        check_place(parsed, create=create)
        engine = make_engine(parsed)
        try:
            bring_to_head(engine, create=create)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine)

    @property
    def url(self) -> str:
        """The URL, its password included: for opening it again, never for printing."""
        return self._engine.url.render_as_string(hide_password=False)

    @property
    def place(self) -> str:
        """Where the store is, for printing: a file's path, or the URL without its password."""
        return place(self._engine.url)

    def __repr__(self) -> str:
        return f"Store({self.place!r})"

    def close(self) -> None:
        """Close every connection; the store opens new ones if it is used again."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def acquire(
        self,
        study_id: int,
        process: Process,
        *,
        is_gone: Callable[[Process], bool] = lambda _: False,
        environment: Document | None = None,
        seconds: float = LEASE_SECONDS,
    ) -> LeaseRecord:
        """Take the lease of a study, so that this store alone writes to it.

        Args:
            study_id: The study.
            process: Who takes it.
            is_gone: Whether the process that holds it is known to have ended; then its lease is
                taken over before its time is up.
            environment: Under what this driver runs, as JSON.
            seconds: How long the lease lasts, until it is renewed.

        Raises:
            StudyBusy: Another driver holds it.
        """
        with self._writing() as session:
            lease = leases.acquire(session, study_id, process, is_gone, environment or {}, seconds)
        self._leases[study_id] = lease.id
        return lease

    def renew(self, lease: LeaseRecord, seconds: float = LEASE_SECONDS) -> None:
        """Let a lease last so many seconds from now. Raises LeaseLost where it was taken over."""
        with self._writing() as session:
            leases.renew(session, lease.id, seconds)

    def release(self, lease: LeaseRecord) -> None:
        """End a lease; one that was taken over stays with who has it now."""
        self._leases.pop(lease.study_id, None)
        with self._writing() as session:
            leases.release(session, lease.id)

    def lease(self, study_id: int) -> LeaseRecord | None:
        """Return the lease that holds a study, if any; it may have expired."""
        with self._reading() as session:
            return leases.current(session, study_id)

    def leases(self, study_id: int) -> list[LeaseRecord]:
        """Return every lease that a study has had, oldest first."""
        with self._reading() as session:
            return leases.of_study(session, study_id)

    def create_study(self, new: NewStudy) -> StudyRecord:
        """Store a new study, running. Raises StudyExists where its name is taken."""
        try:
            with self._writing() as session:
                return studies.create(session, new)
        except IntegrityError:
            if self.find_study(new.name) is None:
                raise
            raise StudyExists(new.name, self.place) from None

    def study(self, name: str) -> StudyRecord:
        """Return the study of a name. Raises StudyNotFound, which says what there is."""
        with self._reading() as session:
            found = studies.find(session, name)
            if found is None:
                raise StudyNotFound.named(name, self.place, studies.names(session))
            return found

    def find_study(self, name: str) -> StudyRecord | None:
        """Return the study of a name, or None."""
        with self._reading() as session:
            return studies.find(session, name)

    def studies(self) -> list[StudySummary]:
        """Return every study, oldest first, in five queries however many there are."""
        with self._reading() as session:
            return studies.summaries(session, leases.all_current(session))

    def extend_budget(self, study_id: int, total: float) -> StudyRecord:
        """Raise the budget, in the study's own measure; StoreError where it would shrink."""
        with self._writing(study_id) as session:
            return studies.extend_budget(session, study_id, total)

    def update_plan(self, study_id: int, plan: Document) -> StudyRecord:
        """Replace the plan."""
        with self._writing(study_id) as session:
            return studies.update_plan(session, study_id, plan)

    def set_state(self, study_id: int, state: StudyState, reason: str | None = None) -> StudyRecord:
        """Set what the study is doing and why; without a reason, the one before is cleared."""
        with self._writing(study_id) as session:
            return studies.set_state(session, study_id, state, reason)

    def counts(self, study_id: int) -> TrialCounts:
        """Return how many trials are in each state."""
        with self._reading() as session:
            return studies.counts(session, study_id)

    def add_trial(self, study_id: int, new: NewTrial) -> TrialRecord:
        """Store a running trial under the next number, and its reservation, at once."""
        with self._writing(study_id) as session:
            return trials.add(session, study_id, new)

    def add_measurements(
        self,
        trial_id: int,
        first: int,
        measurements: Sequence[MeasurementRecord],
        *,
        used_seconds: float = 0.0,
    ) -> None:
        """Store measurements ``first``, ``first + 1``, …; a number sent again changes nothing.

        Args:
            trial_id: The trial.
            first: Place of the first in the trial's curve, from 0.
            measurements: One after another.
            used_seconds: Device-seconds of the running attempt, where they are more than was
                reserved: they are held from now on.
        """
        with self._writing_to(trial_id) as session:
            trials.measure(session, trial_id, first, measurements, used_seconds)

    def finish_trial(self, trial_id: int, outcome: TrialOutcome) -> TrialRecord:
        """Store a trial's result and its charge at once; a finished trial comes back unchanged."""
        with self._writing_to(trial_id) as session:
            return trials.finish(session, trial_id, outcome)

    def interrupt_trial(self, trial_id: int, device_seconds: float, reason: str) -> TrialRecord:
        """Store at once that an attempt ended before its trial, why, and its charge.

        A trial that does not run comes back unchanged.
        """
        with self._writing_to(trial_id) as session:
            return trials.interrupt(session, trial_id, device_seconds, reason)

    def resume_trial(self, trial_id: int, reserved_seconds: float) -> TrialRecord:
        """Let an interrupted trial run on, and reserve for it, at once.

        Raises:
            StoreError: It is not interrupted.
        """
        with self._writing_to(trial_id) as session:
            return trials.resume(session, trial_id, reserved_seconds)

    def adopt_trials(self, study_id: int, reason: str) -> list[TrialRecord]:
        """Interrupt what a dead driver left running, each charged to its last measurement."""
        with self._writing(study_id) as session:
            return trials.adopt(session, study_id, reason)

    def trials(
        self, study_id: int, *, role: Role | None = None, with_reason: bool = False
    ) -> list[TrialRecord]:
        """Return a study's trials in number order.

        Args:
            study_id: The study.
            role: Only those that were run for this.
            with_reason: Only those that have a reason.
        """
        with self._reading() as session:
            return trials.of_study(session, study_id, role, with_reason=with_reason)

    def trial(self, study_id: int, number: int) -> TrialRecord:
        """Return one trial by its place in its study, from 0."""
        with self._reading() as session:
            return trials.by_number(session, study_id, number)

    def measurements(self, study_id: int) -> dict[int, tuple[MeasurementRecord, ...]]:
        """Return all measurements of a study by trial id; trials without any are left out."""
        with self._reading() as session:
            return trials.study_measurements(session, study_id)

    def curves(self, study_id: int, extra: str) -> dict[int, CurveRecord]:
        """Return what ``measurements`` does as columns, several times as fast.

        Args:
            study_id: The study.
            extra: Which of the extras to read.
        """
        from critical.storage import curves  # NumPy takes long to import

        with self._reading() as session:
            return curves.of_study(session, study_id, extra)

    def last_extras(self, study_id: int, extra: str) -> dict[int, float]:
        """Return an extra of each trial's last measurement, by trial number, where it has it."""
        with self._reading() as session:
            return extras.at_last(session, study_id, extra)

    def last_measurements(
        self, study_id: int, names: Sequence[str] = ()
    ) -> dict[int, MeasurementRecord]:
        """Return each trial's last measurement by trial number, in one query.

        Args:
            study_id: The study.
            names: Which of the extras to read; the others are left out.
        """
        with self._reading() as session:
            return extras.last_measurements(session, study_id, names)

    def trial_measurements(self, trial_id: int) -> tuple[MeasurementRecord, ...]:
        """Return one trial's measurements in order."""
        with self._reading() as session:
            return trials.measurements(session, trial_id)

    def charge(self, study_id: int, purpose: str, device_seconds: float) -> None:
        """Charge what no trial used, such as timing steps."""
        with self._writing(study_id) as session:
            studies.lock(session, study_id)
            ledger.charge(session, study_id, purpose, device_seconds)

    def ledger(self, study_id: int) -> LedgerRecord:
        """Return what a study has spent and what its running trials hold, device-seconds."""
        with self._reading() as session:
            return ledger.total(session, study_id)

    def charges(self, study_id: int, *, with_reason: bool = False) -> list[ChargeRecord]:
        """Return every line of the ledger in order of reservation, or those that have a reason."""
        with self._reading() as session:
            return ledger.charges(session, study_id, with_reason=with_reason)

    def add_posterior(self, study_id: int, record: PosteriorRecord, spent_seconds: float) -> None:
        """Store what was inferred after ``spent_seconds`` device-seconds."""
        with self._writing(study_id) as session:
            studies.lock(session, study_id)
            posteriors.add(session, study_id, record, spent_seconds)

    def latest_posterior(self, study_id: int) -> PosteriorRecord | None:
        """Return the posterior stored last, or None."""
        with self._reading() as session:
            return posteriors.latest(session, study_id)

    def inferred_at(self, study_id: int) -> datetime | None:
        """Return when the posterior stored last was, or None."""
        with self._reading() as session:
            return posteriors.latest_at(session, study_id)

    def narrowing(self, study_id: int) -> list[PosteriorSummary]:
        """Return γ* after each step that had one, oldest first, without loading documents."""
        with self._reading() as session:
            return posteriors.narrowing(session, study_id)

    def add_recommendation(self, study_id: int, document: Document) -> None:
        """Store a recommendation."""
        with self._writing(study_id) as session:
            studies.lock(session, study_id)
            posteriors.recommend(session, study_id, document)

    def latest_recommendation(self, study_id: int) -> RecommendationRecord | None:
        """Return the recommendation stored last, or None."""
        with self._reading() as session:
            return posteriors.latest_recommendation(session, study_id)

    def _reading(self) -> AbstractContextManager[Session]:
        return transaction(self._read, self._engine.url)

    @contextmanager
    def _writing(self, study_id: int | None = None) -> Iterator[Session]:
        """Write in one transaction, under the lease on the study if this store has acquired it."""
        with transaction(self._write, self._engine.url) as session:
            lease = None if study_id is None else self._leases.get(study_id)
            if lease is not None:
                leases.check(session, lease)
            yield session

    @contextmanager
    def _writing_to(self, trial_id: int) -> Iterator[Session]:
        """Write to a trial in one transaction, under the lease on its study."""
        with transaction(self._write, self._engine.url) as session:
            lease = self._leases.get(trials.study_of(session, trial_id)) if self._leases else None
            if lease is not None:
                leases.check(session, lease)
            yield session
