"""An exception as one line, and its kind."""

from __future__ import annotations

import errno

import numpy as np
import pytest
import torch

from critical.trials.failure import describe, kind_of
from critical.trials.watch import ContractError
from critical.trials.watchdog import Hanging


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


def test_what_a_database_or_a_terminal_cannot_take_is_escaped() -> None:
    """NUL, half a letter, and sequences that clear a screen or turn the direction of writing."""
    found = describe(ValueError("a\0b\udc80c\x1b[2J\x9b2Jd\u202ee γ"))
    assert found == r"ValueError: a\x00b\udc80c\x1b[2J\x9b2Jd\u202ee γ"
    assert describe(ContractError("\x1b[2J")) == r"\x1b[2J"


def test_a_long_message_is_cut() -> None:
    """A tensor's text may be megabytes; the place still stands at the end."""
    found = describe(raised(ValueError("1.0, " * 10**6)))
    assert len(found) < 2100
    assert "1.0, …" not in found
    assert "… (test_failure.py, line " in found


def test_an_exception_that_cannot_tell_its_message() -> None:
    """Its type and place are told all the same."""

    class Mute(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise KeyError("no")

    found = describe(raised(Mute()))
    assert found.startswith("Mute: (its message fails with KeyError) (test_failure.py, line ")


@pytest.mark.parametrize("error", [AssertionError(), KeyboardInterrupt()])
def test_an_exception_without_a_message(error: BaseException) -> None:
    """Its type alone stands before the place."""
    found = describe(raised(error))
    assert found.startswith(f"{type(error).__name__} (test_failure.py, line ")


def test_a_broken_contract_is_its_sentence() -> None:
    """The place of the check is ours and helps nobody."""
    assert describe(raised(ContractError("yield at least 20"))) == "yield at least 20"


def test_a_hanging_trial_is_its_sentence() -> None:
    """It holds the place; that of the watchdog helps nobody."""
    sentence = "no measurement for 312 s (own.py, line 12 in train)"
    assert describe(raised(Hanging(sentence))) == sentence


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_a_want_of_memory(error: BaseException) -> None:
    """Of Python, torch, CUDA or the system."""
    assert kind_of(error) == "memory"


@pytest.mark.parametrize("allocate", [torch.empty, np.empty, bytearray])
def test_memory_that_is_not_there(allocate: type) -> None:
    """Whatever asks for more than there is."""
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        allocate(10**17)
    assert kind_of(caught.value) == "memory"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("out of memory"),
        RuntimeError("shapes differ"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("out of memory"),
        ContractError("yield at least 20"),
        Hanging("no measurement for 312 s"),
        KeyboardInterrupt(),
    ],
)
def test_other_errors(error: BaseException) -> None:
    """Are no want of memory."""
    assert kind_of(error) == "error"
