"""A trial's exception as one line for the store and the terminal."""

from __future__ import annotations

from critical.trials.watch import ContractError


def describe(error: BaseException) -> str:
    """Return an exception's type, message, and the file and line where it was raised.

    A broken contract is told by its sentence alone: the place of the check helps nobody.
    """
    if isinstance(error, ContractError):
        return str(error)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = ""
    if trace is not None:
        name = trace.tb_frame.f_code.co_filename.rsplit("/", 1)[-1]
        place = f" ({name}, line {trace.tb_lineno})"
    message = " ".join(str(error).split())
    return f"{type(error).__name__}{': ' if message else ''}{message}{place}"
