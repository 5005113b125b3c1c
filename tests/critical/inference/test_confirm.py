"""The measured gain: pairs by seed, their mean and Student's interval."""

from __future__ import annotations

import numpy as np
import pytest

from critical.inference.confirm import measured_gain
from critical.inference.objectives import Curve, Run


def run(
    gamma: float, seed: int, *, speed: float = 1.0, reasoning: float = 0.4, diverged: bool = False
) -> Run:
    """A run whose loss is a power of speed · tokens."""
    tokens = np.geomspace(10, 10_000, 200)
    return Run(
        gamma=gamma,
        learning_rate=None,
        width=64,
        settings="target",
        seed=seed,
        reference=gamma == 0.5,
        curve=Curve(tokens, 5.0 * (speed * tokens) ** -0.3, np.full(200, reasoning)),
        diverged=diverged,
    )


def test_the_gain_is_the_mean_over_pairs() -> None:
    """R is averaged as it is and ρ geometrically; both have an interval around them."""
    runs = [
        run(0.5, 1), run(0.8, 1, speed=2, reasoning=0.5),
        run(0.5, 2), run(0.8, 2, speed=8, reasoning=0.7),
    ]  # fmt: skip
    gain = measured_gain(runs, None)
    assert gain is not None
    assert (gain.gamma, gain.width, gain.pairs) == (0.8, 64, 2)
    assert gain.reasoning == pytest.approx(0.2)
    assert gain.efficiency == pytest.approx(4.0, rel=0.01)
    assert gain.reasoning_interval == pytest.approx((0.2 - 0.6314, 0.2 + 0.6314), abs=1e-3)
    assert gain.efficiency_interval is not None
    low, high = gain.efficiency_interval
    assert low < gain.efficiency < high
    assert low * high == pytest.approx(gain.efficiency**2)


def test_one_pair_has_no_interval() -> None:
    """Nothing is known of how far seeds differ."""
    gain = measured_gain([run(0.5, 1), run(0.8, 1, speed=2)], None)
    assert gain is not None
    assert gain.efficiency == pytest.approx(2.0, rel=0.01)
    assert gain.reasoning_interval is gain.efficiency_interval is None


def test_runs_without_their_other_half_say_nothing() -> None:
    """A seed counts where both its runs have finished and neither diverged."""
    assert measured_gain([], None) is None
    assert measured_gain([run(0.5, 1)], None) is None
    assert measured_gain([run(0.8, 1)], None) is None
    assert measured_gain([run(0.5, 1), run(0.8, 2)], None) is None
    assert measured_gain([run(0.5, 1, diverged=True), run(0.8, 1)], None) is None
    assert measured_gain([run(0.5, 1), run(0.8, 1, diverged=True)], None) is None


def test_the_gamma_confirmed_last_counts() -> None:
    """An extended search may confirm another γ; the two are not mixed."""
    first = [run(0.5, 1), run(0.7, 1, reasoning=0.9)]
    second = [run(0.5, 2), run(0.8, 2, reasoning=0.5)]
    gain = measured_gain([*first, *second], None)
    assert gain is not None
    assert (gain.gamma, gain.pairs) == (0.8, 1)
    assert gain.reasoning == pytest.approx(0.1)


def test_a_floor_ends_the_comparison_where_the_mixture_is_solved() -> None:
    """Both runs are compared at no lower a loss."""
    runs = [run(0.5, 1), run(0.8, 1, speed=2)]
    assert measured_gain(runs, 1.0) is not None
    final = float(runs[0].curve.loss[-1])
    high, low = measured_gain(runs, 2.0), measured_gain(runs, final / 2)
    assert high is not None
    assert low is not None
    assert high.efficiency == pytest.approx(low.efficiency, rel=0.02)
