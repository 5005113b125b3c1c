"""A trial's exception as one line for the store and the terminal, and what kind it is of."""

from __future__ import annotations

import errno
from typing import Literal

import torch

from critical.trials.watch import ContractError
from critical.trials.watchdog import Hanging

FailureKind = Literal["memory", "error"]
_LONGEST = 2000
"""Characters of an exception's message."""


def describe(error: BaseException) -> str:
    """Return an exception's type, message, and the file and line where it was raised.

    A broken contract is told by its sentence alone, for the place of the check helps nobody; so is
    a trial that hangs, whose sentence has its place.
    """
    if isinstance(error, ContractError | Hanging):
        return _printable(_in_a_line(str(error)))
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = ""
    if trace is not None:
        name = trace.tb_frame.f_code.co_filename.rsplit("/", 1)[-1]
        place = f" ({name}, line {trace.tb_lineno})"
    message = _in_a_line(_message(error))
    return _printable(f"{type(error).__name__}{': ' if message else ''}{message}{place}")


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as own:  # a user's class may do anything
        return f"(its message fails with {type(own).__name__})"


def _in_a_line(text: str) -> str:
    """Return a text as one line, its end left out where it is too long."""
    return " ".join(text[:_LONGEST].split()) + ("…" if len(text) > _LONGEST else "")


def _printable(text: str) -> str:
    """Escape what some databases cannot hold or a terminal obeys, as NUL and escape sequences."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def kind_of(error: BaseException) -> FailureKind:
    """Tell a want of memory, which another moment or machine may not have, from other errors."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "memory"
    if isinstance(error, OSError):
        return "memory" if error.errno == errno.ENOMEM else "error"
    # torch's allocator on the CPU, and CUDA's own calls, have no type for it.
    wants_memory = "can't allocate memory" in str(error) or "out of memory" in str(error)
    return "memory" if isinstance(error, RuntimeError) and wants_memory else "error"
