"""The contract of every store, on each database that is supported."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import IntegrityError

from critical.storage.errors import (
    DocumentError,
    StoreError,
    StudyExists,
    StudyNotFound,
    TrialNotFound,
)
from critical.storage.leases import LEASE_SECONDS
from critical.storage.records import (
    MeasurementRecord,
    NewStudy,
    NewTrial,
    PosteriorRecord,
    PosteriorSummary,
    Process,
    Role,
    StudyRecord,
    StudyState,
    TrialCounts,
    TrialOutcome,
    TrialState,
)
from critical.storage.store import Store

COMPLETED = TrialOutcome(TrialState.COMPLETED, 42.5, None, 0.6, -0.25)


@pytest.fixture
def study(store: Store, new_study: NewStudy) -> StudyRecord:
    """A study in the store."""
    return store.create_study(new_study)


class TestStudies:
    """Studies are created once, found by name and listed with what they have done."""

    def test_a_study_comes_back_as_it_was_created(self, store: Store, new_study: NewStudy) -> None:
        """Every field survives, documents included, under a database key and the present time."""
        before = datetime.now(UTC)
        created = store.create_study(new_study)
        assert store.study(new_study.name) == created
        assert created.state is StudyState.RUNNING
        assert before <= created.created_at <= datetime.now(UTC)
        assert created.created_at.utcoffset() == timedelta(0)
        for field in NewStudy.__dataclass_fields__:
            assert getattr(created, field) == getattr(new_study, field)

    def test_a_study_without_a_target_has_none(self, store: Store, new_study: NewStudy) -> None:
        """No target is None, not an empty document."""
        store.create_study(replace(new_study, target=None, target_width=None, target_depth=None))
        found = store.study(new_study.name)
        assert (found.target, found.target_width, found.target_depth) == (None, None, None)

    def test_a_name_is_taken_once(self, store: Store, study: StudyRecord) -> None:
        """A second study of the name is refused, and the first stays."""
        again = NewStudy(
            **{f: getattr(study, f) for f in NewStudy.__dataclass_fields__} | {"rule": "knee"}
        )
        with pytest.raises(StudyExists, match=r"'llama-d256-L4' exists already in .*--study"):
            store.create_study(again)
        assert store.study(study.name) == study

    def test_an_impossible_interval_is_not_taken_for_a_name(
        self, store: Store, new_study: NewStudy
    ) -> None:
        """Another constraint's failure is not reported as a study that exists."""
        with pytest.raises(IntegrityError, match="interval"):
            store.create_study(replace(new_study, interval=(1.0, 0.5)))

    @pytest.mark.parametrize("length", [0, 256])
    def test_a_name_must_fit(self, store: Store, new_study: NewStudy, length: int) -> None:
        """A name too long for a database, or none, is refused alike by all."""
        with pytest.raises(StoreError, match=rf"{length} characters.*write 1 to 255"):
            store.create_study(replace(new_study, name="x" * length))

    def test_a_missing_study_is_named_with_those_that_exist(
        self, store: Store, new_study: NewStudy
    ) -> None:
        """The message lists the newest five and counts the rest; a store without any says so."""
        with pytest.raises(StudyNotFound, match=r"no study 'nope' in .*none.*critical search"):
            store.study("nope")
        for number in range(7):
            store.create_study(replace(new_study, name=f"s{number}"))
        with pytest.raises(StudyNotFound, match=r"write one of 's6', .*'s2' and 2 more \(`critica"):
            store.study("nope")
        assert store.find_study("nope") is None

    def test_what_changes_comes_back_and_is_stored(self, store: Store, study: StudyRecord) -> None:
        """Budget, plan and state are updated one by one, the rest untouched."""
        store.extend_budget(study.id, 7200.0)
        store.update_plan(study.id, {"widths": [128]})
        changed = store.set_state(study.id, StudyState.FAILED, "out of memory")
        assert changed == store.study(study.name)
        assert changed == replace(
            study,
            budget_total=7200.0,
            plan={"widths": [128]},
            state=StudyState.FAILED,
            reason="out of memory",
        )
        assert store.set_state(study.id, StudyState.RUNNING).reason is None

    def test_a_budget_does_not_shrink(self, store: Store, study: StudyRecord) -> None:
        """A smaller total is refused, the same one accepted."""
        with pytest.raises(StoreError, match="is 3600 and cannot become 60"):
            store.extend_budget(study.id, 60.0)
        assert store.extend_budget(study.id, 3600.0) == study

    def test_an_unknown_id_is_said(self, store: Store, new_trial: NewTrial) -> None:
        """Every write to a study that is not there says which id it was."""
        missing = pytest.raises(StudyNotFound, match="no study has the id 99")
        with missing:
            store.extend_budget(99, 1.0)
        with missing:
            store.add_trial(99, new_trial)
        with missing:
            store.charge(99, "timing", 1.0)
        with missing:
            store.add_recommendation(99, {})

    def test_documents_are_copies(self, store: Store, study: StudyRecord) -> None:
        """Changing a document that was handed out changes nothing in the store."""
        cast("dict[str, object]", store.study(study.name).options)["seed"] = 2
        assert store.study(study.name).options == study.options

    def test_a_document_that_is_not_json_is_refused(self, store: Store, study: StudyRecord) -> None:
        """NaN and foreign objects are refused in one sentence, and nothing is written."""
        for bad in (math.nan, -math.inf, object()):
            with pytest.raises(DocumentError, match=r"not JSON .*write null"):
                store.update_plan(study.id, {"deep": [bad]})
        assert store.study(study.name).plan == study.plan

    def test_the_list_takes_as_many_queries_for_one_study_as_for_ten(
        self,
        store: Store,
        new_study: NewStudy,
        new_trial: NewTrial,
        posterior: PosteriorRecord,
    ) -> None:
        """Each study is listed with its own counts, spending, latest γ* and lease, in five."""
        for number in range(10):
            study = store.create_study(replace(new_study, name=f"s{number}"))
            for _ in range(number):
                store.finish_trial(store.add_trial(study.id, new_trial).id, COMPLETED)
            store.charge(study.id, "timing", 1.0)
            if number:
                store.add_posterior(study.id, posterior, 5.0)
                store.add_posterior(study.id, replace(posterior, target=None), 6.0)
        holder = Process("host", "boot", 1, "2")
        released, held = (store.acquire(listed.study.id, holder) for listed in store.studies()[3:5])
        store.release(released)
        with _counted(store) as statements:
            listed = store.studies()
        assert len(statements) == 5
        assert [each.study.name for each in listed] == [f"s{n}" for n in range(10)]
        assert [each.counts.completed for each in listed] == list(range(10))
        assert [each.spent_seconds for each in listed] == [1.0 + 42.5 * n for n in range(10)]
        assert listed[0].latest is None
        assert listed[9].latest == PosteriorSummary(12, 5.0, 0.71, 0.62, 0.83, "resolved")
        leases = {each.study.name: each.lease for each in listed if each.lease is not None}
        assert {name: lease.id for name, lease in leases.items()} == {"s4": held.id}
        assert 0 < leases["s4"].expires_in <= LEASE_SECONDS


class TestTrials:
    """A trial and what it costs are stored together, once."""

    def test_a_trial_comes_back_running_with_its_reservation(
        self, store: Store, study: StudyRecord, new_trial: NewTrial
    ) -> None:
        """Every field survives; what only the end tells is None."""
        trial = store.add_trial(study.id, new_trial)
        assert store.trial(study.id, 0) == trial
        assert (trial.number, trial.state) == (0, TrialState.RUNNING)
        assert (trial.device_seconds, trial.finished_at, trial.reasoning) == (None, None, None)
        for field in NewTrial.__dataclass_fields__:
            assert getattr(trial, field) == getattr(new_trial, field)
        assert store.ledger(study.id).held_seconds == 60.0

    def test_numbers_count_within_a_study(
        self, store: Store, study: StudyRecord, new_study: NewStudy, new_trial: NewTrial
    ) -> None:
        """Each study counts its own trials from zero."""
        other = store.create_study(replace(new_study, name="other"))
        for where in (study, other, study, study):
            store.add_trial(where.id, new_trial)
        assert [trial.number for trial in store.trials(study.id)] == [0, 1, 2]
        assert [trial.number for trial in store.trials(other.id)] == [0]

    def test_writers_take_turns(
        self, store: Store, study: StudyRecord, new_trial: NewTrial
    ) -> None:
        """Numbers stay unique and without gaps whoever adds at the same time."""
        with Store.open(store.url) as other, ThreadPoolExecutor(4) as pool:
            added = [pool.submit(s.add_trial, study.id, new_trial) for s in [store, other] * 8]
        assert sorted(each.result().number for each in added) == list(range(16))

    def test_an_ending_is_stored_once_however_many_send_it(
        self, store: Store, study: StudyRecord, new_trial: NewTrial
    ) -> None:
        """Of endings at the same time one wins, and all return it."""
        trial = store.add_trial(study.id, new_trial)
        outcomes = [TrialOutcome(TrialState.COMPLETED, float(n)) for n in range(8)]
        with ThreadPoolExecutor(4) as pool:
            ended = list(pool.map(lambda outcome: store.finish_trial(trial.id, outcome), outcomes))
        assert len(set(ended)) == 1
        assert store.ledger(study.id).spent_seconds == ended[0].device_seconds

    def test_one_of_optunas_trials_has_one_row(
        self, store: Store, study: StudyRecord, new_trial: NewTrial
    ) -> None:
        """A second row for the same trial of Optuna's is refused, and its reservation with it."""
        asked = replace(new_trial, optuna_number=3)
        store.add_trial(study.id, asked)
        store.add_trial(study.id, replace(asked, arm="w128/target"))
        with pytest.raises(IntegrityError):
            store.add_trial(study.id, asked)
        assert store.ledger(study.id).held_seconds == 120.0

    def test_a_trial_that_cannot_be_reserved_is_not_added(
        self, store: Store, study: StudyRecord, new_trial: NewTrial
    ) -> None:
        """The row and its reservation are one transaction."""
        with pytest.raises(ValueError, match="nan device-seconds cannot be charged"):
            store.add_trial(study.id, replace(new_trial, reserved_seconds=math.nan))
        assert store.trials(study.id) == []

    def test_the_end_settles_the_charge(
        self, store: Store, study: StudyRecord, new_trial: NewTrial
    ) -> None:
        """The result and the charge arrive together, and the reservation is let go."""
        trial = store.finish_trial(store.add_trial(study.id, new_trial).id, COMPLETED)
        assert (trial.state, trial.device_seconds) == (TrialState.COMPLETED, 42.5)
        assert (trial.reasoning, trial.log2_efficiency) == (0.6, -0.25)
        assert trial.finished_at is not None
        assert trial.finished_at >= trial.started_at
        ledger = store.ledger(study.id)
        assert (ledger.spent_seconds, ledger.held_seconds) == (42.5, 0.0)
        assert store.trials(study.id) == [trial]

    def test_a_trial_ends_once(self, store: Store, study: StudyRecord, new_trial: NewTrial) -> None:
        """A second ending returns the first, and charges nothing."""
        first = store.finish_trial(store.add_trial(study.id, new_trial).id, COMPLETED)
        again = TrialOutcome(TrialState.FAILED, 1000.0, "late")
        assert store.finish_trial(first.id, again) == first
        assert store.ledger(study.id).spent_seconds == 42.5

    def test_an_impossible_charge_leaves_the_trial_running(
        self, store: Store, study: StudyRecord, new_trial: NewTrial
    ) -> None:
        """The result is not stored without its charge."""
        trial = store.add_trial(study.id, new_trial)
        with pytest.raises(ValueError, match="-1 device-seconds"):
            store.finish_trial(trial.id, replace(COMPLETED, device_seconds=-1))
        assert store.trial(study.id, 0) == trial

    def test_a_nan_objective_is_none(
        self, store: Store, study: StudyRecord, new_trial: NewTrial
    ) -> None:
        """Every database hands back None, where one would have NaN and another NULL."""
        outcome = TrialOutcome(TrialState.DIVERGED, 5.0, "loss is nan", math.nan, -6.0)
        trial = store.finish_trial(store.add_trial(study.id, new_trial).id, outcome)
        assert (trial.reasoning, trial.log2_efficiency) == (None, -6.0)

    def test_a_trial_cannot_end_running(
        self, store: Store, study: StudyRecord, new_trial: NewTrial
    ) -> None:
        """RUNNING is no outcome."""
        trial = store.add_trial(study.id, new_trial)
        with pytest.raises(ValueError, match="cannot end as running"):
            store.finish_trial(trial.id, TrialOutcome(TrialState.RUNNING, 1.0))

    def test_a_missing_trial_is_said(
        self, store: Store, study: StudyRecord, new_trial: NewTrial
    ) -> None:
        """By number the message says how many there are; by id, which id."""
        with pytest.raises(TrialNotFound, match="no trial 0, nor any other yet"):
            store.trial(study.id, 0)
        store.add_trial(study.id, new_trial)
        with pytest.raises(TrialNotFound, match="no trial 7: it has 1, numbered from 0"):
            store.trial(study.id, 7)
        with pytest.raises(TrialNotFound, match="no trial has the id 99"):
            store.finish_trial(99, COMPLETED)
        with pytest.raises(TrialNotFound, match="no trial has the id 99"):
            store.add_measurements(99, 0, [MeasurementRecord(1, 1.0, 0.0, 1.0)])

    def test_counts_are_by_state(
        self, store: Store, study: StudyRecord, new_trial: NewTrial
    ) -> None:
        """Each state counts its own trials; a study without any has none."""
        assert store.counts(study.id) == TrialCounts()
        for state in TrialState:
            trial = store.add_trial(study.id, new_trial)
            if state is TrialState.INTERRUPTED:
                store.interrupt_trial(trial.id, 1.0, "its worker died")
            elif state is not TrialState.RUNNING:
                store.finish_trial(trial.id, TrialOutcome(state, 1.0))
        assert store.counts(study.id) == TrialCounts(1, 1, 1, 1, 1, 1)


class TestMeasurements:
    """A trial's curve, in order, whatever is sent twice."""

    def test_measurements_come_back_in_order(
        self,
        store: Store,
        study: StudyRecord,
        new_trial: NewTrial,
        measurements: list[MeasurementRecord],
    ) -> None:
        """By trial or for a whole study, the numbers decide the order, not the arrival."""
        first, second, _ = (store.add_trial(study.id, new_trial) for _ in range(3))
        store.add_measurements(second.id, 1, measurements[1:])
        store.add_measurements(first.id, 0, measurements[:2])
        store.add_measurements(second.id, 0, measurements[:1])
        assert store.trial_measurements(second.id) == tuple(measurements)
        with _counted(store) as statements:
            everything = store.measurements(study.id)
        assert everything == {first.id: tuple(measurements[:2]), second.id: tuple(measurements)}
        assert len(statements) == 1

    def test_a_number_sent_again_changes_nothing(
        self,
        store: Store,
        study: StudyRecord,
        new_trial: NewTrial,
        measurements: list[MeasurementRecord],
    ) -> None:
        """What overlaps stays as it was stored first; what is new is added."""
        trial = store.add_trial(study.id, new_trial)
        store.add_measurements(trial.id, 0, measurements[:2])
        changed = [replace(each, loss=9.0) for each in measurements]
        store.add_measurements(trial.id, 0, changed)
        store.add_measurements(trial.id, 5, [])
        assert store.trial_measurements(trial.id) == (*measurements[:2], changed[2])

    def test_numbers_that_are_not_finite_survive(
        self, store: Store, study: StudyRecord, new_trial: NewTrial
    ) -> None:
        """A diverged run's last measurement is kept as it was."""
        trial = store.add_trial(study.id, new_trial)
        extras = {"norm": math.inf, "rank": math.nan, "depth": -math.inf, "one": 1}
        store.add_measurements(
            trial.id,
            0,
            [
                MeasurementRecord(10, math.nan, math.nan, 1.0, extras),
                MeasurementRecord(20, math.inf, 0.0, 2.0),
            ],
        )
        broken, infinite = store.trial_measurements(trial.id)
        assert math.isnan(broken.loss)
        assert math.isnan(broken.reasoning)
        assert math.isnan(broken.extras["rank"])
        assert broken.extras["norm"] == -broken.extras["depth"] == math.inf
        assert broken.extras["one"] == 1.0
        assert infinite == MeasurementRecord(20, math.inf, 0.0, 2.0)


class TestLedger:
    """Device-seconds are reserved before, settled after, and add up."""

    def test_purposes_add_up(self, store: Store, study: StudyRecord, new_trial: NewTrial) -> None:
        """Trials count under their role; what runs is held, not spent."""
        store.charge(study.id, "timing", 3.0)
        reference = store.add_trial(study.id, replace(new_trial, role=Role.REFERENCE))
        store.finish_trial(reference.id, COMPLETED)
        store.add_trial(study.id, new_trial)
        ledger = store.ledger(study.id)
        assert (ledger.spent_seconds, ledger.held_seconds) == (45.5, 60.0)
        assert ledger.by_purpose == {"reference": 42.5, "timing": 3.0}

    def test_every_line_can_be_read(
        self, store: Store, study: StudyRecord, new_trial: NewTrial
    ) -> None:
        """Lines come in the order of reservation, a trial's by its number."""
        store.charge(study.id, "timing", 3.0)
        store.finish_trial(store.add_trial(study.id, new_trial).id, COMPLETED)
        store.add_trial(study.id, new_trial)
        timing, settled, held = store.charges(study.id)
        assert (timing.trial_number, timing.purpose, timing.charged_seconds) == (None, "timing", 3)
        assert (settled.trial_number, settled.reserved_seconds) == (0, 60.0)
        assert settled.charged_seconds == 42.5
        assert settled.settled_at is not None
        assert (held.trial_number, held.charged_seconds, held.settled_at) == (1, None, None)

    def test_a_study_that_ran_nothing_spent_nothing(self, store: Store, study: StudyRecord) -> None:
        """Empty sums are zero."""
        ledger = store.ledger(study.id)
        assert (ledger.spent_seconds, ledger.held_seconds, ledger.by_purpose) == (0.0, 0.0, {})
        assert store.charges(study.id) == []


class TestPosteriors:
    """Every step's summary, and the latest step's document."""

    def test_the_latest_comes_back_whole(
        self, store: Store, study: StudyRecord, posterior: PosteriorRecord
    ) -> None:
        """The latest posterior is equal to the bit, tuples and all; before any there is None."""
        assert store.latest_posterior(study.id) is None
        store.add_posterior(study.id, posterior, 10.0)
        later = replace(posterior, trials=13, holdout=None)
        store.add_posterior(study.id, later, 20.0)
        assert store.latest_posterior(study.id) == later

    def test_narrowing_has_each_step_with_a_gamma(
        self, store: Store, study: StudyRecord, posterior: PosteriorRecord
    ) -> None:
        """A step before any scale learned is left out of the narrowing, not of the latest."""
        first = replace(posterior, trials=1, target=None)
        store.add_posterior(study.id, first, 1.0)
        assert store.latest_posterior(study.id) == first
        assert store.narrowing(study.id) == []
        store.add_posterior(study.id, posterior, 10.0)
        store.add_posterior(study.id, replace(posterior, trials=13), 20.0)
        assert store.narrowing(study.id) == [
            PosteriorSummary(12, 10.0, 0.71, 0.62, 0.83, "resolved"),
            PosteriorSummary(13, 20.0, 0.71, 0.62, 0.83, "resolved"),
        ]

    def test_a_posterior_with_nan_is_refused(
        self, store: Store, study: StudyRecord, posterior: PosteriorRecord
    ) -> None:
        """It is not stored, and the one before stays the latest."""
        store.add_posterior(study.id, posterior, 10.0)
        with pytest.raises(DocumentError, match="not JSON"):
            store.add_posterior(study.id, replace(posterior, slope=(math.nan,)), 20.0)
        assert store.latest_posterior(study.id) == posterior
        assert len(store.narrowing(study.id)) == 1

    def test_the_latest_recommendation_is_kept(self, store: Store, study: StudyRecord) -> None:
        """The document survives; before any there is None."""
        assert store.latest_recommendation(study.id) is None
        store.add_recommendation(study.id, {"gamma": 0.7})
        store.add_recommendation(study.id, {"gamma": {"median": 0.72}})
        latest = store.latest_recommendation(study.id)
        assert latest is not None
        assert latest.document == {"gamma": {"median": 0.72}}
        assert latest.created_at.tzinfo is UTC


class TestOpening:
    """Stores are opened again, and by several at once."""

    def test_what_was_stored_is_there_when_opened_again(
        self, store: Store, study: StudyRecord
    ) -> None:
        """The URL that a store gives opens the same store, without creating anything."""
        with Store.open(store.url, create=False) as again:
            assert again.study(study.name) == study

    def test_a_reader_sees_what_a_writer_has_committed(
        self, store: Store, study: StudyRecord, new_trial: NewTrial
    ) -> None:
        """A second connection reads while the first goes on writing."""
        with Store.open(store.url) as reader:
            for number in range(3):
                store.add_trial(study.id, new_trial)
                assert reader.counts(study.id).running == number + 1

    def test_a_closed_store_can_be_used_again(self, store: Store, study: StudyRecord) -> None:
        """Closing lets connections go; it does not break the store."""
        store.close()
        assert store.find_study(study.name) == study


class _counted:  # noqa: N801 - used as a function
    """Collects the SELECTs that a store sends within the block."""

    def __init__(self, store: Store) -> None:
        self._engine: Engine = store._engine
        self.statements: list[str] = []

    def _note(self, *arguments: object) -> None:
        statement = str(arguments[2])
        if statement.startswith("SELECT"):
            self.statements.append(statement)

    def __enter__(self) -> list[str]:
        event.listen(self._engine, "before_cursor_execute", self._note)
        return self.statements

    def __exit__(self, *_: object) -> None:
        event.remove(self._engine, "before_cursor_execute", self._note)
