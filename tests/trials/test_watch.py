"""What no trial may yield, when it has diverged, and the clock beside it."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count, pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch

from critical.trials import Interrupted, Measurement, ProxyRun, Trainable
from critical.trials.run import STOP_FILE
from critical.trials.watch import (
    EXPLODED,
    FEWEST_MEASUREMENTS,
    ContractError,
    Earlier,
    Watched,
    has_diverged,
    watch,
)

Make = Callable[..., ProxyRun]


def good(number: int, **changes: Any) -> Measurement:
    """The measurement of a place in a run, with what a test changes."""
    values = {"tokens": number + 1, "loss": 2.0 - 0.01 * number, "reasoning": 0.5} | changes
    return Measurement(**values)


def trial(*yielded: object, before: int = 0) -> Trainable:
    """A trial that yields good measurements and then what a test gives."""

    def train(run: ProxyRun, /) -> Iterator[Any]:
        yield from (good(n) for n in range(before))
        yield from yielded

    return train


def test_a_good_trial_passes_through(tiny: Make) -> None:
    """Every measurement as it was yielded, none diverged, the clock growing."""
    expected = [good(n) for n in range(FEWEST_MEASUREMENTS)]
    found = list(watch(trial(*expected), tiny()))
    assert [w.measurement for w in found] == expected
    assert not any(w.diverged for w in found)


def test_the_trial_is_given_its_run(tiny: Make) -> None:
    """And nothing else."""
    given = []

    def train(run: ProxyRun, /) -> Iterator[Measurement]:
        given.append(run)
        yield from (good(n) for n in range(FEWEST_MEASUREMENTS))

    list(watch(train, tiny(seed=9)))
    assert given == [tiny(seed=9)]


def test_device_seconds_count_from_the_start_of_the_trial(tiny: Make) -> None:
    """Its own work before the first measurement, and waiting between two, are time held."""

    def train(run: ProxyRun, /) -> Iterator[Measurement]:
        time.sleep(0.02)
        for n in range(FEWEST_MEASUREMENTS):
            time.sleep(0.001)
            yield good(n)

    seconds = [w.device_seconds for w in watch(train, tiny())]
    assert seconds[0] >= 0.02
    assert all(after - before >= 0.001 for before, after in pairwise(seconds))


@pytest.mark.parametrize("returned", [None, [good(0)], 3])
def test_a_trial_that_is_no_generator(returned: object, tiny: Make) -> None:
    """A plain function's result is named by its type."""

    def train(run: ProxyRun, /) -> Any:
        return returned

    message = rf"returned a {type(returned).__name__}: it must be a generator"
    with pytest.raises(ContractError, match=message):
        next(watch(train, tiny()))


@pytest.mark.parametrize(
    ("yielded", "message"),
    [
        ({"loss": 1.0}, r"yielded a dict: yield critical\.trials\.Measurement\(tokens"),
        (None, r"yielded a NoneType"),
        (good(1, loss=torch.tensor(1.0)), r"loss is tensor\(1\.\): it must be a Python number"),
        (good(1, loss=np.float32(1)), r"loss is np\.float32\(1\.0\): .*as of float\(x\)"),
        (good(1, reasoning="high"), r"reasoning is 'high'"),
        (good(1, reasoning=True), r"reasoning is True"),
        (good(1, tokens=None), r"tokens is None"),
        (good(1, tokens=1), r"tokens are 1 after 1: they must be whole and grow"),
        (good(1, tokens=0), r"tokens are 0 after 1"),
        (good(1, tokens=2.5), r"tokens are 2\.5 after 1"),
        (good(1, tokens=math.inf), r"tokens are inf after 1"),
        (good(1, tokens=math.nan), r"tokens are nan after 1"),
        (good(1, reasoning=1.01), r"reasoning is 1\.01: R lies between 0 and 1"),
        (good(1, reasoning=-0.01), r"reasoning is -0\.01"),
        (good(1, reasoning=math.nan), r"reasoning is nan"),
        (good(1, loss=-0.5), r"loss is -0\.5: nats per token are not negative"),
        (good(1, extras={"rank": torch.tensor(1.0)}), r"rank is tensor\(1\.\): it must be a"),
        (good(1, extras=[1.0]), r"extras are a list: give numbers by name"),
    ],
)
def test_what_no_trial_may_yield(yielded: object, message: str, tiny: Make) -> None:
    """Each is named with its value and with what is allowed, after the good ones before it."""
    found: list[Watched] = []
    with pytest.raises(ContractError, match=message):
        found.extend(watch(trial(yielded, before=1), tiny()))


def test_the_first_measurement_is_after_some_tokens(tiny: Make) -> None:
    """Zero tokens have no logarithm."""
    with pytest.raises(ContractError, match="tokens are 0 after 0"):
        next(watch(trial(good(0, tokens=0)), tiny()))


@pytest.mark.parametrize("number", [0, 1, FEWEST_MEASUREMENTS - 1])
def test_too_few_measurements(number: int, tiny: Make) -> None:
    """A curve needs at least twenty."""
    with pytest.raises(ContractError, match=rf"yielded {number} measurements: yield at least 20"):
        list(watch(trial(before=number), tiny()))


def test_extras_may_be_any_mapping(tiny: Make) -> None:
    """Whole numbers and infinities are numbers."""
    extras = MappingProxyType({"layers": 3, "rank": 1.5, "ratio": math.inf})
    yielded = trial(*(good(n, extras=extras) for n in range(FEWEST_MEASUREMENTS)))
    assert len(list(watch(yielded, tiny()))) == FEWEST_MEASUREMENTS


@pytest.mark.parametrize("loss", [math.nan, math.inf, 2.0 * EXPLODED + 0.1])
def test_a_diverged_trial_ends_there(loss: float, tiny: Make) -> None:
    """Whatever its R, however few its measurements, and its own clean-up runs."""
    closed = []

    def train(run: ProxyRun, /) -> Iterator[Measurement]:
        try:
            yield good(0)
            for n in count(1):
                yield good(n, loss=loss, reasoning=0.5 if math.isfinite(loss) else math.nan)
        finally:
            closed.append(True)

    found = list(watch(train, tiny()))
    assert [w.diverged for w in found] == [False, True]
    assert closed == [True]


def test_divergence_is_told_from_learning() -> None:
    """A loss may grow somewhat, and from almost nothing by more."""
    assert not has_diverged(3.9, first=1.0)
    assert has_diverged(4.1, first=1.0)
    assert not has_diverged(1e-3, first=1e-9)
    assert has_diverged(math.nan, first=math.nan)


def test_the_trials_own_exception_passes_through(tiny: Make) -> None:
    """As it is, after the measurements before it."""

    def train(run: ProxyRun, /) -> Iterator[Measurement]:
        yield good(0)
        raise ZeroDivisionError("in the user's code")

    watched = watch(train, tiny())
    assert next(watched).measurement == good(0)
    with pytest.raises(ZeroDivisionError, match="in the user's code"):
        next(watched)


def test_a_trial_may_not_end_its_process(tiny: Make) -> None:
    """``sys.exit`` in a script's own code would take the worker, or the whole search, with it."""

    def train(run: ProxyRun, /) -> Iterator[Measurement]:
        yield good(0)
        raise SystemExit(2)

    watched = watch(train, tiny())
    next(watched)
    with pytest.raises(ContractError, match=r"ended its process \(SystemExit: 2\): return, or"):
        next(watched)


def test_stopping_early_closes_the_trial(tiny: Make) -> None:
    """A user's ``finally`` runs when the search stops a trial."""
    closed = []

    def train(run: ProxyRun, /) -> Iterator[Measurement]:
        try:
            yield from (good(n) for n in count())
        finally:
            closed.append(True)

    watched = watch(train, tiny())
    next(watched)
    watched.close()  # type: ignore[attr-defined]
    assert closed == [True]


def test_the_trials_folder_is_there_when_it_starts(tiny: Make, tmp_path: Path) -> None:
    """Made with its parents; one that is there already stays as it is."""
    folder = tmp_path / "study" / "trial"
    found = []

    def train(run: ProxyRun, /) -> Iterator[Measurement]:
        found.append(folder.is_dir())
        (folder / "own").touch()
        yield from (good(n) for n in range(FEWEST_MEASUREMENTS))

    for _ in range(2):
        list(watch(train, tiny(checkpoint_dir=folder)))
    assert found == [True, True]
    assert (folder / "own").exists()


def test_a_folder_that_cannot_be_made_ends_no_trial(tiny: Make, tmp_path: Path) -> None:
    """The trial may need none."""
    (tmp_path / "file").touch()
    run = tiny(checkpoint_dir=tmp_path / "file" / "trial")
    expected = [good(n) for n in range(FEWEST_MEASUREMENTS)]
    assert [w.measurement for w in watch(trial(*expected), run)] == expected


@pytest.mark.parametrize("first", [0, 8, 12])
def test_measurements_count_over_all_attempts(first: int, tiny: Make) -> None:
    """Whether it yields all of them again, a few, or only the rest; twelve were stored before."""
    earlier = Earlier(measurements=12, first_loss=2.0, tokens=12)
    rest = [good(n) for n in range(first, FEWEST_MEASUREMENTS)]
    assert len(list(watch(trial(*rest), tiny(), earlier))) == len(rest)
    with pytest.raises(ContractError, match="yielded 19 measurements"):
        list(watch(trial(*rest[:-1]), tiny(), earlier))


def test_an_attempt_that_has_nothing_left_has_completed(tiny: Make) -> None:
    """Its driver died between its last measurement and its end."""
    earlier = Earlier(FEWEST_MEASUREMENTS, 2.0, FEWEST_MEASUREMENTS)
    assert list(watch(trial(), tiny(), earlier)) == []


def test_divergence_is_told_from_the_first_attempts_first_loss(tiny: Make) -> None:
    """A trial that yields only the rest begins with a loss that is small already."""
    earlier = Earlier(measurements=5, first_loss=4.0, tokens=5)
    rest = trial(good(5, loss=0.1), good(6, loss=15.9), good(7, loss=16.1))
    assert [w.diverged for w in watch(rest, tiny(), earlier)] == [False, False, True]


def test_a_trial_that_interrupts_itself_passes_through(tiny: Make) -> None:
    """As it is, however few its measurements."""

    def train(run: ProxyRun, /) -> Iterator[Measurement]:
        yield good(0)
        raise Interrupted("saved")

    watched = watch(train, tiny())
    next(watched)
    with pytest.raises(Interrupted, match="saved"):
        next(watched)


def test_a_trial_told_to_stop_may_save_first(tiny: Make, tmp_path: Path) -> None:
    """One that asks only after it has yielded is not closed before it could."""
    saved = []

    def train(run: ProxyRun, /) -> Iterator[Measurement]:
        for n in count():
            yield good(n)
            if run.stop_requested():
                saved.append(n)
                raise Interrupted("saved")

    watched = watch(train, tiny(checkpoint_dir=tmp_path))
    next(watched)
    (tmp_path / STOP_FILE).touch()
    with pytest.raises(Interrupted, match="saved"):
        next(watched)
    assert saved == [0]


def test_a_trial_that_ignores_the_stop_is_closed(tiny: Make, tmp_path: Path) -> None:
    """At its next measurement, which is lost; its ``finally`` runs before the interruption."""
    seen, closed = [], []

    def train(run: ProxyRun, /) -> Iterator[Measurement]:
        try:
            for n in count():
                seen.append(n)
                yield good(n)
        finally:
            closed.append(True)

    watched = watch(train, tiny(checkpoint_dir=tmp_path))
    assert [next(watched).measurement.tokens for _ in range(3)] == [1, 2, 3]
    (tmp_path / STOP_FILE).touch()
    with pytest.raises(Interrupted, match="told to stop, the trial went on"):
        next(watched)
    assert seen == [0, 1, 2, 3]
    assert closed == [True]


def test_a_trial_that_ends_when_told_to_stop_has_completed(tiny: Make, tmp_path: Path) -> None:
    """Its last measurement was handed out before."""
    watched = watch(trial(before=FEWEST_MEASUREMENTS), tiny(checkpoint_dir=tmp_path))
    for _ in range(FEWEST_MEASUREMENTS):
        next(watched)
    (tmp_path / STOP_FILE).touch()
    assert list(watched) == []


def returns(run: ProxyRun) -> Iterator[Measurement]:
    """Nothing more."""
    yield from ()


def fails(run: ProxyRun) -> Iterator[Measurement]:
    """An exception."""
    yield from ()
    raise ZeroDivisionError


def exits(run: ProxyRun) -> Iterator[Measurement]:
    """An end of the process that would run what others have left for it."""
    yield from ()
    sys.exit(3)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("in_child", [trial(before=3), returns, fails, exits])
@pytest.mark.parametrize("lazy", [True, False])
def test_a_forked_process_does_not_come_back(lazy: bool, in_child: Trainable, tiny: Make) -> None:
    """Where it yields, returns or raises, in a generator or before there is one."""
    parent = os.getpid()
    status: list[int] = []

    def fork(run: ProxyRun) -> Iterator[Measurement]:
        process = os.fork()
        if process == 0:
            return in_child(run)
        status.append(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
        return trial(before=FEWEST_MEASUREMENTS)(run)

    def fork_later(run: ProxyRun, /) -> Iterator[Measurement]:
        yield from fork(run)

    found = []
    try:
        for watched in watch(fork_later if lazy else fork, tiny()):
            found.append(watched)
    finally:
        if os.getpid() != parent:
            os._exit(99)
    assert status == [0]
    assert len(found) == FEWEST_MEASUREMENTS
