"""What may join a pack: references that are due, and a part of the search trials to come."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from critical.plan import Arm, Plan
from critical.running.agenda import Situation
from critical.running.packing import AT_ONCE, mean_members, most_searching, next_in_arm
from critical.storage.records import Role
from critical.trials import Scale

NARROW, WIDE = (Arm(Scale(width, 2, 2, 1000), "target", 1.0) for width in (32, 64))
LADDER = (2e-3, 4e-3)


def plan(pairs: int = 0) -> Plan:
    """Two arms, two rungs, one seed."""
    return Plan((NARROW, WIDE), LADDER, (0,), pairs, 0.5, "cpu", 0, 6.0, ())


def situation(remaining: float, *costs: float | None) -> Situation:
    """Nothing has been run yet; the costs of a narrow and a wide trial."""
    named = dict(zip((NARROW.name, WIDE.name), costs, strict=True))
    return Situation((), remaining, named, {}, enough=False)


def test_a_reference_that_is_due_joins_whoever_searches() -> None:
    """It is of the pack's own arm, though another's is due first."""
    found = next_in_arm(plan(), situation(100.0, 1.0, 2.0), WIDE, 100)
    assert found is not None
    assert (found.arm, found.role, found.learning_rate) == (WIDE, Role.REFERENCE, LADDER[0])


def test_what_the_budget_does_not_pay_does_not_join() -> None:
    """Neither a reference nor a search trial."""
    assert next_in_arm(plan(), situation(1.5, 1.0, 2.0), WIDE, 0) is None


def test_a_quarter_of_an_equal_part_may_search_at_once() -> None:
    """Of what confirmation leaves; a dear arm has fewer, and at least one."""
    now = situation(88.0, 1.0, 4.0)
    assert most_searching(plan(pairs=1), now, NARROW, 0) == 10
    assert most_searching(plan(pairs=1), now, WIDE, 0) == 2
    assert most_searching(plan(pairs=1), now, WIDE, 6) == 4
    assert most_searching(plan(pairs=12), now, WIDE, 0) == 1


def test_where_no_cost_is_known_one_at_a_time_searches() -> None:
    """As before a trial of the user's own has completed."""
    assert most_searching(plan(), situation(1e6, None, None), NARROW, 0) == 1


@settings(deadline=None)
@given(remaining=st.floats(0.0, 1e4), cost=st.floats(0.1, 100.0))
def test_no_pack_has_more_than_its_part(remaining: float, cost: float) -> None:
    """However much is left, at whatever cost."""
    found = most_searching(plan(), situation(remaining, cost, cost), NARROW, 0)
    assert found == 1 or found * cost <= AT_ONCE * remaining / 2 + 1e-6


@given(trials=st.integers(1, 1000), most=st.integers(1, 32))
def test_packs_are_as_large_as_the_trials_to_come_let_them(trials: int, most: int) -> None:
    """On average between one member and the most; more trials have packs at least as large."""
    mean = mean_members(trials, most)
    assert 1.0 <= mean <= most
    assert mean <= mean_members(2 * trials, most)
    assert mean_members(trials, 1) == 1.0


def test_towards_the_end_packs_shrink() -> None:
    """Of 24 trials a quarter of those to come at a time: 6, 4, 3, 2, 2 and seven times one."""
    assert mean_members(24, 8) == 24 / 12
    assert mean_members(100_000, 8) == pytest.approx(8, rel=1e-2)
