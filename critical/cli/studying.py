"""What the commands on existing studies do."""

from __future__ import annotations

import csv as comma_separated
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from critical.budget import unit_size
from critical.cli.output import Output, say
from critical.cli.visible import visible
from critical.errors import OptionError
from critical.running.leasing import as_it_is
from critical.storage.agreement import SETTINGS_DISAGREE
from critical.storage.records import (
    ChargeRecord,
    LeaseRecord,
    PosteriorSummary,
    StudyRecord,
    StudySummary,
    TrialRecord,
)
from critical.storage.store import Store
from critical.store_url import resolve_storage

if TYPE_CHECKING:
    from rich.console import RenderableType

_COLUMNS = tuple(field.name for field in fields(TrialRecord))


@contextmanager
def existing_store(storage: str | None) -> Iterator[Store]:
    """Open the store of the command line or the environment, which must exist."""
    with Store.open(resolve_storage(storage, os.environ), create=False) as store:
        yield store


def print_studies(storage: str | None, output: Output) -> None:
    """List every study."""
    with existing_store(storage) as store:
        found = [replace(one, study=as_it_is(one.study, one.lease)) for one in store.studies()]
    if output.as_json:
        output.document([_summary(one) for one in found])
        return
    from critical.cli.tables import studies_table

    output.show(studies_table(found))


def print_study(name: str, storage: str | None, output: Output) -> None:
    """Show one study."""
    from critical.errors import RunError
    from critical.recommend import recommend

    with existing_store(storage) as store:
        study = _study(store, name)
        leases = store.leases(study.id)
        trials, ledger = store.trials(study.id, with_reason=True), store.ledger(study.id)
        attempts = store.charges(study.id, with_reason=True)
        unsaved_trials = store.last_extras(study.id, "checkpoint_failures")
        try:
            document: dict[str, Any] | None = recommend(store, study)
        except RunError:
            document = None
    if output.as_json:
        output.document(
            {
                "study": study.name,
                "state": study.state.value,
                "reason": study.reason,
                "options": dict(study.options),
                "plan": dict(study.plan),
                "environment": [_environment(lease) for lease in leases],
                "ledger": asdict(ledger),
                "recommendation": document,
                "reasons": {str(t.number): t.reason for t in trials if t.reason},
                "attempts": [_attempt(charge) for charge in attempts],
                "checkpoint_failures": {str(n): int(k) for n, k in unsaved_trials.items()},
            }
        )
        return
    from critical.budget import Budget
    from critical.cli.advice import recommendation_view
    from critical.cli.failures import failures, lost_attempts, unsaved
    from critical.cli.tables import (
        environment_lines,
        ledger_line,
        plan_view,
    )
    from critical.plan import Plan

    state = study.state.value + (f": {study.reason}" if study.reason else "")
    plan = Plan.from_document(study.plan)
    budget = Budget(study.budget_total, study.budget_unit)
    views: list[RenderableType] = [f"{study.name} is {state}"]
    views += plan_view(plan, study.name, budget)
    views += [ledger_line(ledger), *environment_lines(leases)]
    views += [*failures(trials), *lost_attempts(attempts, trials), *unsaved(unsaved_trials)]
    if document is None:
        views.append("γ* is not known yet: too few trials have been completed")
    else:
        views += recommendation_view(document)
    output.show(*views)


def print_trials(name: str, storage: str | None, output: Output, *, csv: bool) -> None:
    """List the trials of a study."""
    with existing_store(storage) as store:
        trials = store.trials(store.study(name).id)
    if csv:
        writer = comma_separated.writer(sys.stdout)
        writer.writerow(_COLUMNS)
        rows = (_plain(trial).values() for trial in trials)
        writer.writerows([visible(v) if isinstance(v, str) else v for v in row] for row in rows)
    elif output.as_json:
        output.document([_plain(trial) for trial in trials])
    else:
        from critical.cli.tables import trials_table

        output.show(trials_table(trials))


def print_recommendation(
    name: str, target: Path | None, settings: str | None, storage: str | None, output: Output
) -> None:
    """Print γ* at the study's target or at another, by the settings that are named if any are."""
    from critical.recommend import recommend
    from critical.targets.target import read_target

    model = read_target(target) if target is not None else None
    with existing_store(storage) as store:
        document = recommend(store, _study(store, name), model, settings)
    if output.as_json:
        output.document(document)
        return
    from critical.cli.advice import recommendation_view

    output.show(*recommendation_view(document))


def write_report(name: str, path: Path, storage: str | None, output: Output) -> None:
    """Draw a study into an HTML file, whole or not at all."""
    from critical.dashboards.report import gather, render
    from critical.export.files import write_atomically

    if path.is_dir() or not path.parent.is_dir():
        raise OptionError(f"report {path} cannot be written there: write --output report.html")
    with existing_store(storage) as store:
        text = render(gather(store, name))
    write_atomically(path, text)
    if output.as_json:
        output.document({"study": name, "report": str(path), "bytes": len(text.encode())})
    else:
        say(f"wrote {path}")


def _study(store: Store, name: str) -> StudyRecord:
    study = store.study(name)
    return as_it_is(study, store.lease(study.id))


def _summary(one: StudySummary) -> dict[str, Any]:
    study, latest = one.study, one.latest
    size = unit_size(study.budget_unit)
    spent = float(one.counts.spent) if study.budget_unit == "trials" else one.spent_seconds / size
    return {
        "study": study.name,
        "state": study.state.value,
        "reason": study.reason,
        "budget": {
            "unit": study.budget_unit,
            "total": study.budget_total / size,
            "spent": spent,
        },
        "trials": asdict(one.counts),
        "gamma": None if latest is None else _latest_gamma(latest),
        "created_at": study.created_at.isoformat(),
    }


def _latest_gamma(latest: PosteriorSummary) -> dict[str, Any]:
    """γ*, its interval and verdict; where settings disagree there is no single γ*."""
    numbers = {"median": latest.median, "low": latest.low, "high": latest.high}
    if latest.verdict == SETTINGS_DISAGREE:
        return {**dict.fromkeys(numbers), "verdict": latest.verdict}
    return {**numbers, "verdict": latest.verdict}


def _environment(lease: LeaseRecord) -> dict[str, Any]:
    """Return under what a driver ran its trials, which it was, and when."""
    released = lease.released_at
    return {
        **lease.environment,
        "acquired_at": lease.acquired_at.isoformat(),
        "released_at": None if released is None else released.isoformat(),
        "process": {"host": lease.process.host, "pid": lease.process.pid},
    }


def _plain(trial: TrialRecord) -> dict[str, Any]:
    # Not asdict, which copies: that takes as long as to read the trials.
    document = {name: getattr(trial, name) for name in _COLUMNS}
    for key in ("started_at", "finished_at"):
        document[key] = document[key].isoformat() if document[key] else None
    return document


def _attempt(charge: ChargeRecord) -> dict[str, Any]:
    return {
        "number": charge.trial_number,
        "attempt": charge.attempt,
        "reason": charge.reason,
        "charged_seconds": charge.charged_seconds,
    }
