"""What ``critical search`` does: prepare, plan, run with a progress display, recommend."""

from __future__ import annotations

import sys

import torch

from critical.budget import format_amount
from critical.cli.output import Output, fail, say, stdout_to_stderr
from critical.cli.progress import Progress
from critical.cli.tables import plan_table, recommendation_view
from critical.driving import run_in_process
from critical.options import SearchOptions
from critical.plan import Plan
from critical.preparation import Prepared, open_search, plan_search, prepare_search
from critical.recommend import recommend
from critical.search import Search
from critical.storage.records import StudyState
from critical.storage.store import Store


def print_plan(options: SearchOptions, output: Output) -> None:
    """Print what a search would do; store and start nothing."""
    prepared = prepare_search(options)
    plan, _ = plan_search(prepared)
    if output.as_json:
        budget = {"unit": prepared.budget.unit, "total": prepared.budget.amount}
        output.document({"study": prepared.name, "budget": budget, "plan": plan.to_document()})
    else:
        output.show(plan_table(plan, prepared.name, prepared.budget))


def run_and_print(options: SearchOptions, output: Output) -> None:
    """Run a search to its end, or take it up, and print the recommendation."""
    # More threads than one make the posterior's small matrices slower while workers are busy.
    torch.set_num_threads(1)
    prepared = prepare_search(options)
    with Store.open(options.storage) as store:
        with stdout_to_stderr():
            search = _open(store, prepared)
            _run(search, prepared)
        study = store.study(prepared.name)
        document = recommend(store, study)
        store.add_recommendation(study.id, document)
    if output.as_json:
        output.document(document)
    else:
        output.show(*recommendation_view(document))


def _open(store: Store, prepared: Prepared) -> Search:
    existed = store.find_study(prepared.name) is not None
    if not existed:
        say("timing a few steps of each scale …")
    search = open_search(store, prepared)
    spent = format_amount(search.history.spent, prepared.budget.unit)
    if existed:
        say(f"study {prepared.name!r} goes on: {spent} of {prepared.budget} are spent")
    _announce(search.plan, prepared)
    return search


def _announce(plan: Plan, prepared: Prepared) -> None:
    from rich.console import Console

    Console(stderr=True, highlight=False).print(plan_table(plan, prepared.name, prepared.budget))


def _run(search: Search, prepared: Prepared) -> None:
    study = search.history.study
    store = search.history.store
    try:
        with Progress(search) as progress:
            search.listener = progress
            _drive(search, prepared)
    except KeyboardInterrupt:
        store.set_state(study.id, StudyState.INTERRUPTED, "interrupted by the user")
        say("interrupted: every completed trial is stored; the same command goes on")
        fail(f"study {study.name!r} was interrupted", 1)
    except Exception as error:
        store.set_state(study.id, StudyState.FAILED, str(error).splitlines()[0][:500])
        raise
    store.set_state(study.id, StudyState.FINISHED)


def _drive(search: Search, prepared: Prepared) -> None:
    if prepared.workers == 0:
        run_in_process(search, prepared.trainable)
        return
    from critical.ray_driving import run_on_ray

    sys.stdout.flush()
    options = prepared.options
    run_on_ray(search, prepared.trainable, options.work_dir, options.ray_address)
