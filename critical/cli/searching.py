"""What ``critical search`` prints: the plan, the progress, the recommendation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from critical.api import run_prepared
from critical.budget import format_amount, unit_size
from critical.cli.advice import recommendation_view
from critical.cli.output import Output, fail, say, stdout_to_stderr
from critical.cli.progress import Progress
from critical.cli.tables import plan_view
from critical.comparison import sentences
from critical.errors import Interruption
from critical.lent_folder import lent_work_dir
from critical.options import RepeatOptions, SearchOptions
from critical.planning import planned_search
from critical.preparation import Prepared
from critical.repeating import prepare_request
from critical.running.search import Listener, Search

if TYPE_CHECKING:
    from rich.console import Console


def print_plan(request: SearchOptions | RepeatOptions, output: Output) -> None:
    """Print what a search would do; store and start nothing."""
    with stdout_to_stderr(), lent_work_dir(request.work_dir) as folder:
        prepared = prepare_request(request.model_copy(update={"work_dir": folder}))
        plan = planned_search(prepared)
    if output.as_json:
        unit = prepared.budget.unit
        budget = {"unit": unit, "total": prepared.budget.amount / unit_size(unit)}
        document = {"study": prepared.name, "budget": budget, "plan": plan.to_document()}
        if prepared.original is not None:
            of, trials = prepared.original.study.name, len(prepared.original.trials)
            document["repeat"] = {"of": of, "trials": trials}
        output.document(document)
    else:
        output.show(*plan_view(plan, prepared.name, prepared.budget, _known(prepared)))


def run_and_print(request: SearchOptions | RepeatOptions, output: Output) -> None:
    """Run a search to its end, or take it up, and print the recommendation.

    After a repeat, sentences say whether its trials came out the same.

    Interrupted, it prints what is known so far, and how to go on.
    """
    interruption: Interruption | None = None
    try:
        with stdout_to_stderr():
            prepared = prepare_request(request)
            watch = partial(_shown, known=_known(prepared))
            document: Mapping[str, Any] | None = run_prepared(prepared, watch)
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
    if "repeat" in document:
        for sentence in sentences(document["repeat"]):
            say(sentence)


def _known(prepared: Prepared) -> Mapping[str, int] | None:
    """How many trials each arm of a repeat will have."""
    original = prepared.original
    return None if original is None else Counter(trial.arm for trial in original.trials)


@contextmanager
def _shown(search: Search, known: Mapping[str, int] | None) -> Iterator[Listener]:
    console = error_console()
    history = search.history
    for view in plan_view(search.plan, history.study.name, history.budget, known):
        console.print(view)
    if history.trials:
        spent = format_amount(history.spent, history.budget.unit)
        say(f"study {history.study.name!r} goes on: {spent} of {history.budget} are spent")
    with Progress(search, console) as progress:
        yield progress


def error_console() -> Console:
    """Return a console on standard error, as wide as Output's where there is no terminal."""
    from critical.cli.console import console

    return console(stderr=True)
