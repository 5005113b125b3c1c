"""What the figures draw is right before anything is drawn."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from critical.dashboards import units
from critical.dashboards.figures import style
from critical.dashboards.figures.arms import interpolate
from critical.dashboards.figures.fan import fan
from critical.dashboards.figures.pareto import median_point, pareto, plateau_path

POINTS = st.lists(st.tuples(st.floats(-3, 3), st.floats(0, 1)), max_size=30)


@given(POINTS)
def test_no_point_betters_the_front(points: list[tuple[float, float]]) -> None:
    """Every point is at or below some point of the front, whose reasoning falls as ρ rises."""
    front = pareto(points)
    assert all(any(x <= u and y <= v for u, v in front) for x, y in points)
    assert front == sorted(front)
    assert [y for _, y in front] == sorted({y for _, y in front}, reverse=True)


def test_interpolation_is_exact_on_the_grid_and_constant_beyond() -> None:
    """Between two points of the grid the line is straight."""
    x, y = (0.0, 1.0, 3.0), (2.0, 4.0, 0.0)
    assert [interpolate(x, y, at) for at in (-1, 0, 0.5, 1, 2, 9)] == [2, 2, 3, 4, 2, 0]


def test_the_plateau_runs_along_the_median_curve(records: SimpleNamespace) -> None:
    """It begins and ends where the posterior median is at the plateau's ends."""
    scale = records.scale(64)
    low, high = scale.gamma_star.plateau
    path = plateau_path(scale)
    assert path[0] == median_point(scale, low)
    assert path[-1] == median_point(scale, high)


def test_the_fan_follows_intercept_and_slope(records: SimpleNamespace) -> None:
    """At the centre width the median is the intercept; one octave on, the slope is added."""
    posterior = dataclasses.replace(
        records.posterior(),
        centre_width=64.0,
        intercept=(0.7,) * 101,
        slope=(0.05,) * 101,
        discrepancy_sd=0.02,
    )
    band = fan(posterior.answers[0], 0.02, [64.0, 128.0], (0.3, 1.2))
    assert band.median == pytest.approx((0.7, 0.75), abs=0.002)
    assert band.high[0] - band.low[0] == pytest.approx(2 * 1.645 * 0.02, rel=0.1)


def test_the_fan_stays_within_the_search_interval(records: SimpleNamespace) -> None:
    """Draws beyond the interval are cut off, and all beyond it lie at its edge."""
    posterior = dataclasses.replace(records.posterior(), slope=(0.3,) * 256)
    band = fan(posterior.answers[0], 0.02, [64.0, 2048.0, 1e6], (0.3, 1.2))
    assert max(band.high) <= 1.2
    assert band.median[-1] == 1.2


@pytest.mark.parametrize(
    ("budget_unit", "seconds", "text"),
    [
        ("gpu-h", 7200.0, "2 gpu-h"),
        ("cpu-min", 750.0, "12.5 cpu-min"),
        ("trials", 90.0, "90 device-s"),
        ("trials", 9000.0, "2.5 device-h"),
    ],
)
def test_device_time_is_told_in_the_budgets_unit(
    budget_unit: str, seconds: float, text: str
) -> None:
    """A budget of trials takes the unit that suits the size."""
    assert units.device_time(budget_unit, seconds).text(seconds) == text


def test_octaves_are_told_as_a_factor() -> None:
    """What is missing or not finite is a dash."""
    assert units.factor(-1.0) == "×0.50"
    assert units.factor(-6.0) == "×0.016"
    assert units.factor(None) == units.factor(float("nan")) == "–"


def test_log_ticks_are_round_and_enough() -> None:
    """A short range has 1, 2 and 5, a long one powers of ten."""
    assert style.log_ticks(1.0, 6.0, fine=20) == [1.0, 2.0, 5.0]
    assert style.log_ticks(9e3, 1e6, fine=20) == [1e4, 1e5, 1e6]


def test_text_of_users_cannot_style_or_link() -> None:
    """Plotly reads tags in labels, so they are escaped."""
    assert style.safe('<a href="x">') == '&lt;a href="x"&gt;'
