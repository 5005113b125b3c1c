"""The commands on a training configuration that need no study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from critical.cli.commands_study import Json, Settings, Storage
from critical.cli.output import Output


def register(app: typer.Typer) -> None:
    """Add the commands to an application."""
    app.command()(audit)


def audit(
    file: Annotated[Path, Argument(help="A training configuration, as config.json.")],
    framework: Annotated[
        str | None, Option(help="Whose it is, as hf or megatron; by default told by the file.")
    ] = None,
    gamma: Annotated[float | None, Option(help="Hold it against this γ.")] = None,
    study: Annotated[str | None, Option(help="Hold it against the γ* of this study.")] = None,
    settings: Settings = None,
    storage: Storage = None,
    strict: Annotated[bool, Option("--strict", help="Exit with 1 if anything is found.")] = False,
    ignore: Annotated[
        list[str] | None, Option(help="Leave a finding out, by its code; may be given again.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Audit a training configuration for what restrains small initialization; needs no search."""
    from critical.cli.auditing import audit_file, print_audit

    if gamma is not None and study is not None:
        raise typer.BadParameter("--gamma and --study exclude each other: write one of them")
    if settings is not None and study is None:
        raise typer.BadParameter("--settings are those of a study: write --study too")
    found = audit_file(file, framework, gamma, study, settings, storage).without(ignore or ())
    print_audit(found, Output(as_json=as_json))
    if strict and found.findings:
        raise typer.Exit(1)
