"""What commands print: one JSON document, or Rich tables; messages go to standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

from critical.cli.visible import escaped_json, visible_line


class Output:
    """Where a command's result goes. With ``as_json`` one document and nothing else on stdout."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def document(self, document: Any) -> None:  # noqa: ANN401  # any JSON
        """Print one JSON document on standard output."""
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
        sys.stdout.write(escaped_json(text) + "\n")

    def show(self, *renderables: object) -> None:
        """Print Rich renderables on standard output."""
        from critical.cli.console import console

        out = console()
        if out.is_terminal:
            for renderable in renderables:
                out.print(renderable)
            return
        with out.capture() as captured:
            for renderable in renderables:
                out.print(renderable)
        lines = captured.get().splitlines()
        sys.stdout.writelines(f"{line.rstrip()}\n" for line in lines)  # Rich fills cells up.


def say(message: str) -> None:
    """Print a message on standard error, as one line."""
    typer.echo(visible_line(message), err=True)


def fail(message: str, status: int) -> NoReturn:
    """Print one sentence on standard error and leave with a status."""
    say(f"critical: {message}")
    raise typer.Exit(status)


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Point file descriptor 1 at standard error, for Ray and trials write to it at will."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
