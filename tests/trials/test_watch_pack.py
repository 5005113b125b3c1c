"""A pack's members: what may be yielded, who leaves when, and whose the time is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from critical.trials import Interrupted, Measurement, ProxyRun, Scale
from critical.trials.loading import parse_trainable
from critical.trials.run import STOP_FILE
from critical.trials.watch import FEWEST_MEASUREMENTS, ContractError, Earlier, Watched
from critical.trials.watch_pack import DROP_FILE, pack_trainer, watch_members

Make = Callable[..., ProxyRun]
Rows = Generator[list[Measurement | None], frozenset[int], None]
RUN = ProxyRun(0.5, None, Scale(16, 1, 2, 8_000), seed=0)
PAUSE = 0.002
NOTHING = Earlier()


class Packed:
    """A trial of both kinds, whose members' losses are their γ, and infinite from a row on.

    Args:
        diverging: By member, the row from which its loss is infinite.
        ending: By member, the row from which it has ended.
        pause: Seconds before each row.
    """

    def __init__(
        self,
        diverging: dict[int, int] | None = None,
        ending: dict[int, int] | None = None,
        pause: float = 0.0,
    ) -> None:
        self.diverging, self.ending, self.pause = diverging or {}, ending or {}, pause
        self.sent: list[frozenset[int]] = []
        self.closed = False

    def __call__(self, run: ProxyRun, /) -> Iterator[Measurement]:
        """One run alone."""
        yield from (Measurement(n + 1, run.gamma, 0.5) for n in range(FEWEST_MEASUREMENTS))

    def train_pack(self, runs: Sequence[ProxyRun]) -> Rows:
        """Several runs."""
        left: set[int] = set()
        try:
            for n in range(FEWEST_MEASUREMENTS):
                time.sleep(self.pause)
                row = [
                    None
                    if place in left or n >= self.ending.get(place, n + 1)
                    else Measurement(n + 1, self.loss(place, n, run), 0.5)
                    for place, run in enumerate(runs)
                ]
                self.sent.append((yield row))
                left |= self.sent[-1]
        finally:
            self.closed = True

    def loss(self, place: int, row: int, run: ProxyRun) -> float:
        """Of a member."""
        return math.inf if row >= self.diverging.get(place, row + 1) else run.gamma


def curves(rows: Sequence[Sequence[Watched | None]]) -> list[list[Watched]]:
    """By member, what came before its first None."""
    columns = list(zip(*rows, strict=True))
    return [[one for one in column if one is not None] for column in columns]


def test_every_member_has_its_own_measurements(tiny: Make) -> None:
    """In the order in which the runs were given, none of them diverged."""
    runs = [tiny(gamma=gamma) for gamma in (0.4, 0.6, 0.9)]
    found = curves(list(watch_members(Packed(), runs, [NOTHING] * 3)))
    for run, curve in zip(runs, found, strict=True):
        assert [one.measurement for one in curve] == list(Packed()(run))
        assert not any(one.diverged for one in curve)


@settings(max_examples=25, deadline=None)
@given(
    members=st.integers(2, 5),
    leaving=st.dictionaries(st.integers(0, 4), st.integers(0, FEWEST_MEASUREMENTS - 1)),
)
def test_the_shares_of_all_members_are_the_time_that_passed(
    members: int, leaving: dict[int, int]
) -> None:
    """Whoever leaves when: up to the last row no second is lost or counted twice."""
    trial = Packed(diverging=leaving, pause=PAUSE / 2)
    began = time.perf_counter()
    rows, took = [], 0.0
    for row in watch_members(trial, [RUN] * members, [NOTHING] * members):
        took = time.perf_counter() - began
        rows.append(row)
    shared = sum(curve[-1].device_seconds for curve in curves(rows))
    assert len(rows) * trial.pause <= shared <= took


def test_a_member_that_left_leaves_its_share_to_the_others(tiny: Make) -> None:
    """Alone for the second half of the rows, the other takes all of its time."""
    half = FEWEST_MEASUREMENTS // 2
    trial = Packed(diverging={0: half - 1}, pause=PAUSE)
    left, stayed = curves(list(watch_members(trial, [tiny(), tiny()], [NOTHING] * 2)))
    assert len(left) == half
    assert left[-1].device_seconds == stayed[half - 1].device_seconds
    alone = stayed[-1].device_seconds - stayed[half - 1].device_seconds
    assert alone >= half * PAUSE


def test_a_member_that_diverges_is_dropped(tiny: Make) -> None:
    """Even where its loss is still finite; the others go on."""

    class Exploding(Packed):
        def loss(self, place: int, row: int, run: ProxyRun) -> float:
            return 100.0 if place == 1 and row == 3 else 1.0

    trial = Exploding()
    whole, exploded = curves(list(watch_members(trial, [tiny(), tiny()], [NOTHING] * 2)))
    assert len(whole) == FEWEST_MEASUREMENTS
    assert [one.diverged for one in exploded] == [False] * 3 + [True]
    assert trial.sent.index(frozenset({1})) == 3


def test_a_pack_whose_members_have_all_diverged_is_closed(tiny: Make) -> None:
    """There is nothing left to train."""
    trial = Packed(diverging={0: 2, 1: 4})
    found = curves(list(watch_members(trial, [tiny(), tiny()], [NOTHING] * 2)))
    assert [len(curve) for curve in found] == [3, 5]
    assert trial.closed


@pytest.mark.parametrize("members", [1, 3])
def test_a_file_in_its_folder_drops_a_member(members: int, tiny: Make, tmp_path: Path) -> None:
    """It ends without an error and without its twenty measurements; a pack of one too."""
    runs = [tiny(checkpoint_dir=tmp_path / str(number)) for number in range(members)]
    rows = []
    for row in watch_members(Packed(), runs, [NOTHING] * members):
        rows.append(row)
        if len(rows) == 5:
            (tmp_path / "0" / DROP_FILE).touch()
    dropped, *others = curves(rows)
    assert len(dropped) == 5
    assert [len(curve) for curve in others] == [FEWEST_MEASUREMENTS] * (members - 1)


def test_a_pack_that_is_told_to_stop_and_goes_on_is_closed(tiny: Make, tmp_path: Path) -> None:
    """Where any of its members is told so; what it yields after that is not handed out."""
    trial = Packed()
    runs = [tiny(checkpoint_dir=tmp_path / name) for name in ("a", "b")]
    rows = watch_members(trial, runs, [NOTHING] * 2)
    next(rows)
    (tmp_path / "b" / STOP_FILE).touch()
    with pytest.raises(Interrupted):
        next(rows)
    assert trial.closed


def test_what_was_stored_before_is_counted(tiny: Make) -> None:
    """A member that goes on may end before the others where it has twenty in all."""
    earlier = [Earlier(15, 1.0, 0), NOTHING]
    trial = Packed(ending={0: 5})
    found = curves(list(watch_members(trial, [tiny(), tiny()], earlier)))
    assert [len(curve) for curve in found] == [5, FEWEST_MEASUREMENTS]
    with pytest.raises(ContractError, match="19 measurements of a run: yield at least 20"):
        list(watch_members(Packed(ending={0: 5}), [tiny(), tiny()], [Earlier(14, 1.0, 0), NOTHING]))


@pytest.mark.parametrize(
    ("yielded", "message"),
    [
        ([Measurement(1, 1.0, 0.5)], "1 entries for 2 runs"),
        (Measurement(1, 1.0, 0.5), "a?Measurement for 2 runs"),
        ([Measurement(1, 1.0, 0.5), 3.0], "the trainable yielded a float"),
        ([Measurement(1, 1.0, 0.5), Measurement(1, 1.0, 2.0)], "reasoning is 2.0"),
    ],
)
def test_what_no_pack_may_yield(yielded: Any, message: str, tiny: Make) -> None:
    """The sentence says what to yield instead."""

    class Wrong(Packed):
        def train_pack(self, runs: Sequence[ProxyRun]) -> Rows:
            yield yielded

    with pytest.raises(ContractError, match=message):
        next(watch_members(Wrong(), [tiny(), tiny()], [NOTHING] * 2))


def test_a_pack_that_is_no_generator_or_ends_its_process_is_refused(tiny: Make) -> None:
    """As it is of a single trial."""

    class Lists(Packed):
        def train_pack(self, runs: Sequence[ProxyRun]) -> Any:
            return [[Measurement(1, 1.0, 0.5)] * 2]

    class Exits(Packed):
        def train_pack(self, runs: Sequence[ProxyRun]) -> Rows:
            yield [Measurement(1, 1.0, 0.5)] * 2
            raise SystemExit(3)

    with pytest.raises(ContractError, match="train_pack returned a list"):
        next(watch_members(Lists(), [tiny(), tiny()], [NOTHING] * 2))
    with pytest.raises(ContractError, match="ended its process"):
        list(watch_members(Exits(), [tiny(), tiny()], [NOTHING] * 2))


def test_a_named_trial_packs_if_the_object_has_train_pack(tmp_path: Path) -> None:
    """The name alone does not tell."""
    (tmp_path / "named_pack.py").write_text(
        "def single(run): yield\ndef both(run): yield\nboth.train_pack = lambda runs: iter(())\n"
    )
    single, both = (
        parse_trainable(f"{tmp_path}/named_pack.py:{name}") for name in ("single", "both")
    )
    assert pack_trainer(single) is None
    assert pack_trainer(both) is not None
