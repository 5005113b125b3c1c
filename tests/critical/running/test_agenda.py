"""The agenda, by simulating whole searches against a pure clock: no store, no sampler."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from statistics import median

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from critical.plan import Arm, Plan
from critical.running.agenda import (
    ATTEMPTS,
    CONFIRMATION_SEEDS,
    Confirmation,
    Intent,
    Signal,
    Situation,
    confirmation_cost,
    ladder_ended,
    next_confirmation,
    next_reference,
    next_search,
)
from critical.storage.records import Role, TrialRecord, TrialState
from critical.trials import Scale

NOW = datetime(2025, 1, 1, tzinfo=UTC)
ENDED = (TrialState.COMPLETED, TrialState.DIVERGED)
QUICK = settings(max_examples=60, deadline=None, phases=(Phase.explicit, Phase.generate))
"""Without shrinking: a simulated search takes a while, and its symptom tells enough."""
WIDTHS = (32, 64, 128, 256)
SETTINGS = ("target", "relaxed", "carried")


@dataclass
class Simulation:
    """A search without Ray, store or sampler: trials last random times and end at random.

    Attributes:
        plan: What is run.
        budget: Device-seconds, or trials.
        counts: Whether trials are counted.
        failing: Probability that a trial fails; as large again, that it diverges.
        noise: Sd of a trial's log duration around its arm's cost.
        enough_after: Trials after which the precision is reached, or None.
    """

    plan: Plan
    budget: float
    counts: bool
    rng: np.random.Generator
    failing: float = 0.0
    noise: float = 0.3
    enough_after: int | None = None
    trials: list[TrialRecord] = field(default_factory=list)
    lasts: dict[int, float] = field(default_factory=dict)
    ends: dict[int, float] = field(default_factory=dict)
    clock: float = 0.0

    def run(self) -> None:
        """Run to the end, at most ``workers`` trials at once."""
        while True:
            found = self.next() if len(self.running) < max(self.plan.workers, 1) else Signal.WAIT
            if isinstance(found, Intent):
                self.start(found)
            elif found is Signal.DONE:
                assert not self.running, "done while trials are running"
                return
            else:
                assert self.running, "waits for nothing"
                self.end()

    def next(self) -> Intent | Signal:
        """Ask the agenda as the search does."""
        now = self.situation()
        if not self.of(Role.CONFIRMATION):
            found = next_reference(self.plan, now) or next_search(self.plan, now)
            if found is not Signal.DONE:
                return found
            if self.running:
                return Signal.WAIT
        confirmations = [
            Confirmation(arm.name, 0.7, None, now.best_rates.get(arm.name))
            for arm in self.plan.widest
        ]
        return next_confirmation(self.plan, now, confirmations)

    def situation(self) -> Situation:
        """What has happened so far, as the history tells it."""
        arms = self.plan.arms
        return Situation(
            trials=self.trials,
            remaining=self.budget - self.spent - self.held,
            costs={arm.name: self.cost(arm) for arm in arms},
            best_rates={
                arm.name: rate
                for arm in arms
                if ladder_ended(self.plan, arm, self.trials)
                for rate in self.completed_rates(arm)[:1]
            },
            enough=self.enough_after is not None and len(self.trials) >= self.enough_after,
        )

    def completed_rates(self, arm: Arm) -> list[float | None]:
        """Rates of the arm's completed references of the first seed, lowest first."""
        found = [t for t in self.of(Role.REFERENCE, arm) if t.seed == self.plan.seeds[0]]
        done = [t.learning_rate for t in found if t.state is TrialState.COMPLETED]
        return sorted(done, key=lambda rate: rate or 0.0)

    def start(self, intent: Intent) -> None:
        """Check what must hold whenever a trial starts, and start it."""
        self.check(intent)
        scale, number = intent.arm.scale, len(self.trials)
        gamma = self.rng.uniform(0.3, 1.2) if intent.gamma is None else intent.gamma
        self.trials.append(
            TrialRecord(
                id=number, number=number, arm=intent.arm.name, optuna_number=None,
                role=intent.role, gamma=gamma, learning_rate=intent.learning_rate,
                width=scale.width, depth=scale.depth, heads=scale.heads, tokens=scale.tokens,
                seed=intent.seed, settings=intent.arm.settings, state=TrialState.RUNNING,
                reason=None, reasoning=None, log2_efficiency=None,
                attempts=1, reserved_seconds=self.cost(intent.arm) or 0.0, device_seconds=None,
                started_at=NOW, finished_at=None,
            )
        )  # fmt: skip
        noise = float(np.exp(self.noise * self.rng.standard_normal()))
        self.lasts[number] = scale.width * noise
        self.ends[number] = self.clock + self.lasts[number]

    def check(self, intent: Intent) -> None:
        """No trial that cannot be paid, no reference twice, no search before its ladder ended."""
        remaining, cost = self.budget - self.spent - self.held, self.cost(intent.arm) or 0.0
        assert remaining > 0
        assert cost <= remaining
        if intent.role is Role.REFERENCE:
            same = [
                t
                for t in self.of(Role.REFERENCE, intent.arm)
                if (t.seed, t.learning_rate) == (intent.seed, intent.learning_rate)
            ]
            assert all(t.state is TrialState.FAILED for t in same)
            assert len(same) < ATTEMPTS
            assert intent.gamma == self.plan.reference_gamma
        elif intent.role is Role.SEARCH:
            assert ladder_ended(self.plan, intent.arm, self.trials)
            assert not self.of(Role.CONFIRMATION)
            kept = confirmation_cost(self.plan, self.situation().costs)
            assert cost <= remaining - kept
        else:
            assert all(t.role is Role.CONFIRMATION for t in self.running)
            assert intent.seed >= self.plan.seeds[0] + CONFIRMATION_SEEDS

    def end(self) -> None:
        """Let the trial that ends first end, and charge it."""
        number = min((t.number for t in self.running), key=self.ends.__getitem__)
        draw = self.rng.random()
        state = TrialState.COMPLETED
        if draw < self.failing:
            state = TrialState.FAILED
        elif draw < 2 * self.failing:
            state = TrialState.DIVERGED
        self.clock = self.ends[number]
        self.trials[number] = replace(
            self.trials[number], state=state, device_seconds=self.lasts[number]
        )

    @property
    def running(self) -> list[TrialRecord]:
        """Trials that have not ended."""
        return [t for t in self.trials if t.state is TrialState.RUNNING]

    def of(self, role: Role, arm: Arm | None = None) -> list[TrialRecord]:
        """Trials of a role, in an arm."""
        return [t for t in self.trials if t.role is role and (arm is None or t.arm == arm.name)]

    @property
    def spent(self) -> float:
        """In the budget's unit."""
        if self.counts:
            return sum(t.state in ENDED for t in self.trials)
        return sum(t.device_seconds or 0.0 for t in self.trials)

    @property
    def held(self) -> float:
        """By the running trials, in the budget's unit."""
        return sum(1.0 if self.counts else t.reserved_seconds for t in self.running)

    def cost(self, arm: Arm) -> float | None:
        """Predicted, as the history does."""
        if self.counts:
            return 1.0
        found = [
            t.device_seconds
            for t in self.trials
            if t.arm == arm.name and t.state is TrialState.COMPLETED and t.device_seconds
        ]
        return median(found) if found else arm.trial_cost


def plan_of(
    arms: int = 2,
    rungs: int = 1,
    seeds: int = 1,
    pairs: int = 0,
    workers: int = 0,
    timed: bool = True,
    settings: int = 1,
) -> Plan:
    """A plan of so many scales, settings, rungs, seeds and pairs; a trial costs its width."""
    return Plan(
        arms=tuple(
            Arm(Scale(width, 2, 2, 1000), name, float(width) if timed else None)
            for width in WIDTHS[:arms]
            for name in SETTINGS[:settings]
        ),
        ladder=tuple(1e-3 * 2**rung for rung in range(rungs)) if rungs > 1 else (),
        seeds=tuple(range(seeds)),
        pairs=pairs,
        reference_gamma=0.5,
        device="cpu",
        workers=workers,
        cost=0.0,
        notes=(),
    )


plans = st.builds(
    plan_of,
    arms=st.integers(1, 4),
    rungs=st.integers(1, 3),
    seeds=st.integers(1, 3),
    pairs=st.integers(0, 3),
    workers=st.integers(0, 5),
    timed=st.booleans(),
    settings=st.integers(1, 2),
)
simulations = st.builds(
    Simulation,
    plan=plans,
    budget=st.integers(1, 150).map(float),
    counts=st.just(True),
    rng=st.integers(0, 2**32).map(np.random.default_rng),
    failing=st.sampled_from((0.0, 0.05, 0.3)),
    enough_after=st.none() | st.integers(1, 60),
) | st.builds(
    Simulation,
    plan=plans,
    budget=st.floats(1, 5_000),
    counts=st.just(False),
    rng=st.integers(0, 2**32).map(np.random.default_rng),
    failing=st.sampled_from((0.0, 0.05, 0.3)),
    enough_after=st.none() | st.integers(1, 60),
)


@QUICK
@given(simulations)
def test_any_search_ends_within_its_budget(simulation: Simulation) -> None:
    """Whatever fails, it ends; what starts is due and paid for; only what ran long overspends."""
    simulation.run()
    if simulation.counts:
        assert simulation.spent <= simulation.budget
    else:
        beyond = [max((t.device_seconds or 0) - t.reserved_seconds, 0) for t in simulation.trials]
        at_once = max(simulation.plan.workers, 1)
        assert simulation.spent <= simulation.budget + sum(sorted(beyond)[-at_once:]) + 1e-6


@QUICK
@given(simulations)
def test_a_search_that_is_taken_up_again_repeats_nothing(simulation: Simulation) -> None:
    """Ended once, a second run of the same command has nothing left to start."""
    simulation.run()
    before = len(simulation.trials)
    simulation.run()
    assert len(simulation.trials) == before


@QUICK
@given(plans, st.integers(0, 2**32))
def test_without_failures_a_rich_budget_is_spent_as_planned(plan: Plan, seed: int) -> None:
    """All references once, all pairs once, and the rest of the trials are search."""
    simulation = Simulation(plan, 120.0, True, np.random.default_rng(seed))
    simulation.run()
    for arm in plan.arms:
        references = Counter((t.seed, t.learning_rate) for t in simulation.of(Role.REFERENCE, arm))
        expected = [(plan.seeds[0], rate) for rate in plan.rungs]
        best = simulation.completed_rates(arm)[0]
        expected += [(one, best) for one in plan.seeds[1:]]
        assert references == Counter(expected)
    fresh = [CONFIRMATION_SEEDS + pair for pair in range(plan.pairs)]
    for arm in plan.arms:
        confirmed = Counter((t.seed, t.gamma) for t in simulation.of(Role.CONFIRMATION, arm))
        own = fresh if arm in plan.widest else []
        assert confirmed == Counter((one, gamma) for one in own for gamma in (0.5, 0.7))
    assert simulation.spent == 120


@QUICK
@given(
    st.integers(1, 4), st.integers(0, 5), st.booleans(), st.integers(2_000, 6_000), st.integers()
)
def test_every_scale_gets_its_equal_part(
    arms: int, workers: int, counts: bool, budget: int, seed: int
) -> None:
    """Search time differs between scales by no more than what the widest's last trials cost."""
    plan = plan_of(arms=arms, seeds=2, pairs=1, workers=workers)
    total = budget / 50 if counts else float(budget)
    simulation = Simulation(
        plan, total, counts, np.random.default_rng(abs(seed)), noise=0.0 if not counts else 0.3
    )
    simulation.run()
    parts = [
        len(simulation.of(Role.SEARCH, arm)) * (1.0 if counts else arm.scale.width)
        for arm in plan.arms
    ]
    # With several workers a narrow scale may begin while a wide one's references still run.
    ahead = max(workers, 1)
    widest = 1.0 if counts else plan.arms[-1].scale.width
    assert max(parts) - min(parts) <= (2 + ahead) * widest


def test_narrow_scales_come_first_and_the_ladder_before_other_seeds() -> None:
    """The order in which references run."""
    simulation = Simulation(
        plan_of(rungs=2, seeds=2), 30.0, True, np.random.default_rng(0), noise=0.0
    )
    simulation.run()
    references = [(t.width, t.seed, t.learning_rate) for t in simulation.of(Role.REFERENCE)]
    assert references == [
        (width, seed, rate)
        for width in (32, 64)
        for seed, rate in ((0, 1e-3), (0, 2e-3), (1, 1e-3))
    ]


def test_search_takes_the_seeds_in_turn() -> None:
    """No seed is left to chance, so that lucky ones cannot be preferred."""
    simulation = Simulation(plan_of(arms=1, seeds=3), 30.0, True, np.random.default_rng(0))
    simulation.run()
    assert [t.seed for t in simulation.of(Role.SEARCH)][:6] == [0, 1, 2, 0, 1, 2]


def test_a_reference_that_fails_twice_is_given_up() -> None:
    """The other rungs decide then; an arm with none is not searched."""
    simulation = Simulation(plan_of(arms=1), 30.0, True, np.random.default_rng(0), failing=1.0)
    simulation.run()
    assert [t.role for t in simulation.trials] == [Role.REFERENCE] * ATTEMPTS


def test_enough_precision_ends_the_search_and_begins_the_confirmation() -> None:
    """What is saved is not spent on more search."""
    simulation = Simulation(
        plan_of(arms=1, pairs=2), 100.0, True, np.random.default_rng(0), enough_after=10
    )
    simulation.run()
    assert len(simulation.of(Role.SEARCH)) == 9
    assert len(simulation.of(Role.CONFIRMATION)) == 4


@pytest.mark.parametrize("workers", [0, 4])
def test_the_reserve_is_kept_for_confirmation(workers: int) -> None:
    """However long the search, the pairs can be paid at the end."""
    plan = plan_of(arms=3, seeds=2, pairs=3, workers=workers)
    simulation = Simulation(plan, 6_000.0, False, np.random.default_rng(1), noise=0.0)
    simulation.run()
    assert len(simulation.of(Role.CONFIRMATION)) == 6


@QUICK
@given(st.integers(1, 3), st.integers(2, 3), st.integers(20, 200), st.integers(1, 3))
def test_settings_take_turns(arms: int, settings: int, budget: int, seeds: int) -> None:
    """At every moment the settings of a scale have had the same trials, but for one at most."""
    plan = plan_of(arms=arms, settings=settings, seeds=seeds, pairs=1)
    simulation = Simulation(plan, float(budget), True, np.random.default_rng(0))
    simulation.run()
    had: dict[int, Counter[str]] = {width: Counter() for width in WIDTHS}
    for trial in simulation.of(Role.SEARCH):
        own = had[trial.width]
        own[trial.settings] += 1
        assert own["target"] - 1 <= min(own[name] for name in SETTINGS[1:settings])
    for width in WIDTHS[:arms]:
        turns = [
            [t.seed for t in simulation.of(Role.SEARCH, arm)]
            for arm in plan.arms
            if arm.scale.width == width
        ]
        shared = min(map(len, turns))
        assert all(seeds[:shared] == turns[0][:shared] for seeds in turns)


def test_each_settings_is_confirmed_on_the_same_fresh_seeds_in_turn() -> None:
    """No second pair before every settings has its first."""
    plan = plan_of(arms=2, settings=2, pairs=2)
    simulation = Simulation(plan, 60.0, True, np.random.default_rng(0))
    simulation.run()
    order = [(t.seed - CONFIRMATION_SEEDS, t.settings) for t in simulation.of(Role.CONFIRMATION)]
    assert (
        order[::2]
        == order[1::2]
        == [(pair, settings) for pair in (0, 1) for settings in ("target", "relaxed")]
    )
