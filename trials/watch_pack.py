"""What keeps the members of a pack honest: each one's contract, divergence and share of the time.

One run alone is watched as ``watch`` does it; several need a trainable with ``train_pack``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from typing import cast

from critical.trials.loading import NamedTrainable
from critical.trials.run import Interrupted, Measurement, ProxyRun, Trainable
from critical.trials.watch import (
    FEWEST_MEASUREMENTS,
    ContractError,
    Earlier,
    Watched,
    check_measurement,
    end_if_forked,
    has_diverged,
    watch,
)

DROP_FILE = "drop"
"""Name of the file in a member's folder that ends it and leaves the others."""

Rows = Generator[list[Measurement | None], frozenset[int], None]
TrainPack = Callable[[Sequence[ProxyRun]], Rows]
"""Trains several runs of one scale, settings and device together.

It yields a measurement or None for each run, None from where a run has ended, and is sent the
numbers of the runs to drop, which end without an error.
"""


def pack_trainer(trainable: Trainable) -> TrainPack | None:
    """Return what trains several runs of a trainable together, or None where nothing does.

    Raises:
        TrainableError: A trainable that is named cannot be loaded.
    """
    loaded = trainable.load() if isinstance(trainable, NamedTrainable) else trainable
    found = getattr(loaded, "train_pack", None)
    return cast(TrainPack, found) if callable(found) else None


def watch_members(
    trainable: Trainable, runs: Sequence[ProxyRun], earlier: Sequence[Earlier]
) -> Iterator[list[Watched | None]]:
    """Watch the members of a pack, one or more, as ``watch`` does a single trial.

    A member's device-seconds are its shares of the wall seconds between measurements: each
    interval is divided among the members that were going in it, so that all shares together are
    the time that the pack held its device. A member that diverges, ends or is dropped (a file
    ``drop`` in its folder, looked for between measurements) frees its share.

    Args:
        trainable: The trial.
        runs: Of the members.
        earlier: What earlier attempts at each have stored.

    Returns:
        An iterator over rows of a Watched for each member, None for one that has ended.

    Raises:
        ContractError: A member's measurements are not as they must be, or the trainable trains
            only one run at a time.
        Interrupted: A member was told to stop; all members stop together.
    """
    if len(runs) == 1:
        return _alone(watch(trainable, runs[0], earlier[0]), runs[0])
    for run in runs:
        if run.checkpoint_dir is not None:
            with suppress(OSError):  # a trial that saves nothing needs no folder
                run.checkpoint_dir.mkdir(parents=True, exist_ok=True)
    return _together(trainable, [_Member(*pair) for pair in zip(runs, earlier, strict=True)])


def is_news(row: Sequence[Watched | None], earlier: Sequence[Earlier]) -> bool:
    """Whether a row has a measurement that no earlier attempt has stored."""
    return any(
        one is not None and one.measurement.tokens > before.tokens
        for one, before in zip(row, earlier, strict=True)
    )


def _alone(measurements: Iterator[Watched], run: ProxyRun) -> Iterator[list[Watched | None]]:
    for watched in measurements:
        yield [watched]
        if run.has_sign(DROP_FILE):
            return


class _Member:
    """One run of a pack, by what it has yielded in this attempt and before.

    Attributes:
        run: As it was given.
        device_seconds: Its shares up to now.
    """

    def __init__(self, run: ProxyRun, earlier: Earlier) -> None:
        self.run = run
        self.device_seconds = 0.0
        self._earlier = earlier
        self._first_loss = earlier.first_loss
        self._count = earlier.measurements
        self._tokens = 0

    def take(self, measurement: Measurement) -> Watched:
        """Check a measurement and put the clock beside it."""
        check_measurement(measurement, self._tokens)
        if self._first_loss is None:
            self._first_loss = measurement.loss
        self._tokens = measurement.tokens
        self._count += measurement.tokens > self._earlier.tokens
        diverged = has_diverged(measurement.loss, self._first_loss)
        return Watched(measurement, self.device_seconds, diverged)

    def end(self) -> None:
        """Check that there were enough."""
        if self._count < FEWEST_MEASUREMENTS:
            raise ContractError(
                f"train_pack yielded {self._count} measurements of a run: "
                f"yield at least {FEWEST_MEASUREMENTS}"
            )


def _together(trainable: Trainable, members: Sequence[_Member]) -> Iterator[list[Watched | None]]:
    process, before = os.getpid(), time.perf_counter()
    rows = _supervised(trainable, [member.run for member in members], process)
    going = frozenset(range(len(members)))
    leaving: frozenset[int] | None = None  # what a generator may be sent first
    stopping = False
    while going:
        try:
            row = rows.send(leaving)  # type: ignore[arg-type]
        except StopIteration:
            break
        end_if_forked(process)
        if stopping:
            rows.close()
            raise Interrupted("told to stop, the pack went on and was closed")
        _check_row(row, len(members))
        # 1. Who has ended, and the time since the last row among those who have not.
        ended = frozenset(number for number in going if row[number] is None)
        for number in ended:
            members[number].end()
        going -= ended
        now = time.perf_counter()
        for number in going:
            members[number].device_seconds += (now - before) / len(going)
        before = now
        # 2. What they measured.
        watched = _taken(members, row, going)
        yield watched
        # 3. Who leaves before the next row.
        leaving = frozenset(
            number
            for number, one in enumerate(watched)
            if one is not None and (one.diverged or members[number].run.has_sign(DROP_FILE))
        )
        going -= leaving
        stopping = any(members[number].run.stop_requested() for number in going)
    rows.close()
    for number in going:
        members[number].end()


def _taken(
    members: Sequence[_Member], row: Sequence[Measurement | None], going: frozenset[int]
) -> list[Watched | None]:
    """Take in the measurements of those that go on; what another one yields is passed over."""
    return [
        member.take(one) if one is not None and number in going else None
        for number, (member, one) in enumerate(zip(members, row, strict=True))
    ]


def _supervised(trainable: Trainable, runs: Sequence[ProxyRun], process: int) -> Rows:
    """Start and run a pack that can neither end its process nor come back twice."""
    try:
        train_pack = pack_trainer(trainable)
        if train_pack is None:
            raise ContractError("the trainable has no train_pack: it trains one run at a time")
        rows = train_pack(runs)
        if not hasattr(rows, "send"):
            raise ContractError(
                f"train_pack returned a {type(rows).__name__}: "
                "it must be a generator that yields a list of Measurements and None"
            )
        yield from rows
    except SystemExit as error:
        raise ContractError(
            f"train_pack ended its process (SystemExit: {error}): return, or raise an error"
        ) from error
    finally:
        end_if_forked(process)


def _check_row(row: object, members: int) -> None:
    if not isinstance(row, list | tuple) or len(row) != members:
        found = f"{len(row)} entries" if isinstance(row, list | tuple) else type(row).__name__
        raise ContractError(
            f"train_pack yielded {found} for {members} runs: yield a list with a Measurement or "
            "None for each"
        )
