"""The plan: never dearer than its budget, every scale in it, and its refusals."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from critical.budget import Budget, parse_budget
from critical.errors import BudgetError
from critical.plan import (
    TRAINABLE_WIDTHS,
    Clock,
    Plan,
    Request,
    expected_trials,
    extended,
    make_plan,
    scale_at,
)
from critical.targets.target import read_target
from critical.tiers import TIERS, Tier
from critical.trials import Scale

REQUEST = Request(
    budget=Budget(200, "trials"),
    target=None,
    widths=None,
    ladder=None,
    tokens=None,
    seed=0,
    reference_gamma=0.5,
    device="cpu",
    workers=0,
    own_trainable=False,
)


def seconds(speed: float) -> Clock:
    """A clock: device-seconds of a trial, growing with width and tokens; relaxed ones take more."""

    def clock(scale: Scale, settings: str, _: int) -> float:
        return speed * scale.width * scale.tokens / 1e7 * (1.2 if settings == "relaxed" else 1.0)

    return clock


requests = st.builds(
    replace,
    st.just(REQUEST),
    widths=st.none() | st.sets(st.sampled_from((16, 32, 64, 96, 128)), min_size=1).map(sorted),
    ladder=st.none() | st.sets(st.sampled_from((1e-3, 2e-3, 4e-3)), min_size=1).map(tuple),
    tokens=st.none() | st.integers(1_000, 10**7),
    seed=st.integers(0, 1000),
    own_trainable=st.booleans(),
    settings=st.sampled_from((("target",), ("relaxed",), ("target", "relaxed", "carried"))),
)


@given(requests, st.floats(1, 1e6), st.floats(1e-3, 1e2))
def test_a_plan_never_costs_more_than_its_budget(
    request: Request, amount: float, speed: float
) -> None:
    """Either the least that the plan does can be paid, or there is no plan."""
    request = replace(request, budget=Budget(amount, "cpu-s"))
    try:
        plan = make_plan(request, seconds(speed))
    except BudgetError:
        return
    assert 0 < plan.cost <= amount


@given(requests, st.integers(1, 2000))
def test_every_wanted_width_has_its_arm(request: Request, count: int) -> None:
    """No width that was asked for is left out, however poor the budget."""
    request = replace(request, budget=Budget(count, "trials"))
    try:
        plan = make_plan(request, None)
    except BudgetError:
        return
    assert plan.settings == request.settings
    widths = [arm.scale.width for arm in plan.arms][:: len(request.settings)]
    assert widths == sorted(set(widths))
    assert [(arm.scale.width, arm.settings) for arm in plan.arms] == [
        (width, settings) for width in widths for settings in request.settings
    ]
    if request.widths is not None:
        assert widths == list(request.widths)
    elif request.own_trainable:
        assert widths == list(TRAINABLE_WIDTHS)
    # The references and at least 5 search trials of every arm, and the confirmation, fit.
    each = len(widths) * (len(plan.rungs) + len(plan.seeds) - 1 + 5) + 2 * plan.pairs
    assert each * len(request.settings) <= plan.cost <= count
    assert plan.ladder == (request.ladder or plan.ladder)
    assert plan.seeds[0] == request.seed


@given(requests, st.floats(1e-3, 1e2))
def test_the_minimum_that_is_named_is_enough(request: Request, speed: float) -> None:
    """A user who types what the message says gets a plan."""
    request = replace(request, budget=Budget(1e-9, "cpu-s"))
    with pytest.raises(BudgetError, match=r"is under the minimum of this search") as caught:
        make_plan(request, seconds(speed))
    found = re.search(r"write --budget (\S+)$", str(caught.value))
    assert found is not None
    make_plan(replace(request, budget=parse_budget(found[1])), seconds(speed))


def test_too_few_trials_name_the_least() -> None:
    """The user's own trial at three widths takes six trials at each."""
    request = replace(REQUEST, budget=Budget(17, "trials"), own_trainable=True)
    with pytest.raises(BudgetError, match=r"budget 17trials is under.*write --budget 18trials"):
        make_plan(request, None)
    assert make_plan(replace(request, budget=Budget(18, "trials")), None).cost == 18


def test_a_richer_budget_buys_a_richer_plan() -> None:
    """Tiers are climbed one by one, and their cost grows."""
    poor, rich = (
        make_plan(replace(REQUEST, budget=Budget(amount, "cpu-s")), seconds(1.0))
        for amount in (60, 60_000)
    )
    assert len(rich.arms) > len(poor.arms)
    assert rich.pairs > poor.pairs == 0
    costs = [tier.cost(lambda width, factor, _: width**2 * factor) for tier in TIERS]
    assert costs == sorted(costs)


def test_no_scale_is_timed_that_cannot_be_paid() -> None:
    """The clock is asked for the chosen tier's scales and at most the next one's."""
    timed: set[int] = set()

    def clock(scale: Scale, settings: str, trials: int) -> float:
        timed.add(scale.width)
        return seconds(1.0)(scale, settings, trials)

    make_plan(replace(REQUEST, budget=Budget(60, "cpu-s")), clock)
    assert max(timed) <= 64


def test_one_cpu_minute_still_plans() -> None:
    """The poorest tier is narrow and says what that costs."""
    plan = make_plan(replace(REQUEST, budget=parse_budget("1cpu-min")), seconds(10.0))
    assert [arm.scale.width for arm in plan.arms] == [16]
    assert any("conditional on learning rate" in note for note in plan.notes)
    assert any("one seed only" in note for note in plan.notes)
    assert any("no confirmation" in note for note in plan.notes)


def test_a_tier_costs_its_references_search_and_confirmation() -> None:
    """(k + s − 1 + n) trials a scale, and two a pair on the widest."""
    tier = Tier((32, 64), 1, 3, 2, 12, 2)
    assert tier.cost(lambda width, *_: width) == (32 + 64) * 16 + 4 * 64


def test_own_trials_have_no_ladder_unless_given() -> None:
    """A trial that chooses its own learning rate has a single rung, None."""
    own = replace(REQUEST, own_trainable=True)
    assert make_plan(own, None).rungs == (None,)
    assert make_plan(replace(own, ladder=(1e-3, 2e-3)), None).rungs == (1e-3, 2e-3)


@given(st.integers(1, 5000))
def test_the_built_in_ladder_is_a_factor_two_apart(count: int) -> None:
    """Rungs are a factor 2 to 3 apart, up to their two digits."""
    try:
        ladder = make_plan(replace(REQUEST, budget=Budget(count, "trials")), None).ladder
    except BudgetError:
        return
    for lower, upper in pairwise(ladder):
        assert 1.9 < upper / lower < 2.1


def test_proxies_have_the_targets_proportions(llama_config: Path) -> None:
    """With a target no proxy is wider than it, and each is shaped like it."""
    target = read_target(llama_config)
    plan = make_plan(replace(REQUEST, budget=Budget(5000, "trials"), target=target), None)
    assert max(arm.scale.width for arm in plan.arms) <= target.width
    for arm in plan.arms:
        assert arm.scale.width % arm.scale.heads == 0
        assert 2 <= arm.scale.depth <= 4


@given(st.integers(1, 512).map(lambda n: 8 * n), st.floats(0.25, 16))
def test_default_shapes_are_valid(width: int, factor: float) -> None:
    """Heads divide the width into even parts; wider proxies train on more tokens."""
    scale = scale_at(width, factor, REQUEST)
    assert scale.width % (2 * scale.heads) == 0
    assert scale.tokens >= scale_at(8, factor, REQUEST).tokens
    assert scale_at(width, factor, replace(REQUEST, tokens=5000)).tokens == 5000


@given(requests, st.integers(120, 2000))
def test_a_plan_survives_the_store(request: Request, count: int) -> None:
    """Written as JSON and read back, it is equal, floats and tuples included."""
    plan = make_plan(replace(request, budget=Budget(count, "trials")), None)
    assert Plan.from_document(json.loads(json.dumps(plan.to_document()))) == plan
    assert [plan.arm(arm.name) for arm in plan.arms] == list(plan.arms)


def test_settings_share_the_budget() -> None:
    """Twice the settings need twice the budget for the same plan, and its minimum is twice."""
    alone = replace(REQUEST, budget=Budget(17, "trials"), own_trainable=True)
    both = replace(alone, settings=("target", "relaxed"))
    with pytest.raises(BudgetError, match=r"write --budget 36trials"):
        make_plan(both, None)
    one = make_plan(replace(alone, budget=Budget(60, "trials")), None)
    two = make_plan(replace(both, budget=Budget(120, "trials")), None)
    assert two.cost == 2 * one.cost
    assert (two.seeds, two.pairs, two.ladder) == (one.seeds, one.pairs, one.ladder)
    assert [arm.name for arm in two.widest] == ["w128/target", "w128/relaxed"]


def test_what_is_expected_of_each_arm_adds_up_to_the_budget() -> None:
    """Confirmation is kept apart for each of the settings, and the rest is shared equally."""
    request = replace(
        REQUEST, budget=Budget(240, "trials"), own_trainable=True, settings=("target", "relaxed")
    )
    plan = make_plan(request, None)
    expected = expected_trials(plan, request.budget)
    assert set(expected) == {arm.name for arm in plan.arms}
    total = sum(count or 0 for count in expected.values())
    assert total + 2 * plan.pairs * 2 == pytest.approx(240, abs=len(plan.arms) / 2)


def test_what_could_not_be_carried_over_is_said_first() -> None:
    """The notes of a request stand before the plan's own, and stay when the budget grows."""
    notes = ("the target's experts are not carried over",)
    request = replace(REQUEST, budget=Budget(8, "trials"), widths=(32,), notes=notes)
    plan = make_plan(request, None)
    assert plan.notes[:1] == notes
    assert any("one seed only" in note for note in plan.notes[1:])
    assert extended(plan, Budget(64, "trials"), notes).notes[:1] == notes


def test_an_extended_plan_counts_every_settings() -> None:
    """A budget that buys one settings more seeds buys two of them fewer."""
    request = replace(REQUEST, budget=Budget(32, "trials"), widths=(32,))
    both = replace(request, settings=("target", "relaxed"))
    alone, shared = (
        extended(make_plan(one, None), Budget(53, "trials")) for one in (request, both)
    )
    assert len(alone.seeds) > len(shared.seeds)
    assert shared.settings == ("target", "relaxed")
