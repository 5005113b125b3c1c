"""An exception as one line."""

from __future__ import annotations

import pytest

from critical.trials.failure import describe
from critical.trials.watch import ContractError


def raised(error: BaseException) -> BaseException:
    """The error as caught, with the line where it was raised."""
    try:
        raise error
    except BaseException as caught:
        return caught


def test_type_message_and_place() -> None:
    """What happened, and where to look."""
    found = describe(raised(ValueError("no such rate")))
    assert found.startswith("ValueError: no such rate (test_failure.py, line ")


def test_a_message_of_several_lines_becomes_one() -> None:
    """The store and the terminal give it one line."""
    assert describe(ValueError("first\n   second")) == "ValueError: first second"


@pytest.mark.parametrize("error", [AssertionError(), KeyboardInterrupt()])
def test_an_exception_without_a_message(error: BaseException) -> None:
    """Its type alone stands before the place."""
    found = describe(raised(error))
    assert found.startswith(f"{type(error).__name__} (test_failure.py, line ")


def test_a_broken_contract_is_its_sentence() -> None:
    """The place of the check is ours and helps nobody."""
    assert describe(raised(ContractError("yield at least 20"))) == "yield at least 20"
