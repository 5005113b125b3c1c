"""The Ray trial, driven as Ray's worker drives it, without starting Ray."""

from __future__ import annotations

import math
import os
import pickle
import re
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from critical.trials import Interrupted, Measurement, ProxyRun, Trainable
from critical.trials.run import STOP_FILE
from critical.trials.trainable import RayTrial
from critical.trials.training import TrainingRecipe
from critical.trials.watch import FEWEST_MEASUREMENTS, Earlier, Watched
from critical.trials.watchdog import hanging_place

Make = Callable[..., ProxyRun]
closed: list[int] = []


def finite(run: ProxyRun, /) -> Iterator[Measurement]:
    """As many measurements as are needed, of a loss that tells the seed."""
    for n in range(FEWEST_MEASUREMENTS):
        yield Measurement(n + 1, float(run.seed), 0.5)


def endless(run: ProxyRun, /) -> Iterator[Measurement]:
    """Measurements until it is closed, which it notes."""
    try:
        yield from (Measurement(n + 1, float(run.seed), 0.5) for n in count())
    finally:
        closed.append(run.seed)


def failing(run: ProxyRun, /) -> Iterator[Measurement]:
    """One measurement, then an exception."""
    yield Measurement(1, 1.0, 0.5)
    raise ZeroDivisionError("no such rate")


def stubborn(run: ProxyRun, /) -> Iterator[Measurement]:
    """Raises while it is being closed."""
    try:
        yield from endless(run)
    finally:
        raise RuntimeError("cannot clean up")


def hanging(run: ProxyRun, /) -> Iterator[Measurement]:
    """One measurement, then nothing for long."""
    yield Measurement(1, 1.0, 0.5)
    time.sleep(60)


def hanging_at_its_end(run: ProxyRun, /) -> Iterator[Measurement]:
    """Hangs while it is being closed."""
    try:
        yield from endless(run)
    finally:
        time.sleep(60)


def ray_trial(trainable: Trainable, *members: ProxyRun, **config: object) -> RayTrial:
    """The trial as a worker makes it; ``tune.with_parameters`` hands over the trainable."""

    class Bound(RayTrial):
        def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
            super().setup(config, trainable)

    return Bound({"members": list(members), **config})


def only(step: dict[str, Any]) -> Watched:
    """What a pack of one measured in a step."""
    (watched,) = step["watched"]
    assert isinstance(watched, Watched)
    return watched


def exit_status(work: Callable[[], object]) -> int:
    """Run a function in a child process, as a worker is one; its exit status, 0 if it returns."""
    process = os.fork()
    if process == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.fixture(autouse=True)
def _nothing_closed() -> None:
    closed.clear()


def test_every_step_is_a_measurement_and_the_last_says_done(tiny: Make) -> None:
    """The measurement comes as it is, picklable, with the worker's own clock."""
    trial = ray_trial(finite, tiny(seed=4))
    steps = [trial.step() for _ in range(FEWEST_MEASUREMENTS + 1)]
    assert steps[-1] == {"done": True}
    assert [step["done"] for step in steps[:-1]] == [False] * FEWEST_MEASUREMENTS
    watched = [only(pickle.loads(pickle.dumps(step))) for step in steps[:-1]]
    assert [w.measurement for w in watched] == list(finite(tiny(seed=4)))
    seconds = [w.device_seconds for w in watched]
    assert seconds == sorted(seconds)


def test_stepping_past_the_end_stays_done(tiny: Make) -> None:
    """No exception reaches Ray."""
    trial = ray_trial(finite, tiny())
    for _ in range(FEWEST_MEASUREMENTS + 1):
        trial.step()
    assert trial.step() == {"done": True}


def test_an_exception_is_reported_as_failure(tiny: Make) -> None:
    """In one line with its place; the worker lives on and takes another trial."""
    trial = ray_trial(failing, tiny())
    assert not trial.step()["done"]
    found = trial.step()
    assert found["done"]
    assert found["failure"].startswith("ZeroDivisionError: no such rate (test_trainable.py, line ")
    assert found["kind"] == "error"
    assert trial.reset_config({"members": [tiny(seed=2)]})
    assert only(trial.step()).measurement.loss == 1.0


def test_a_broken_contract_is_reported_as_failure(tiny: Make) -> None:
    """The user reads what to yield instead."""

    def nothing(run: ProxyRun, /) -> Iterator[Measurement]:
        yield from ()

    found = ray_trial(nothing, tiny()).step()
    assert found["done"]
    assert found["failure"] == "the trainable yielded 0 measurements: yield at least 20"


def test_a_want_of_memory_is_told_apart(tiny: Make) -> None:
    """It may succeed on another machine, or when the others are done."""

    def greedy(run: ProxyRun, /) -> Iterator[Measurement]:
        yield Measurement(len(bytearray(10**17)), 1.0, 0.5)

    found = ray_trial(greedy, tiny()).step()
    assert found["failure"].startswith("MemoryError (test_trainable.py, line ")
    assert found["kind"] == "memory"


def test_a_trial_told_to_stop_is_interrupted(
    tasks_only: TrainingRecipe, tiny: Make, tmp_path: Path
) -> None:
    """It says so, and another attempt goes on to the same end; the folder is made for it."""
    run = tiny(checkpoint_dir=tmp_path / "study" / "trial")
    trial = ray_trial(tasks_only, run)
    stored = [only(trial.step()) for _ in range(7)]
    stop = tmp_path / "study" / "trial" / STOP_FILE
    stop.touch()
    assert trial.step() == {"done": True, "interrupted": True}
    trial.cleanup()
    stop.unlink()
    first, last = stored[0].measurement, stored[-1].measurement
    again = ray_trial(tasks_only, run, earlier=[Earlier(7, first.loss, last.tokens)], patience=60.0)
    steps = [again.step() for _ in range(tasks_only.evaluations + 1)]
    assert steps.pop() == {"done": True}
    assert [only(s).measurement for s in steps] == list(tasks_only(tiny()))


def test_an_attempt_may_yield_only_the_rest(tiny: Make) -> None:
    """What earlier ones have stored is counted with it."""

    def rest(run: ProxyRun, /) -> Iterator[Measurement]:
        yield Measurement(FEWEST_MEASUREMENTS, 1.0, 0.5)
        raise Interrupted("enough")

    earlier = Earlier(FEWEST_MEASUREMENTS - 1, 1.0, FEWEST_MEASUREMENTS - 1)
    trial = ray_trial(rest, tiny(), earlier=[earlier])
    assert not trial.step()["done"]
    assert trial.step() == {"done": True, "interrupted": True}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_worker_that_hangs_ends_itself(tiny: Make, tmp_path: Path) -> None:
    """Its folder tells the driver where; a measurement that is no new one teaches no pace."""
    run = tiny(checkpoint_dir=tmp_path)
    limits = []
    for earlier in (Earlier(), Earlier(1, 1.0, 1)):
        trial = ray_trial(hanging, run, earlier=[earlier], patience=0.1)
        assert not trial.step()["done"]
        assert exit_status(trial.step) == 1
        place = r"\(test_trainable\.py, line \d+ in hanging\)"
        found = re.fullmatch(rf"no measurement for (\S+) s {place}", hanging_place(tmp_path) or "")
        assert found is not None
        limits.append(float(found[1]))
    assert 0.1 <= limits[0] < limits[1] == 1


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_trial_that_hangs_while_it_is_closed_ends_its_worker(tiny: Make, tmp_path: Path) -> None:
    """Otherwise the worker would never take another; the folder may be gone by then."""
    trial = ray_trial(hanging_at_its_end, tiny(checkpoint_dir=tmp_path), patience=0.1)

    def work() -> None:
        trial.step()
        for path in tmp_path.iterdir():
            path.unlink()
        trial.cleanup()

    assert exit_status(work) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_process_takes_one_trial_after_another(tiny: Make) -> None:
    """The next starts anew from its own run, and the stopped one is closed before."""
    trial = ray_trial(endless, tiny(seed=1))
    trial.step()
    trial.step()
    assert trial.reset_config({"members": [tiny(seed=2)]}) is True
    assert closed == [1]
    measurement = only(trial.step()).measurement
    assert (measurement.tokens, measurement.loss) == (1, 2.0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_trial_that_cannot_be_closed_harms_no_other(tiny: Make) -> None:
    """What its ``finally`` raises is not the next trial's failure."""
    trial = ray_trial(stubborn, tiny(seed=1))
    trial.step()
    assert trial.reset_config({"members": [tiny(seed=2)]}) is True
    assert only(trial.step()).measurement.loss == 2.0
    trial.cleanup()


def test_cleaning_up_closes_the_trial(tiny: Make) -> None:
    """So that a user's ``finally`` runs where Ray stops it."""
    trial = ray_trial(endless, tiny(seed=7))
    trial.step()
    trial.cleanup()
    assert closed == [7]


def test_a_pack_of_a_trial_that_has_no_train_pack_fails(tiny: Make) -> None:
    """In a sentence, and the worker lives on."""
    found = ray_trial(finite, tiny(), tiny()).step()
    assert found["done"]
    assert found["failure"] == "the trainable has no train_pack: it trains one run at a time"


def test_a_pack_reports_a_measurement_a_member(tasks_only: TrainingRecipe, tiny: Make) -> None:
    """Picklable, and as many steps as one of its members alone takes."""
    trial = ray_trial(tasks_only, tiny(gamma=0.5), tiny(gamma=0.8))
    steps = [trial.step() for _ in range(tasks_only.evaluations + 1)]
    assert steps.pop() == {"done": True}
    for step, *alone in zip(
        steps, tasks_only(tiny(gamma=0.5)), tasks_only(tiny(gamma=0.8)), strict=True
    ):
        found = pickle.loads(pickle.dumps(step))["watched"]
        assert [one.measurement.tokens for one in found] == [one.tokens for one in alone]
        assert [one.measurement.loss for one in found] == pytest.approx(
            [one.loss for one in alone], rel=1e-3
        )


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_where_a_pack_hangs_is_said_in_a_folder_that_is_there(tiny: Make, tmp_path: Path) -> None:
    """The first member has diverged, and the driver has removed its folder."""

    class Trial:
        def __call__(self, run: ProxyRun, /) -> Iterator[Measurement]:
            raise NotImplementedError

        def train_pack(
            self, runs: list[ProxyRun]
        ) -> Generator[list[Measurement | None], frozenset[int], None]:
            yield [Measurement(1, math.inf, 0.0), Measurement(1, 1.0, 0.5)]
            time.sleep(60)

    gone, there = (tmp_path / name for name in ("gone", "there"))
    runs = tiny(checkpoint_dir=gone), tiny(checkpoint_dir=there)
    trial = ray_trial(Trial(), *runs, patience=0.1)
    assert not trial.step()["done"]
    shutil.rmtree(gone)
    assert exit_status(trial.step) == 1
    assert not gone.exists()
    assert "in train_pack)" in (hanging_place(there) or "")
