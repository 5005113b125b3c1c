"""What ``critical search`` prints: the plan, the progress, the recommendation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from critical.api import run_prepared
from critical.budget import format_amount, unit_size
from critical.cli.output import Output, fail, say, stdout_to_stderr
from critical.cli.progress import Progress
from critical.cli.tables import plan_view, recommendation_view
from critical.errors import Interruption
from critical.options import SearchOptions
from critical.preparation import planned_search, prepare_search
from critical.search import Listener, Search

if TYPE_CHECKING:
    from rich.console import Console


def print_plan(options: SearchOptions, output: Output) -> None:
    """Print what a search would do; store and start nothing."""
    with stdout_to_stderr():
        prepared = prepare_search(options)
        plan = planned_search(prepared)
    if output.as_json:
        unit = prepared.budget.unit
        budget = {"unit": unit, "total": prepared.budget.amount / unit_size(unit)}
        output.document({"study": prepared.name, "budget": budget, "plan": plan.to_document()})
    else:
        output.show(*plan_view(plan, prepared.name, prepared.budget))


def run_and_print(options: SearchOptions, output: Output) -> None:
    """Run a search to its end, or take it up, and print the recommendation.

    Interrupted, it prints what is known so far, and how to go on.
    """
    interruption: Interruption | None = None
    try:
        with stdout_to_stderr():
            document: Mapping[str, Any] | None = run_prepared(prepare_search(options), _shown)
    except Interruption as error:
        interruption, document = error, error.recommendation
    except KeyboardInterrupt:  # before anything was begun
        fail("interrupted before any trial was begun", 1)
    if document is not None:
        _print(document, output)
    if interruption is not None:
        fail(str(interruption), interruption.exit_status)


def _print(document: Mapping[str, Any], output: Output) -> None:
    if output.as_json:
        output.document(document)
    else:
        output.show(*recommendation_view(document))


@contextmanager
def _shown(search: Search) -> Iterator[Listener]:
    console = error_console()
    history = search.history
    for view in plan_view(search.plan, history.study.name, history.budget):
        console.print(view)
    if history.trials:
        spent = format_amount(history.spent, history.budget.unit)
        say(f"study {history.study.name!r} goes on: {spent} of {history.budget} are spent")
    with Progress(search, console) as progress:
        yield progress


def error_console() -> Console:
    """Return a console on standard error, as wide as Output's where there is no terminal."""
    import sys

    from rich.console import Console

    width = None if sys.stderr.isatty() else 110
    return Console(stderr=True, width=width, highlight=False, markup=False, emoji=False)
