"""What one pass tells of a run: verdicts agree with what short training runs come to."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from critical.trials import ProxyRun, Scale
from critical.trials.preflight import (
    MOST_UNDOING,
    SATURATED,
    WORSE_THAN_GUESSING,
    Vitals,
    inspect,
    judge,
    remark,
)
from critical.trials.training import TrainingRecipe

Tiny = Callable[..., ProxyRun]
SHORT = Scale(16, 1, 2, 13_000)
"""About 90 steps of the recipe without text."""
HEALTHY = Vitals(
    loss=6.0,
    guess=5.95,
    gradient_norm=1.0,
    saturation=1.0,
    activation=1.0,
    weight=0.2,
    learning_rate=4e-3,
    steps=600,
)


def last_loss(recipe: TrainingRecipe, run: ProxyRun) -> float:
    """Train a run to its end."""
    return list(recipe(run))[-1].loss


@pytest.mark.parametrize("width", [16, 64, 128])
@pytest.mark.parametrize("gamma", [0.3, 1.2])
def test_the_default_interval_is_sound(
    tasks_only: TrainingRecipe, tiny: Tiny, width: int, gamma: float
) -> None:
    """At the widths of proxies neither end of it has a fault, nor a saturated norm."""
    scale = Scale(width, 2, width // 16, 100_000)
    vitals = inspect(tasks_only, tiny(gamma=gamma, scale=scale, learning_rate=0.128 / width))
    assert judge(vitals) is None
    assert remark(vitals) is None
    assert vitals.weight == pytest.approx(width**-gamma, rel=0.15)


def test_weights_too_large_keep_a_run_from_starting(tasks_only: TrainingRecipe, tiny: Tiny) -> None:
    """At γ 0 the run ends above a blind guess, as is foretold; at γ 0.6 it has learned."""
    bad, good = (tiny(gamma=gamma, learning_rate=4e-3, scale=SHORT) for gamma in (0.0, 0.6))
    vitals = inspect(tasks_only, bad)
    assert vitals.guess == math.log(tasks_only.vocabulary)
    assert judge(inspect(tasks_only, good)) is None
    reason = judge(vitals)
    assert reason is not None
    assert f"the loss begins at {vitals.loss:.1f}" in reason
    assert f"about {vitals.undoing:.0f} steps of {vitals.steps} at learning rate 0.004" in reason
    assert last_loss(tasks_only, bad) > vitals.guess
    assert last_loss(tasks_only, good) < 0.8 * vitals.guess


def test_a_saturated_run_learns_all_the_same(tasks_only: TrainingRecipe, tiny: Tiny) -> None:
    """Saturation is remarked upon and nothing is cut: AdamW outgrows it."""
    run = tiny(gamma=3.0, learning_rate=4e-3, scale=SHORT)
    vitals = inspect(tasks_only, run)
    assert judge(vitals) is None
    assert remark(vitals) == f"norms are saturated by their ε (output RMS {vitals.saturation:.2g})"
    # The embedding's mean square is 16^−6 against an ε of 1e-6.
    assert vitals.saturation == pytest.approx(math.sqrt(16**-6 / (16**-6 + 1e-6)), rel=0.05)
    assert last_loss(tasks_only, run) < 0.8 * vitals.guess


def test_weights_of_zero_are_dead(tasks_only: TrainingRecipe, tiny: Tiny) -> None:
    """Where every weight has underflown, no gradient reaches any, and nothing is ever learned."""
    run = tiny(gamma=40.0, scale=SHORT)
    vitals = inspect(tasks_only, run)
    assert judge(vitals) == "no gradient reaches any weight matrix (norm 0)"
    assert last_loss(tasks_only, run) == pytest.approx(vitals.guess, rel=1e-3)


def test_an_overflow_is_told(tasks_only: TrainingRecipe, tiny: Tiny) -> None:
    """Weights whose products leave float32's range are found in the activations."""
    assert judge(inspect(tasks_only, tiny(gamma=-10.0))) == "the activations are not finite"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_named(value: float) -> None:
    """Each of the numbers that must be finite has its own reason."""
    assert judge(replace(HEALTHY, loss=value)) == "the loss is not finite"
    assert judge(replace(HEALTHY, gradient_norm=value)) == "the gradient is not finite"
    assert judge(HEALTHY) is None


def test_looking_leaves_no_trace(tasks_only: TrainingRecipe, tiny: Tiny) -> None:
    """A run that was looked at trains to the same bits, and looking twice tells the same."""
    before = [m.loss.hex() for m in tasks_only(tiny())]
    found = inspect(tasks_only, tiny())
    assert [m.loss.hex() for m in tasks_only(tiny())] == before
    assert inspect(tasks_only, tiny()) == found


def test_a_compiled_recipe_is_looked_into_uncompiled(
    tasks_only: TrainingRecipe, tiny: Tiny
) -> None:
    """Hooks are called nowhere else, and nothing has to be compiled for one pass."""
    compiled = replace(tasks_only, compiled=True)
    assert inspect(compiled, tiny()) == inspect(tasks_only, tiny())


def test_tied_weights_are_looked_into(tiny: Tiny, tied: TrainingRecipe) -> None:
    """An embedding that is the head, too, counts once."""
    vitals = inspect(tied, tiny())
    assert judge(vitals) is None
    assert vitals.gradient_norm > 0


@given(
    st.builds(
        Vitals,
        loss=st.floats(0.1, 1e3),
        guess=st.floats(2, 12),
        gradient_norm=st.floats(1e-30, 1e6),
        saturation=st.floats(0, 1),
        activation=st.floats(0, 1e30),
        weight=st.floats(1e-20, 10),
        learning_rate=st.floats(1e-5, 1e-1),
        steps=st.integers(40, 10**6),
    )
)
def test_only_a_bad_start_that_lasts_is_a_reason(vitals: Vitals) -> None:
    """Of finite vitals, neither a bad start nor large weights alone; and saturation never."""
    bad = vitals.loss > WORSE_THAN_GUESSING * vitals.guess
    lasts = vitals.undoing > MOST_UNDOING * vitals.steps
    # A quotient may round to the other side of the limit.
    if abs(vitals.loss / vitals.guess - WORSE_THAN_GUESSING) > 1e-9:
        assert (judge(vitals) is not None) == (bad and lasts)
    assert (remark(vitals) is not None) == (vitals.saturation < SATURATED)


@pytest.fixture
def tied(tasks_only: TrainingRecipe) -> TrainingRecipe:
    """A recipe whose proxies' head is their embedding."""
    return replace(tasks_only, architecture=replace(tasks_only.architecture, tied=True))
