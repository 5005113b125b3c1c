"""Searches whose trials are trained together: the same trials, each settled and charged alone."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from critical.errors import OptionError, RunError
from critical.preparation import Prepared
from critical.running.agenda import CONFIRMATION_SEEDS, Intent, Signal
from critical.running.driving import run_in_process
from critical.running.pack_attempt import PackAttempt
from critical.running.search import Assignment, Search
from critical.running.searcher import TuneSearcher
from critical.storage.records import Role, TrialRecord, TrialState
from critical.trials import Measurement, ProxyRun, Trainable
from critical.trials.training import TrainingRecipe
from critical.trials.watch import Watched
from critical.trials.watch_pack import Rows, watch_members

Begin = Callable[..., Search]
Prepare = Callable[..., Prepared]
TRIALS_ONLY = pytest.mark.usefixtures("without_posterior")
REAL = {
    "trainable": None,
    "mixture": "reasoning=0.7,memory=0.3",
    "widths": (16,),
    "tokens": 6_000,
    "batch": 144,
    "lr": (2e-3, 4e-3),
    "budget": "10trials",
    "pack": 4,
}
"""The built-in trial, in about 40 steps."""
RATES = (1e-3, 2e-3, 4e-3)
"""So that the first pack holds three references."""


class Together:
    """The analytic trial, one run or several at once; it notes every pack and its wall seconds.

    Args:
        whole: The trial of one run.
        trouble: Called with the pack's number, from 0, and the row that comes next.
    """

    def __init__(
        self, whole: Trainable, trouble: Callable[[int, int], None] = lambda *_: None
    ) -> None:
        self.whole, self.trouble = whole, trouble
        self.packs: list[list[ProxyRun]] = []
        self.seconds: list[float] = []

    def __call__(self, run: ProxyRun, /) -> Iterator[Measurement]:
        """One run alone, which is noted too."""
        self.packs.append([run])
        began = time.perf_counter()
        self.seconds.append(0.0)
        for one in self.whole(run):
            self.seconds[-1] = time.perf_counter() - began
            yield one

    def train_pack(self, runs: Sequence[ProxyRun]) -> Rows:
        """Several runs."""
        number = len(self.packs)
        self.packs.append(list(runs))
        began = time.perf_counter()
        self.seconds.append(0.0)
        curves = [self.curve(run) for run in runs]
        left: frozenset[int] = frozenset()
        for row in count():
            self.trouble(number, row)
            found = [None if n in left else next(c, None) for n, c in enumerate(curves)]
            if not any(found):
                return
            time.sleep(1e-3)
            self.seconds[-1] = time.perf_counter() - began
            left |= yield found

    def curve(self, run: ProxyRun) -> Iterator[Measurement]:
        """A member's measurements."""
        return iter(self.whole(run))


class Diverging(Together):
    """One whose losses are infinite from the tenth measurement where γ is over 0.8."""

    def curve(self, run: ProxyRun) -> Iterator[Measurement]:
        """A member's measurements."""
        for number, one in enumerate(self.whole(run)):
            fatal = run.gamma > 0.8 and number == 10
            yield replace(one, loss=math.inf) if fatal else one


def packed(search: Search, most: int = 4) -> Search:
    """Let a search train so many trials together."""
    search.pack = most
    return search


def start(search: Search) -> list[Assignment]:
    """Take the next pack."""
    found = search.next_pack()
    assert not isinstance(found, Signal)
    return found


def charged(search: Search) -> float:
    """Every charge to a trial, device-seconds."""
    charges = search.history.store.charges(search.history.study.id)
    return math.fsum(
        charge.charged_seconds or 0.0 for charge in charges if charge.trial_number is not None
    )


def final_losses(search: Search, trials: Sequence[TrialRecord]) -> list[float]:
    """The last stored loss of each."""
    curves = [search.history.store.trial_measurements(trial.id) for trial in trials]
    return [curve[-1].loss for curve in curves]


@pytest.fixture
def small(prepare: Prepare) -> TrainingRecipe:
    """The built-in trial of these options, looked into less often."""
    recipe = prepare(**REAL).trainable
    assert isinstance(recipe, TrainingRecipe)
    return replace(recipe, evaluations=20, development=0)


def alone(recipe: TrainingRecipe, trials: Sequence[TrialRecord], search: Search) -> list[float]:
    """The last loss of each trial's run, trained alone from its start."""
    runs = [
        ProxyRun(t.gamma, t.learning_rate, search.plan.arm(t.arm).scale, t.seed, t.settings)
        for t in trials
    ]
    return [list(recipe(run))[-1].loss for run in runs]


@TRIALS_ONLY
def test_trials_that_are_trained_together_are_those_trained_alone(
    begin: Begin, small: TrainingRecipe
) -> None:
    """Real training: the same final losses, but for roundings."""
    search = begin(**REAL)
    sizes = []

    def counting(search: Search) -> None:
        sizes.append(len(search.history.running))

    search.listener = counting
    run_in_process(search, small)
    assert max(sizes) >= 2
    trials = search.history.trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETED] * 10
    some = trials[::3]
    assert final_losses(search, some) == pytest.approx(alone(small, some, search), rel=1e-3)


@TRIALS_ONLY
def test_every_second_of_a_pack_is_charged_once(begin: Begin, train: Trainable) -> None:
    """The trials' charges are together the time that their packs took; some diverge on the way."""
    trial = Diverging(train)
    search = packed(begin(budget="24trials", lr=RATES))
    run_in_process(search, trial)
    states = Counter(trial.state for trial in search.history.trials)
    assert set(states) == {TrialState.COMPLETED, TrialState.DIVERGED}
    assert max(map(len, trial.packs)) == 4
    assert charged(search) == pytest.approx(sum(trial.seconds), rel=0.05, abs=0.02)
    ledger = search.history.ledger
    assert ledger.held_seconds == 0
    assert ledger.spent_seconds == pytest.approx(charged(search))


@TRIALS_ONLY
def test_a_pack_has_one_arm_and_no_run_twice(begin: Begin, train: Trainable) -> None:
    """References, search and confirmation trials are packed alike, and arms come out even."""
    trial = Together(train)
    search = packed(begin(budget="42trials", widths=(32, 64)), 8)
    run_in_process(search, trial)
    for runs in trial.packs:
        assert len({(run.scale, run.settings) for run in runs}) == 1
        assert len({(run.gamma, run.learning_rate, run.seed) for run in runs}) == len(runs)
    trials = search.history.trials
    assert len(trials) == 42 - 2 * search.plan.pairs
    searched = Counter(trial.width for trial in trials if trial.role is Role.SEARCH)
    assert max(searched.values()) - min(searched.values()) <= 1
    for width, number in searched.items():
        own = [trial for trial in trials if trial.width == width and trial.role is Role.SEARCH]
        assert {t.seed for t in own} == set(search.plan.seeds), number
    sizes = [len(runs) for runs in trial.packs]
    assert max(sizes) > 2


@TRIALS_ONLY
def test_of_what_an_arm_has_to_come_a_pack_has_a_quarter(begin: Begin, train: Trainable) -> None:
    """The sampler sees results between packs, ever more often."""
    trial = Together(train)
    search = packed(begin(budget="40trials", widths=(32,)), 16)
    run_in_process(search, trial)
    gammas = [t.gamma for t in search.history.trials if t.role is Role.SEARCH]
    sizes = [sum(run.gamma in gammas for run in runs) for runs in trial.packs]
    left = len(gammas)
    for size in sizes:
        assert size <= max(1, left / 4)
        left -= size
    assert left == 0
    assert max(sizes) >= 6


@TRIALS_ONLY
def test_a_pack_that_fails_is_one_failure(begin: Begin, train: Trainable) -> None:
    """Every member that was going fails of the same; those that had ended stay as they are."""

    def trouble(number: int, row: int) -> None:
        if number == 3 and row == 15:
            raise ValueError("once")

    trial = Diverging(train, trouble)
    search = packed(begin(budget="40trials", widths=(32,)), 6)
    run_in_process(search, trial)
    pack = trial.packs[3]
    ended = {t.gamma: t for t in search.history.trials if t.gamma in {run.gamma for run in pack}}
    states = {run.gamma: ended[run.gamma].state for run in pack}
    assert len(states) >= 4
    for gamma, state in states.items():
        assert state is (TrialState.DIVERGED if gamma > 0.8 else TrialState.FAILED)
    reasons = {t.reason for t in ended.values() if t.state is TrialState.FAILED}
    assert len(reasons) == 1
    assert str(reasons).count("ValueError: once (test_packs.py, line ") == 1
    assert search.history.spent == 40 - 2 * search.plan.pairs
    assert charged(search) == pytest.approx(sum(trial.seconds), rel=0.05, abs=0.02)


@TRIALS_ONLY
def test_packs_that_all_fail_end_the_search_with_nothing_open(
    begin: Begin, train: Trainable
) -> None:
    """As many packs in a row as single trials would; each member has failed, none is left."""

    def trouble(number: int, row: int) -> None:
        raise ValueError("always")

    trial = Together(train, trouble)
    search = packed(begin(budget="30trials", lr=RATES, max_failures=2))
    with pytest.raises(RunError, match="2 trials in a row have failed, the last with ValueError"):
        run_in_process(search, trial)
    assert [len(runs) for runs in trial.packs] == [3, 3]
    assert [t.state for t in search.history.trials] == [TrialState.FAILED] * 6


@TRIALS_ONLY
def test_want_of_memory_lets_every_member_go_on_alone(begin: Begin, train: Trainable) -> None:
    """None of them fails, and none is trained with others again."""

    def trouble(number: int, row: int) -> None:
        if number == 1 and row == 5:
            raise MemoryError("no room")

    trial = Together(train, trouble)
    search = packed(begin(budget="20trials", backoff=0))
    run_in_process(search, trial)
    assert {t.state for t in search.history.trials} == {TrialState.COMPLETED}
    lost = trial.packs[1]
    assert len(lost) > 1
    again = [runs for runs in trial.packs[2:] if runs[0].gamma in {run.gamma for run in lost}]
    assert [len(runs) for runs in again] == [1] * len(lost)


@TRIALS_ONLY
def test_an_interrupted_pack_goes_on_alone_to_the_same_losses(
    begin: Begin, small: TrainingRecipe
) -> None:
    """Real training: every member is saved, charged its share, and ends under its own number."""
    first = begin(**REAL)

    class Stopping:
        """Built-in trials in a search that is told to stop after the tenth row of its pack."""

        def __call__(self, run: ProxyRun, /) -> Iterator[Measurement]:
            raise AssertionError("the first pack holds a reference at both rates")

        def train_pack(self, runs: Sequence[ProxyRun]) -> Rows:
            for number, row in enumerate(small.train_pack(runs)):
                if number == 10:
                    first.stop()
                yield row

    run_in_process(first, Stopping())
    waiting = first.history.interrupted
    assert len(waiting) == len(first.history.trials) == 2
    assert all((trial.device_seconds or 0.0) > 0 for trial in waiting)
    for trial in waiting:
        assert (first.folder.trial(trial.number) / "checkpoint.safetensors").is_file()
    second = begin(**(REAL | {"pack": 1}))
    gone_on = []
    for trial in waiting:
        (assignment,) = start(second)
        assert assignment.number == trial.number
        attempt = PackAttempt(second, [assignment])
        for row in members(small, [assignment]):
            attempt.record(row)
        attempt.finish()
        gone_on.append(second.history.trials[trial.number])
    assert [(t.state, t.attempts) for t in gone_on] == [(TrialState.COMPLETED, 2)] * 2
    assert final_losses(second, gone_on) == pytest.approx(alone(small, gone_on, second), rel=1e-3)


@TRIALS_ONLY
def test_interrupted_trials_are_packed_again(begin: Begin) -> None:
    """In number order, with what is new after them."""
    first = packed(begin(budget="60trials", lr=RATES), 2)
    pack = PackAttempt(first, start(first))
    assert len(pack.going) == 2
    pack.interrupt(6.0, "interrupted by the user")
    assert [trial.device_seconds for trial in first.history.trials] == [3.0, 3.0]
    second = packed(begin(budget="60trials", lr=RATES))
    assert [one.number for one in start(second)] == [0, 1, 2]


@TRIALS_ONLY
def test_a_dropped_trial_is_stopped_and_the_others_go_on(begin: Begin, train: Trainable) -> None:
    """It is told so by a file, charged what it held, and its curve so far is kept."""
    search = packed(begin(budget="60trials", widths=(32,)))
    while len(assignments := start(search)) < 3:
        attempt = PackAttempt(search, assignments)
        for row in members(Together(train), assignments):
            attempt.record(row)
        attempt.finish()
    attempt = PackAttempt(search, assignments)
    second = assignments[1].number
    for number, row in enumerate(members(Together(train), assignments)):
        attempt.record(row)
        if number == 4:
            assert attempt.drop(second, "it cannot reach the front any more")
            assert not attempt.drop(10_000, "nobody's")
    attempt.finish()
    ended = [search.history.trials[one.number] for one in assignments]
    assert [t.state for t in ended if t.number != second] == [TrialState.COMPLETED] * (
        len(assignments) - 1
    )
    dropped = search.history.trials[second]
    assert (dropped.state, dropped.reason) == (
        TrialState.STOPPED,
        "it cannot reach the front any more",
    )
    curve = search.history.store.trial_measurements(dropped.id)
    assert len(curve) == 5
    assert dropped.device_seconds == curve[-1].device_seconds
    assert not search.folder.trial(second).exists()


def members(trial: Trainable, assignments: Sequence[Assignment]) -> Iterator[list[Watched | None]]:
    """Watch a pack as a worker does."""
    runs = [one.run for one in assignments]
    return watch_members(trial, runs, [one.earlier for one in assignments])


@TRIALS_ONLY
def test_a_death_of_its_worker_is_charged_to_those_that_were_going(
    begin: Begin, train: Trainable
) -> None:
    """Through Tune's searcher: one member had diverged, the others go on alone."""
    search = packed(begin(budget="60trials", widths=(32,), backoff=0))
    searcher = TuneSearcher(search)
    trial = Diverging(train)
    for name in map(str, count()):
        config: Any = searcher.suggest(name)
        pack = [searcher.attempts[name].pack.going[n].number for n in range(len(config["members"]))]
        deadly = any(run.gamma > 0.8 for run in config["members"]) and len(pack) > 1
        rows = watch_members(trial, config["members"], config["earlier"])
        for number, row in enumerate(rows):
            searcher.on_trial_result(name, {"watched": row})
            if deadly and number == 15:
                break
        else:
            searcher.on_trial_complete(name, {"done": True})
            continue
        searcher.attempts[name].heard = time.monotonic() - 6.0
        searcher.on_trial_complete(name, error=True)
        break
    assert searcher.error is None
    trials = [search.history.trials[number] for number in pack]
    going = [t for t in trials if t.gamma <= 0.8]
    assert {t.state for t in trials if t.gamma > 0.8} == {TrialState.DIVERGED}
    assert {t.state for t in going} == {TrialState.INTERRUPTED}
    for one in going:
        measured = search.history.store.trial_measurements(one.id)[-1].device_seconds
        assert (one.device_seconds or 0.0) - measured == pytest.approx(6.0 / len(going), abs=0.1)
    assert [len(start(search)) for _ in going] == [1] * len(going)
    searcher.stop_running()


@TRIALS_ONLY
def test_tunes_searcher_drops_a_trial_by_its_number(begin: Begin) -> None:
    """Wherever it runs; one that does not is no error."""
    search = packed(begin(budget="60trials", widths=(32,)), 2)
    searcher = TuneSearcher(search)
    config: Any = searcher.suggest("a")
    last = searcher.attempts["a"].pack.going[-1]
    assert searcher.drop(last.number, "too far from the front")
    assert not searcher.drop(10_000, "nobody's")
    assert [path.name for path in config["members"][-1].checkpoint_dir.iterdir()] == ["drop"]
    searcher.stop_running()


@TRIALS_ONLY
def test_a_repeat_is_not_packed(begin: Begin) -> None:
    """It is compared to the bit; nor is, by default, a search on a CPU."""
    search = begin(budget="60trials", lr=RATES)
    assert search.pack == 1
    assert len(start(search)) == 1
    (arm,) = search.plan.arms
    gammas = count(start=0.5, step=0.1)
    packed(search).schedule = lambda _: Intent(arm, Role.SEARCH, 0, next(gammas), RATES[0])
    assert [len(start(search)) for _ in range(3)] == [1] * 3


def test_confirmation_runs_are_packed_in_pairs(begin: Begin, train: Trainable) -> None:
    """Both sides of a pair, or of several, train together once the search has ended."""
    trial = Together(train)
    search = packed(begin(budget="24trials"))
    run_in_process(search, trial)
    confirmed = [t for t in search.history.trials if t.role is Role.CONFIRMATION]
    assert len(confirmed) == 2 * search.plan.pairs > 0
    packs = [runs for runs in trial.packs if runs[0].seed >= CONFIRMATION_SEEDS]
    assert [len(runs) for runs in packs] == [4, 2]
    assert all(runs[0].seed == runs[1].seed for runs in packs)
    packed_together = {(run.gamma, run.seed) for runs in packs for run in runs}
    assert packed_together == {(t.gamma, t.seed) for t in confirmed}


def test_a_trial_that_cannot_be_packed_says_so(prepare: Prepare, analytic: str) -> None:
    """``auto`` packs nothing then."""
    assert prepare(pack="auto").pack == 1
    with pytest.raises(OptionError, match=r"--pack 4 is given, but trainable .* has no train_pack"):
        prepare(pack=4)
    assert prepare(**REAL).pack == 4
