"""Budgets: what is read, what is refused, and how an amount is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from critical.budget import Budget, format_amount, parse_budget, unit_size
from critical.errors import BudgetError

UNITS = [f"{device}-{time}" for device in ("gpu", "cpu") for time in ("s", "min", "h")]


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("64gpu-h", 230400, "gpu-h"),
        ("30gpu-min", 1800, "gpu-min"),
        ("10cpu-min", 600, "cpu-min"),
        ("200trials", 200, "trials"),
        ("1trial", 1, "trials"),
        (" 1.5 CPU-H ", 5400, "cpu-h"),
        ("1e2trials", 100, "trials"),
        (".5cpu-s", 0.5, "cpu-s"),
    ],
)
def test_a_budget_is_a_number_and_a_unit(text: str, amount: float, unit: str) -> None:
    """Device-time is held in seconds and trials as a count."""
    assert parse_budget(text) == Budget(amount, unit)


def test_a_budget_knows_its_device() -> None:
    """Trials name no device."""
    devices = [parse_budget(text).device for text in ("1gpu-h", "1cpu-min", "20trials")]
    assert devices == ["gpu", "cpu", None]
    assert parse_budget("20trials").counts_trials
    assert not parse_budget("1gpu-h").counts_trials


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("64", r"'64' has no unit: write 64gpu-h"),
        ("", r"'' is not a number and a unit: write 64gpu-h"),
        ("gpu-h", r"'gpu-h' is not a number and a unit"),
        ("-3trials", r"'-3trials' is not a number and a unit"),
        ("nancpu-h", r"is not a number and a unit"),
        ("64gpu", r"'64gpu' has an unknown unit 'gpu': write 64gpu-h"),
        ("64tpu-h", r"unknown unit 'tpu-h'"),
        ("0trials", r"'0trials' leaves nothing to spend"),
        ("0cpu-min", r"'0cpu-min' leaves nothing to spend"),
        ("2.5trials", r"'2.5trials' is not a whole number of trials: write 200trials"),
        ("1e400trials", r"leaves nothing to spend"),
        ("1e400cpu-h", r"leaves nothing to spend"),
    ],
)
def test_a_wrong_budget_is_quoted_beside_a_right_one(text: str, message: str) -> None:
    """The message says what was given and what to write instead."""
    with pytest.raises(BudgetError, match=message):
        parse_budget(text)


@given(st.integers(1, 10**9))
def test_trials_survive_being_written_and_read(count: int) -> None:
    """A count comes back exactly."""
    assert parse_budget(format_amount(count, "trials")) == Budget(count, "trials")


@given(st.floats(1e-3, 1e12), st.sampled_from(UNITS))
def test_device_time_survives_being_written_and_read(amount: float, unit: str) -> None:
    """An amount comes back to the three digits that are written."""
    found = parse_budget(format_amount(amount, unit))
    assert found.unit == unit
    assert found.amount == pytest.approx(amount, rel=0.0051)


@given(st.integers(1, 10**6), st.sampled_from(UNITS))
def test_whole_amounts_are_written_exactly(number: int, unit: str) -> None:
    """What the user typed as a whole number is what the user reads."""
    assert str(Budget(number * unit_size(unit), unit)) == f"{number}{unit}"
