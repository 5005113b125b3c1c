"""The commands on studies that exist: from ``studies`` to ``dashboard``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from critical.cli.output import Output

Storage = Annotated[
    str | None, Option(help="Store, as sqlite:///critical.db (also CRITICAL_STORAGE).")
]
Json = Annotated[bool, Option("--json", help="Print one JSON document.")]
Settings = Annotated[
    str | None, Option(help="By which of the settings that were searched; by default target.")
]
_FRAMEWORKS = "Framework, as hf or megatron; a name that is not known lists them all."
Study = Annotated[str, Argument(help="Name of a study; critical studies lists them.")]


def register(app: typer.Typer) -> None:
    """Add the commands to an application."""
    for command in (studies, show, trials, recommend, export, report, dashboard):
        app.command()(command)


def studies(storage: Storage = None, as_json: Json = False) -> None:
    """List every search: state, budget spent, γ* and its interval."""
    from critical.cli import studying

    studying.print_studies(storage, Output(as_json=as_json))


def show(study: Study, storage: Storage = None, as_json: Json = False) -> None:
    """Show one search: plan, ledger, γ* per scale, recommendation, and what went wrong."""
    from critical.cli import studying

    studying.print_study(study, storage, Output(as_json=as_json))


def trials(
    study: Study,
    storage: Storage = None,
    csv: Annotated[bool, Option("--csv", help="Print comma-separated values.")] = False,
    as_json: Json = False,
) -> None:
    """List every trial of a search, one a row."""
    from critical.cli import studying

    if csv and as_json:
        raise typer.BadParameter("--csv and --json exclude each other: write one of them")
    studying.print_trials(study, storage, Output(as_json=as_json), csv=csv)


def recommend(
    study: Study,
    target: Annotated[
        Path | None, Option(help="config.json of another model than the search's target.")
    ] = None,
    settings: Settings = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Recommend γ* with its interval, and the std of every matrix of the target."""
    from critical.cli import studying

    studying.print_recommendation(study, target, settings, storage, Output(as_json=as_json))


def export(
    to: Annotated[str, Option(help=_FRAMEWORKS)],
    config: Annotated[Path, Option(help="The training configuration to edit.")],
    study: Annotated[
        str | None, Argument(help="Name of a study; none is needed with --gamma.")
    ] = None,
    output: Annotated[
        Path | None, Option(help="Write the edited file, or the code where no key holds γ, here.")
    ] = None,
    in_place: Annotated[bool, Option("--in-place", help="Replace the file, atomically.")] = False,
    diff: Annotated[bool, Option("--diff", help="Print what would change.")] = False,
    bundle: Annotated[
        Path | None, Option(help="Folder for the edited file, a hook and report.json.")
    ] = None,
    gamma: Annotated[float | None, Option(help="Write this γ; it needs no study.")] = None,
    settings: Settings = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Write the recommendation, or --gamma, into a training configuration; all else stays."""
    from critical.cli.exporting import export_gamma

    if sum((output is not None, in_place, diff)) > 1:
        raise typer.BadParameter(
            "--output, --in-place and --diff exclude each other: write one of them"
        )
    if gamma is not None and settings is not None:
        raise typer.BadParameter("--gamma and --settings exclude each other: write one of them")
    result = export_gamma(study, to, config, gamma, settings, storage)
    result.deliver(
        Output(as_json=as_json),
        output_file=output,
        in_place=in_place,
        diff=diff,
        bundle=bundle,
    )


def report(
    study: Study,
    output: Annotated[Path, Option(help="File to write.")] = Path("report.html"),
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Draw a search into one self-contained HTML file."""
    from critical.cli import studying

    studying.write_report(study, output, storage, Output(as_json=as_json))


def dashboard(
    host: Annotated[str, Option(help="A loopback address.")] = "127.0.0.1",
    port: Annotated[int, Option(help="0 takes a free one.", min=0, max=65535)] = 8642,
    storage: Storage = None,
) -> None:
    """Serve the reports, and Optuna's dashboard beside them, on this machine only."""
    from critical.cli.serving import serve_dashboard

    serve_dashboard(host, port, storage)
