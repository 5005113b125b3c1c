"""A driver that is killed between any two of its writes loses nothing and repeats nothing.

Whatever it does becomes durable with a commit, of ours or of Optuna's: so a search is killed before
its commits in turn, and another driver goes on. After a kill nothing more may be written.
"""

from __future__ import annotations

import os
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count, islice, zip_longest
from pathlib import Path
from types import MappingProxyType

import pytest
from sqlalchemy import Connection, Engine, event

from critical.opening import enter_study, open_search
from critical.preparation import Prepared
from critical.running.driving import run_in_process
from critical.running.leasing import holding
from critical.storage.records import TrialState
from critical.storage.store import Store
from critical.trials import Interrupted, Measurement, ProxyRun, Trainable
from critical.trials.watch_pack import Rows

CheckNothingLost = Callable[..., None]
SearchUntilKilled = Callable[["Machine", int | None], int]
Key = tuple[float, float | None, int, int]

TRIALS = 6
MEASUREMENTS = 4
PARTS = 2
"""Kills are spread over so many tests, which run side by side."""
STRIDE = 1 if "CRITICAL_SOAK_KILLS" in os.environ else 3
"""``make soak`` kills before every commit; the ordinary tests before every third, which over six
like trials comes to every kind of commit."""
TWICE = 12
"""Searches that are killed a second time while they go on."""


class Killed(BaseException):
    """The process is gone: no handler of Exception may see it."""


class Kills:
    """Counts commits of every engine, and kills before the one that it is told to."""

    def __init__(self) -> None:
        self.commits = 0
        self.at: int | None = None

    def __call__(self, connection: Connection) -> None:
        """Look at a commit that is about to be made."""
        if self.at is not None and self.commits >= self.at:
            raw = connection.connection.dbapi_connection
            assert raw is not None
            raw.rollback()  # as the end of the process does; no handler might get to it
            raise Killed
        self.commits += 1

    def before(self, commit: int | None) -> None:
        """Kill before this commit from now on, counted from 0, and before every later one."""
        self.commits, self.at = 0, commit


@pytest.fixture
def kills() -> Iterator[Kills]:
    """Listen to every engine's commits, Optuna's too."""
    found = Kills()
    event.listen(Engine, "commit", found)
    yield found
    event.remove(Engine, "commit", found)


class Machine:
    """What really ran: each attempt's key and seconds, as a trial that goes on sees them."""

    trials = TRIALS
    options: Mapping[str, object] = MappingProxyType({})
    """Of the searches on it, beside those of all."""

    def __init__(self, whole: Trainable, folder: Path, name: int) -> None:
        self._whole = whole
        self.url = f"sqlite:///{folder}/{name}.db"
        self.attempts: dict[Key, list[float]] = defaultdict(list)

    def __call__(self, run: ProxyRun, /) -> Iterator[Measurement]:
        """Go on from the checkpoint, which is written after every other measurement."""
        assert run.checkpoint_dir is not None
        saved = run.checkpoint_dir / "measured"
        done = int(saved.read_text()) if saved.exists() else 0
        started = time.perf_counter()
        seconds = self.attempts[run.gamma, run.learning_rate, run.scale.width, run.seed]
        seconds.append(0.0)
        for number, one in enumerate(self._whole(run)):
            if number < done:
                continue
            seconds[-1] = time.perf_counter() - started
            yield one
            if number % 2:
                saved.write_text(str(number))  # the last one might not have been stored
            if run.stop_requested():
                raise Interrupted


class PackMachine(Machine):
    """One on which several trials train together, as the three references that come first."""

    trials = 8
    options = MappingProxyType({"lr": (1e-3, 2e-3, 4e-3)})

    def train_pack(self, runs: Sequence[ProxyRun]) -> Rows:
        """Let each go on by itself, in turn."""
        for row in zip_longest(*map(self, runs)):
            yield list(row)


def drive(prepared: Prepared, machine: Machine) -> None:
    """Do what a driver does, under its lease."""
    with (
        Store.open(prepared.options.storage) as store,
        holding(store, enter_study(store, prepared), {}),
    ):
        search = open_search(store, prepared)
        search.pack = 3 if isinstance(machine, PackMachine) else 1
        run_in_process(search, machine)


@pytest.fixture
def search_until_killed(
    prepare: Callable[..., Prepared], kills: Kills, monkeypatch: pytest.MonkeyPatch
) -> SearchUntilKilled:
    """Run a driver that is killed before a commit, or to its end; return the commits made."""
    # The driver that was killed is this process, which another one would find gone.
    monkeypatch.setattr("critical.running.leasing.is_gone", lambda _: True)
    # Each is a commit like the others.
    for module in ("watch", "watch_pack"):
        monkeypatch.setattr(f"critical.trials.{module}.FEWEST_MEASUREMENTS", MEASUREMENTS)

    def run(machine: Machine, commit: int | None) -> int:
        kills.before(commit)
        try:
            options = {"budget": f"{machine.trials}trials", "backoff": 0, **machine.options}
            drive(prepare(storage=machine.url, **options), machine)
        except Killed:
            assert commit is not None
        finally:
            made = kills.commits
            kills.before(None)
        return made

    return run


@pytest.fixture
def machines(request: pytest.FixtureRequest, train: Trainable, tmp_path: Path) -> Iterator[Machine]:
    """Machines on which nothing has run yet, one after another; of what kind, a test may say."""
    kind: type[Machine] = getattr(request, "param", Machine)
    few = 24 // MEASUREMENTS
    return (
        kind(lambda run: islice(train(run), few - 1, None, few), tmp_path, name) for name in count()
    )


def check(machine: Machine, check_nothing_lost: CheckNothingLost) -> None:
    """Check the store against Optuna, the ledger, and what really ran."""
    check_nothing_lost(machine.url, "s", completed=machine.trials)
    with Store.open(machine.url) as store:
        study = store.study("s")
        for trial in store.trials(study.id):
            assert trial.state is TrialState.COMPLETED
            charges = [c for c in store.charges(study.id) if c.trial_number == trial.number]
            ran = machine.attempts[trial.gamma, trial.learning_rate, trial.width, trial.seed]
            # An attempt may have been entered and killed before its worker began.
            assert len(ran) <= len(charges) == trial.attempts
            charged = sum(c.charged_seconds or 0.0 for c in charges)
            assert charged <= sum(ran) + 0.05 * len(ran)
            curve = store.trial_measurements(trial.id)
            assert len(curve) == MEASUREMENTS
            assert charged >= curve[-1].device_seconds - 1e-9


@pytest.mark.usefixtures("without_posterior")
@pytest.mark.parametrize("part", range(PARTS))
def test_killed_before_any_write_a_search_loses_nothing(
    part: int,
    machines: Iterator[Machine],
    search_until_killed: SearchUntilKilled,
    check_nothing_lost: CheckNothingLost,
) -> None:
    """Commits in turn; the same command then runs exactly what is missing."""
    machine = next(machines)
    commits = search_until_killed(machine, None)
    assert commits > TRIALS * MEASUREMENTS
    check(machine, check_nothing_lost)
    for commit in range(part * STRIDE, commits, PARTS * STRIDE):
        machine = next(machines)
        assert search_until_killed(machine, commit) == commit
        search_until_killed(machine, None)
        check(machine, check_nothing_lost)


@pytest.mark.usefixtures("without_posterior")
def test_killed_while_it_goes_on_it_loses_nothing_either(
    machines: Iterator[Machine],
    search_until_killed: SearchUntilKilled,
    check_nothing_lost: CheckNothingLost,
) -> None:
    """Again and again, at random: what mends must itself be mended."""
    chance = random.Random(3)
    for machine in islice(machines, TWICE):
        for most in (40, 20, 20):
            search_until_killed(machine, chance.randrange(most))
        search_until_killed(machine, None)
        check(machine, check_nothing_lost)


@pytest.mark.usefixtures("without_posterior")
@pytest.mark.parametrize("machines", [PackMachine], indirect=True)
def test_a_pack_that_is_killed_loses_nothing_either(
    machines: Iterator[Machine],
    search_until_killed: SearchUntilKilled,
    check_nothing_lost: CheckNothingLost,
) -> None:
    """While its members are entered, trained and settled one by one; they go on together."""
    machine = next(machines)
    commits = search_until_killed(machine, None)
    check(machine, check_nothing_lost)
    for commit in range(4, commits // 2, 9):
        machine = next(machines)
        assert search_until_killed(machine, commit) == commit
        search_until_killed(machine, None)
        check(machine, check_nothing_lost)
