"""The Typer application and its exit statuses."""

from __future__ import annotations

import errno
import os
import sys

import typer

from critical.cli import commands_files, commands_search, commands_study
from critical.cli.output import say

app = typer.Typer(
    name="critical",
    help="Find the critical initialization of a language model from short proxy runs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
commands_search.register(app)
commands_study.register(app)
commands_files.register(app)


def main() -> None:
    """Run a command. Exit status 0 done, 1 the work failed, 2 what the user wrote is wrong."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # γ in ASCII
    sys.exit(_flushed(_status(sys.argv[1:])))


def _flushed(status: int) -> int:
    """Write out what was printed; where that fails the status is 1."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return _unwritten(error)
    return status


def _unwritten(error: OSError) -> int:
    """Say that the output has no place, but to a reader that has gone; return the status."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Or Python's own flush at its end fails again.
    if not isinstance(error, BrokenPipeError):
        say(f"critical: the output cannot be written: {error.strerror}")
    return 1


def _status(arguments: list[str]) -> int:
    for argument in arguments:
        if argument != argument.encode(errors="replace").decode():
            say(f"critical: {argument!r} is not UTF-8, as the store is: rename what it names")
            return 2
    try:
        status = app(args=arguments, standalone_mode=False, prog_name="critical")
    except typer.TyperException as error:
        message = " ".join(error.format_message().split()).rstrip(".")
        say(f"critical: {message or 'no command was given'}: see critical --help")
        return 2
    except typer.Abort:
        return 130
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EPIPE):
            raise
        return _unwritten(error)
    except Exception as error:
        known = getattr(error, "exit_status", None)
        if not isinstance(known, int):
            raise
        say(f"critical: {error}")
        return known
    return status if isinstance(status, int) else 0
