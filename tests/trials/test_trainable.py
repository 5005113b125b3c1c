"""The Ray trial, driven as Ray's worker drives it, without starting Ray."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from critical.trials import Measurement, ProxyRun, Trainable
from critical.trials.trainable import RayTrial
from critical.trials.watch import FEWEST_MEASUREMENTS, Watched

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


def ray_trial(trainable: Trainable, run: ProxyRun) -> RayTrial:
    """The trial as a worker makes it; ``tune.with_parameters`` hands over the trainable."""

    class Bound(RayTrial):
        def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
            super().setup(config, trainable)

    return Bound({"members": [run]})


@pytest.fixture(autouse=True)
def _nothing_closed() -> None:
    closed.clear()


def test_every_step_is_a_measurement_and_the_last_says_done(tiny: Make) -> None:
    """The measurement comes as it is, picklable, with the worker's own clock."""
    trial = ray_trial(finite, tiny(seed=4))
    steps = [trial.step() for _ in range(FEWEST_MEASUREMENTS + 1)]
    assert steps[-1] == {"done": True}
    assert [step["done"] for step in steps[:-1]] == [False] * FEWEST_MEASUREMENTS
    watched: list[Watched] = [pickle.loads(pickle.dumps(step))["watched"] for step in steps[:-1]]
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
    assert trial.reset_config({"members": [tiny(seed=2)]})
    assert trial.step()["watched"].measurement.loss == 1.0


def test_a_broken_contract_is_reported_as_failure(tiny: Make) -> None:
    """The user reads what to yield instead."""

    def nothing(run: ProxyRun, /) -> Iterator[Measurement]:
        yield from ()

    found = ray_trial(nothing, tiny()).step()
    assert found["done"]
    assert found["failure"] == "the trainable yielded 0 measurements: yield at least 20"


def test_a_process_takes_one_trial_after_another(tiny: Make) -> None:
    """The next starts anew from its own run, and the stopped one is closed before."""
    trial = ray_trial(endless, tiny(seed=1))
    trial.step()
    trial.step()
    assert trial.reset_config({"members": [tiny(seed=2)]}) is True
    assert closed == [1]
    measurement = trial.step()["watched"].measurement
    assert (measurement.tokens, measurement.loss) == (1, 2.0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_trial_that_cannot_be_closed_harms_no_other(tiny: Make) -> None:
    """What its ``finally`` raises is not the next trial's failure."""
    trial = ray_trial(stubborn, tiny(seed=1))
    trial.step()
    assert trial.reset_config({"members": [tiny(seed=2)]}) is True
    assert trial.step()["watched"].measurement.loss == 2.0
    trial.cleanup()


def test_cleaning_up_closes_the_trial(tiny: Make) -> None:
    """So that a user's ``finally`` runs where Ray stops it."""
    trial = ray_trial(endless, tiny(seed=7))
    trial.step()
    trial.cleanup()
    assert closed == [7]


def test_a_pack_of_two_is_refused(tiny: Make) -> None:
    """A trial that trains one at a time holds one member."""

    class Bound(RayTrial):
        def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
            super().setup(config, finite)

    with pytest.raises(ValueError, match="too many values to unpack"):
        Bound({"members": [tiny(), tiny()]})
