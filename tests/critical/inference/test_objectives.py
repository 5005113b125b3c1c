"""R and ρ from curves: their definitions, their invariances, and how runs are paired."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from critical.inference.objectives import (
    Curve,
    Run,
    best_references,
    crossing_time,
    efficiency,
    final_loss,
    learned,
    observe,
    reasoning_score,
)


def curve(
    loss: list[float], tokens: list[float] | None = None, accuracy: float | None = None
) -> Curve:
    """A curve whose R rises to 1 along it."""
    count = len(loss)
    return Curve(
        np.array(tokens or np.arange(1.0, count + 1) * 100),
        np.array(loss, dtype=float),
        np.linspace(0, 1, count),
        None if accuracy is None else np.full(count, accuracy),
    )


def power_law(scale: float = 1.0, speed: float = 1.0, count: int = 60) -> Curve:
    """A loss 4 (1 + 50 · speed · t)^-1, evaluated at scale · t."""
    t = np.geomspace(0.001, 1, count)
    return Curve(1e6 * scale * t, 4 / (1 + 50 * speed * t), np.full(count, 0.5))


def run(
    gamma: float,
    loss: Curve,
    seed: int = 0,
    rate: float | None = None,
    *,
    reference: bool = False,
    diverged: bool = False,
) -> Run:
    """A run at width 64."""
    return Run(gamma, rate, 64, "target", seed, reference, loss, diverged)


losses = st.lists(st.floats(0.01, 8.0), min_size=2, max_size=30)


@given(losses)
def test_efficiency_of_a_run_against_itself_is_one(values: list[float]) -> None:
    """Whatever the curve, a run needs as many tokens as itself."""
    assert efficiency(curve(values), curve(values)).log2 == 0.0


@given(losses, losses)
def test_efficiency_is_antisymmetric(one: list[float], other: list[float]) -> None:
    """Exchanging run and reference changes the sign of log₂ ρ and no flag."""
    there, back = efficiency(curve(one), curve(other)), efficiency(curve(other), curve(one))
    assert there.log2 == pytest.approx(-back.log2, abs=1e-12)
    assert (there.censored, there.unresolved) == (back.censored, back.unresolved)


@given(losses, losses, st.floats(1e-3, 1e3))
def test_efficiency_does_not_depend_on_the_unit_of_tokens(
    one: list[float], other: list[float], unit: float
) -> None:
    """Counting tokens in thousands changes no ratio."""
    first, second = (replace(c, tokens=c.tokens * unit) for c in (curve(one), curve(other)))
    expected = efficiency(curve(one), curve(other)).log2
    assert efficiency(first, second).log2 == pytest.approx(expected, abs=1e-9)


@given(losses, losses, st.floats(0.2, 5.0), st.floats(0.1, 10.0))
def test_efficiency_survives_a_power_of_the_loss(
    one: list[float], other: list[float], power: float, factor: float
) -> None:
    """Interpolation is linear in log ℓ, so that ℓ → c·ℓ^p leaves ρ as it is."""
    curves = (curve(one), curve(other))
    first, second = (replace(c, loss=factor * c.loss**power) for c in curves)
    expected = efficiency(curve(one), curve(other)).log2
    assert efficiency(first, second).log2 == pytest.approx(expected, abs=1e-6)


@given(st.floats(0.1, 10.0))
def test_a_stretched_run_has_the_stretch_as_its_efficiency(stretch: float) -> None:
    """The same losses after k times the tokens are exactly ρ = 1/k."""
    found = efficiency(power_law(scale=stretch), power_law())
    assert found.log2 == pytest.approx(-math.log2(stretch), abs=1e-9)


@given(st.floats(0.25, 4.0))
def test_a_faster_law_has_its_speed_as_efficiency(speed: float) -> None:
    """Two runs evaluated at the same tokens give the ratio of speeds, to interpolation error."""
    found = efficiency(power_law(speed=speed), power_law())
    assert found.log2 == pytest.approx(math.log2(speed), abs=0.01)


def test_crossing_is_linear_in_log_loss_between_evaluations() -> None:
    """Half way from e² to e⁰ in log ℓ lies half way in tokens."""
    tokens, censored = crossing_time(curve([math.e**2, 1.0]), math.e)
    assert tokens == pytest.approx(150.0)
    assert not censored


def test_crossing_uses_the_running_minimum() -> None:
    """A loss that was reached stays reached, though the curve rises again."""
    assert crossing_time(curve([4.0, 1.0, 3.0, 0.5]), 1.0) == (200.0, False)
    assert final_loss(curve([4.0, 1.0, 3.0])) == 1.0


def test_crossing_before_the_first_evaluation_is_censored() -> None:
    """A loss that the first evaluation already has gives its tokens, as a bound."""
    assert crossing_time(curve([1.0, 0.5]), 2.0) == (100.0, True)
    assert efficiency(curve([1.0, 0.9]), curve([4.0, 1.5])).censored


def test_a_loss_never_reached_takes_for_ever() -> None:
    """t(L) is infinite below the final loss."""
    assert crossing_time(curve([2.0, 1.0]), 0.5) == (math.inf, False)


def test_the_floor_ends_the_comparison_where_the_mixture_is_solved() -> None:
    """Below the floor nobody is faster: ρ is taken where both reach it."""
    fast, slow = curve([4.0, 1.0, 0.001]), curve([4.0, 1.0, 0.9])
    assert efficiency(fast, slow).log2 > 0
    assert efficiency(fast, slow, floor=1.0).log2 == 0


def test_efficiency_near_the_initial_loss_is_unresolved() -> None:
    """A common loss above 90% of the smaller initial loss says nothing."""
    assert efficiency(curve([4.0, 3.7]), curve([4.2, 1.0])).unresolved
    assert not efficiency(curve([4.0, 3.5]), curve([4.2, 1.0])).unresolved


def test_efficiency_is_clipped_to_six_octaves() -> None:
    """A thousand times slower counts as 64 times."""
    slow = replace(power_law(), tokens=power_law().tokens * 1000)
    assert efficiency(slow, power_law()).log2 == -6


def test_reasoning_averages_the_last_fifth_and_three_at_least() -> None:
    """Dense evaluations average their last fifth, sparse ones their last three."""
    score = np.array([0.0, 0, 0, 0.3, 0.6, 0.9])
    sparse = Curve(np.array([1.0, 2, 4, 8, 16, 32]), np.ones(6), score)
    assert reasoning_score(sparse) == pytest.approx(0.6)
    dense = Curve(np.arange(1.0, 101), np.ones(100), np.arange(1, 101) / 100)
    assert reasoning_score(dense) == pytest.approx(0.9)


def test_a_run_is_paired_with_the_reference_of_its_seed() -> None:
    """Seeds of different speed cancel where each has its reference."""
    runs = [
        run(0.5, power_law(speed=speed), seed, reference=True)
        for seed, speed in enumerate((1.0, 2.0))
    ]
    runs += [run(0.7, power_law(speed=2 * speed), s) for s, speed in enumerate((1.0, 2.0))]
    found = [one.log2_efficiency for one in observe(runs)]
    assert found == pytest.approx([0, 0, 1, 1], abs=0.01)
    assert [one.baseline for one in observe(runs)] == [True, True, False, False]


def test_a_seed_without_reference_is_compared_with_the_geometric_mean() -> None:
    """Against references at speeds 1 and 4, speed 4 is twice as fast."""
    runs = [
        run(0.5, power_law(speed=speed), seed, reference=True)
        for seed, speed in enumerate((1.0, 4.0))
    ]
    found = observe([*runs, run(0.7, power_law(speed=4.0), 7)])[-1]
    assert found.log2_efficiency == pytest.approx(1.0, abs=0.02)


def test_the_reference_takes_the_rung_with_the_least_loss() -> None:
    """A reference at another rate is measured against the best one, like any other run."""
    slow = run(0.5, power_law(), rate=1e-4, reference=True)
    fast = run(0.5, power_law(speed=2), rate=1e-3, reference=True)
    found = observe([slow, fast])
    assert best_references([slow, fast]) == [fast]
    assert found[0].log2_efficiency == pytest.approx(-1, abs=0.01)
    assert (found[0].baseline, found[1].baseline) == (False, True)


def test_rungs_are_compared_on_the_seeds_they_share() -> None:
    """A rung is not preferred because only an easy seed has run on it."""
    good = [run(0.5, power_law(speed=s), i, 1e-3, reference=True) for i, s in enumerate((2, 0.1))]
    easy = run(0.5, power_law(speed=1.5), 0, 1e-4, reference=True)
    assert best_references([*good, easy]) == good


def test_a_diverged_rung_is_not_the_references() -> None:
    """One diverged seed rules its learning rate out."""
    runs = [
        run(0.5, power_law(), 0, 1e-3, reference=True),
        run(0.5, power_law(speed=9), 0, 1e-2, reference=True, diverged=True),
    ]
    assert best_references(runs) == runs[:1]


def test_a_diverged_run_has_no_reasoning_and_the_least_efficiency() -> None:
    """R = 0, log₂ ρ = −6, and a loss no better than at initialization, even with no curve."""
    empty = Curve(np.empty(0), np.empty(0), np.empty(0))
    runs = [run(0.5, power_law(), reference=True), run(0.3, empty, diverged=True)]
    found = observe(runs)[1]
    assert (found.reasoning, found.log2_efficiency, found.diverged) == (0.0, -6.0, True)
    assert found.log_loss == pytest.approx(math.log(power_law().loss[0]))


def test_an_arm_without_a_finished_reference_says_nothing() -> None:
    """There is no ρ without a reference."""
    assert observe([run(0.7, power_law())]) == []
    assert observe([run(0.5, power_law(), reference=True, diverged=True)]) == []


def test_a_reference_learns_by_accuracy_or_by_a_stated_loss() -> None:
    """Accuracy 0.9 counts, none at all counts, and a stated loss replaces both."""
    low = [run(0.5, curve([4.0, 1.0], accuracy=0.85), reference=True)]
    high = [run(0.5, curve([4.0, 1.0], accuracy=0.95), reference=True)]
    own = [run(0.5, curve([4.0, 1.0]), reference=True)]
    assert [learned(one) for one in (low, high, own, [])] == [False, True, True, False]
    assert learned(low, learned_loss=1.0)
    assert not learned(high, learned_loss=0.9)
