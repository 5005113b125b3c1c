"""Optuna's side: what is entered, proposed, told and mended."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution, distribution_to_json
from optuna.storages import RDBStorage
from sqlalchemy import insert, table
from sqlalchemy.sql import column

from critical.plan import Arm, Plan
from critical.running import proposals as module
from critical.running.proposals import Proposal, Proposals
from critical.storage.errors import StoreError
from critical.storage.optuna_storage import optuna_storage
from critical.storage.records import Role, TrialRecord, TrialState
from critical.trials import Scale

Within = Callable[[float], AbstractContextManager[None]]

OptunaState = optuna.trial.TrialState
ARM = Arm(Scale(32, 2, 2, 1000), "target", None)
INTERVAL = (0.3, 1.2)


def plan_of(*ladder: float) -> Plan:
    """A plan of one arm."""
    return Plan((ARM,), ladder, (0,), 0, 0.5, "cpu", 0, 0.0, ())


def ended(proposal: Proposal, state: TrialState) -> TrialRecord:
    """The row of a proposal that has ended."""
    completed = state is TrialState.COMPLETED
    now = datetime.now(UTC)
    return TrialRecord(
        id=1, number=0, arm=ARM.name, optuna_number=proposal.number, role=Role.SEARCH,
        gamma=proposal.gamma, learning_rate=proposal.learning_rate, width=32, depth=2, heads=2,
        tokens=1000, seed=0, settings="target", state=state, reason=None,
        reasoning=0.4 if completed else None, log2_efficiency=1.5 if completed else None,
        attempts=1, reserved_seconds=1.0, device_seconds=1.0, started_at=now, finished_at=now,
    )  # fmt: skip


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[RDBStorage]:
    """Optuna's tables in a SQLite file."""
    opened = optuna_storage(f"sqlite:///{tmp_path}/critical.db")
    yield opened
    opened.remove_session()
    opened.engine.dispose()


@pytest.fixture
def make(storage: RDBStorage) -> Callable[..., Proposals]:
    """Open the proposals of a plan with a ladder, as a new process would."""

    def proposals(*ladder: float, sampler: str = "random", seed: int = 0) -> Proposals:
        return Proposals(storage, "s", plan_of(*ladder), INTERVAL, sampler, seed)

    return proposals


def tried(storage: RDBStorage) -> list[optuna.trial.FrozenTrial]:
    """Optuna's trials."""
    return optuna.load_study(study_name="s/w32/target", storage=storage).get_trials()


@pytest.mark.parametrize("sampler", ["random", "gp"])
def test_the_first_proposals_cover_the_interval(
    make: Callable[..., Proposals], sampler: str
) -> None:
    """One falls into each sixth of it, whatever the sampler, and the rungs take turns."""
    proposals = make(1e-3, 2e-3, sampler=sampler)
    found = [proposals.propose(ARM, n) for n in range(6)]
    sixths = {int((one.gamma - 0.3) / 0.9 * 6) for one in found}
    assert sixths == set(range(6))
    assert [one.learning_rate for one in found] == [2e-3, 1e-3] * 3


@pytest.mark.parametrize("sampler", ["random", "gp"])
def test_later_proposals_are_the_samplers_and_inside(
    make: Callable[..., Proposals], sampler: str
) -> None:
    """γ is within the interval and the rate on the ladder."""
    proposals = make(1e-3, 2e-3, sampler=sampler)
    for n in range(10):
        found = proposals.propose(ARM, n)
        assert INTERVAL[0] <= found.gamma <= INTERVAL[1]
        assert found.learning_rate in (1e-3, 2e-3)
        proposals.tell(ended(found, TrialState.COMPLETED))


def test_without_a_ladder_no_rate_is_proposed(make: Callable[..., Proposals]) -> None:
    """A trial that chooses its own rate is given None."""
    proposals = make()
    assert {proposals.propose(ARM, n).learning_rate for n in range(8)} == {None}


def test_only_what_could_be_proposed_is_entered(
    make: Callable[..., Proposals], storage: RDBStorage
) -> None:
    """A γ outside the interval or a rate off the ladder would mislead the sampler."""
    proposals = make(1e-3)
    assert proposals.enter(ARM, 0.2, 1e-3) is None
    assert proposals.enter(ARM, 1.3, 1e-3) is None
    assert proposals.enter(ARM, 0.5, 4e-3) is None
    assert proposals.enter(ARM, 0.5, 1e-3) == 0
    (trial,) = tried(storage)
    assert trial.params == {"gamma": 0.5, "learning_rate": 1e-3}


@pytest.mark.parametrize(
    ("state", "told", "values"),
    [
        (TrialState.COMPLETED, OptunaState.COMPLETE, [0.4, 1.5]),
        (TrialState.DIVERGED, OptunaState.COMPLETE, [0.0, -6.0]),
        (TrialState.STOPPED, OptunaState.PRUNED, None),
        (TrialState.FAILED, OptunaState.FAIL, None),
        (TrialState.RUNNING, OptunaState.RUNNING, None),
        (TrialState.INTERRUPTED, OptunaState.RUNNING, None),
    ],
)
def test_every_end_is_told_as_what_it_is(
    make: Callable[..., Proposals],
    storage: RDBStorage,
    state: TrialState,
    told: optuna.trial.TrialState,
    values: list[float] | None,
) -> None:
    """Stopped runs do not count as complete at truncated fidelity; told twice changes nothing."""
    proposals = make()
    record = ended(proposals.propose(ARM, 0), state)
    proposals.tell(record)
    proposals.tell(record)
    (trial,) = tried(storage)
    assert trial.state is told
    assert trial.values == values
    if told is OptunaState.COMPLETE:
        violated = float(state is TrialState.DIVERGED)
        assert list(trial.constraints.values()) == [violated]


def test_the_objectives_are_named(make: Callable[..., Proposals], storage: RDBStorage) -> None:
    """Optuna's dashboard shows R and log₂ ρ, both to be maximized."""
    make()
    study = optuna.load_study(study_name="s/w32/target", storage=storage)
    assert study.metric_names == ["reasoning", "log2_efficiency"]
    assert [one.name for one in study.directions] == ["MAXIMIZE"] * 2


def test_mending_tells_what_was_missed_and_fails_what_has_no_row(
    make: Callable[..., Proposals], storage: RDBStorage
) -> None:
    """An open row keeps its trial; an enqueued one that nobody asked for is taken away."""
    proposals = make()
    missed, orphan, running, interrupted = (proposals.propose(ARM, n) for n in range(4))
    study = optuna.load_study(study_name="s/w32/target", storage=storage)
    study.enqueue_trial({"gamma": 0.99})
    rows = [
        ended(missed, TrialState.COMPLETED),
        ended(running, TrialState.RUNNING),
        ended(interrupted, TrialState.INTERRUPTED),
    ]
    make().mend(rows)
    states = [trial.state for trial in tried(storage)]
    assert orphan.number == 1
    assert states == [
        OptunaState.COMPLETE, OptunaState.FAIL, OptunaState.RUNNING, OptunaState.RUNNING,
        OptunaState.FAIL,
    ]  # fmt: skip
    assert make().propose(ARM, 0).gamma == pytest.approx(0.3 + 0.9 * 0.42)


def test_what_was_told_by_half_is_told(make: Callable[..., Proposals], storage: RDBStorage) -> None:
    """A driver that died between the constraint and the values leaves nothing to warn of."""
    row = ended(make().propose(ARM, 0), TrialState.COMPLETED)
    storage.set_trial_system_attr(tried(storage)[0]._trial_id, "constraints:diverged", 0.0)
    make().mend([row])
    (trial,) = tried(storage)
    assert (trial.state, trial.constraints) == (OptunaState.COMPLETE, {"diverged": 0.0})


def test_a_trial_that_was_deleted_by_hand_is_let_go(make: Callable[..., Proposals]) -> None:
    """A row whose number Optuna does not have is told to nobody."""
    make().mend([ended(Proposal(7, 0.5, None), TrialState.COMPLETED)])


def test_resuming_does_not_replay_the_samplers_start(make: Callable[..., Proposals]) -> None:
    """The same seed proposes other γ once some have been tried."""
    rows: list[TrialRecord] = []
    for _ in range(4):
        resumed = make()
        resumed.mend(rows)
        rows.append(ended(resumed.propose(ARM, 6), TrialState.COMPLETED))
    assert len({row.gamma for row in rows}) == 4


class Recorder(optuna.samplers.RandomSampler):
    """A random sampler that notes what it is shown whenever it is asked for γ."""

    def __init__(self) -> None:
        super().__init__(seed=0)
        self.shown: list[list[optuna.trial.FrozenTrial]] = []

    def sample_independent(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Note the other trials of the study."""
        others = study.get_trials(deepcopy=False)[:-1]
        self.shown.append(others)
        return super().sample_independent(study, trial, param_name, param_distribution)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """The sampler of every arm."""
    made = Recorder()
    monkeypatch.setattr(module, "_sampler", lambda *_: made)
    return made


def test_a_sampler_is_shown_the_last_that_ended_and_what_is_open(
    make: Callable[..., Proposals], recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a process and after a resume alike; stopped and failed runs have no result."""
    monkeypatch.setattr(module, "SHOWN", 3)
    proposals = make()
    begun = [proposals.propose(ARM, n % 6) for n in range(8)]
    assert recorder.shown == []  # the design asks nobody
    states = [TrialState.COMPLETED] * 5 + [
        TrialState.STOPPED, TrialState.FAILED, TrialState.INTERRUPTED,
    ]  # fmt: skip
    rows = [ended(one, state) for one, state in zip(begun, states, strict=True)]
    for row in rows:
        proposals.tell(row)
    proposals.propose(ARM, 8)
    resumed = make()
    resumed.mend(rows)
    resumed.propose(ARM, 8)
    expected = [(begun[n].gamma, OptunaState.COMPLETE) for n in (2, 3, 4)]
    expected.append((begun[7].gamma, OptunaState.RUNNING))
    for shown in recorder.shown:
        assert [(trial.params["gamma"], trial.state) for trial in shown] == expected
        assert [trial.constraints for trial in shown] == [{}] * 4


def test_divergence_is_shown_as_a_violated_constraint(
    make: Callable[..., Proposals], recorder: Recorder
) -> None:
    """Every result then has the constraint, for a GPSampler wants as many of each."""
    proposals = make()
    for n, state in enumerate((TrialState.COMPLETED, TrialState.DIVERGED)):
        proposals.tell(ended(proposals.propose(ARM, n), state))
    proposals.propose(ARM, 6)
    assert [trial.constraints for trial in recorder.shown[0]] == [
        {"diverged": 0.0}, {"diverged": 1.0},
    ]  # fmt: skip


def test_a_locked_database_is_said_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Optuna wraps the database's error in one of its own, which says nothing of locks."""
    monkeypatch.setattr("critical.storage.optuna_storage.BUSY_SECONDS", 0.05)
    storage = optuna_storage(f"sqlite:///{tmp_path}/critical.db")
    proposals = Proposals(storage, "s", plan_of(), INTERVAL, "random", 0)
    row = ended(proposals.propose(ARM, 0), TrialState.COMPLETED)
    other = sqlite3.connect(tmp_path / "critical.db")
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"critical\.db was locked for .* another process"):
            proposals.tell(row)
    finally:
        other.close()
        storage.engine.dispose()


def multiply(storage: RDBStorage, row: TrialRecord, count: int) -> list[TrialRecord]:
    """Give Optuna so many completed trials after its first, in its own tables; return our rows."""
    study = storage.get_study_id_from_name(f"s/{ARM.name}")
    gamma = {"param_name": "gamma", "distribution_json": distribution_to_json(
        FloatDistribution(*INTERVAL)
    )}  # fmt: skip
    rows: dict[str, list[dict[str, Any]]] = {"trials": [], "trial_params": [], "trial_values": []}
    for number in range(1, count):
        key = {"trial_id": number + 1}
        rows["trials"].append(key | {"number": number, "study_id": study, "state": "COMPLETE"})
        rows["trial_params"].append(key | gamma | {"param_value": 0.3 + 0.9 * number / count})
        value = {"value": 0.1, "value_type": "FINITE"}
        rows["trial_values"] += [key | value | {"objective": one} for one in (0, 1)]
    with storage.engine.begin() as connection:
        for name, values in rows.items():
            target = table(name, *(column(key) for key in values[0]))
            connection.execute(insert(target), values)
    return [row, *(replace(row, optuna_number=number) for number in range(1, count))]


def test_ten_thousand_trials_are_taken_up_at_once(
    make: Callable[..., Proposals], storage: RDBStorage, within: Within
) -> None:
    """No step reads them all: opening, mending, proposing and telling take under 1 s of CPU."""
    row = ended(make().propose(ARM, 0), TrialState.COMPLETED)
    rows = multiply(storage, row, 10_000)
    with within(1):
        proposals = make()
        proposals.mend(rows)
        design, sampled = proposals.propose(ARM, 0), proposals.propose(ARM, 6)
        proposals.tell(ended(sampled, TrialState.COMPLETED))
    assert (design.number, sampled.number) == (10_000, 10_001)
    told = {trial.number: trial.state for trial in tried(storage)}
    assert (told[0], told[10_000], told[10_001]) == (
        OptunaState.COMPLETE, OptunaState.RUNNING, OptunaState.COMPLETE,
    )  # fmt: skip
