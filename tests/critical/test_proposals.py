"""Optuna's side: what is entered, proposed, told and mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage

from critical.plan import Arm, Plan
from critical.proposals import Proposal, Proposals
from critical.storage.optuna_storage import optuna_storage
from critical.storage.records import Role, TrialRecord, TrialState
from critical.trials import Scale

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
        reserved_seconds=1.0, device_seconds=1.0, started_at=now, finished_at=now,
    )  # fmt: skip


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[BaseStorage]:
    """Optuna's tables in a SQLite file."""
    opened = optuna_storage(f"sqlite:///{tmp_path}/critical.db")
    yield opened
    opened.remove_session()
    opened.engine.dispose()


@pytest.fixture
def make(storage: BaseStorage) -> Callable[..., Proposals]:
    """Open the proposals of a plan with a ladder, as a new process would."""

    def proposals(*ladder: float, sampler: str = "random", seed: int = 0) -> Proposals:
        return Proposals(storage, "s", plan_of(*ladder), INTERVAL, sampler, seed)

    return proposals


def tried(storage: BaseStorage) -> list[optuna.trial.FrozenTrial]:
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
    make: Callable[..., Proposals], storage: BaseStorage
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
    ],
)
def test_every_end_is_told_as_what_it_is(
    make: Callable[..., Proposals],
    storage: BaseStorage,
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


def test_the_objectives_are_named(make: Callable[..., Proposals], storage: BaseStorage) -> None:
    """Optuna's dashboard shows R and log₂ ρ, both to be maximized."""
    make()
    study = optuna.load_study(study_name="s/w32/target", storage=storage)
    assert study.metric_names == ["reasoning", "log2_efficiency"]
    assert [one.name for one in study.directions] == ["MAXIMIZE"] * 2


def test_mending_tells_what_was_missed_and_fails_what_has_no_row(
    make: Callable[..., Proposals], storage: BaseStorage
) -> None:
    """A running row keeps its trial; an enqueued one that nobody asked for is taken away."""
    proposals = make()
    missed, orphan, running = (proposals.propose(ARM, n) for n in range(3))
    study = optuna.load_study(study_name="s/w32/target", storage=storage)
    study.enqueue_trial({"gamma": 0.99})
    rows = [ended(missed, TrialState.COMPLETED), ended(running, TrialState.RUNNING)]
    make().mend(rows)
    states = [trial.state for trial in tried(storage)]
    assert orphan.number == 1
    assert states == [
        OptunaState.COMPLETE, OptunaState.FAIL, OptunaState.RUNNING, OptunaState.FAIL,
    ]  # fmt: skip
    assert make().propose(ARM, 0).gamma == pytest.approx(0.3 + 0.9 * 0.42)


def test_resuming_does_not_replay_the_samplers_start(make: Callable[..., Proposals]) -> None:
    """The same seed proposes other γ once some have been tried."""
    first = [make().propose(ARM, 6).gamma for _ in range(4)]
    assert len(set(first)) == 4
