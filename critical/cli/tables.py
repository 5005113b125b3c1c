"""Rich tables of plans, studies and trials, from records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from critical.budget import Budget, format_amount
from critical.environment import aspects
from critical.plan import Plan, expected_trials
from critical.storage.agreement import SETTINGS_DISAGREE
from critical.storage.records import (
    ORPHANED,
    LeaseRecord,
    LedgerRecord,
    PosteriorSummary,
    StudyRecord,
    StudySummary,
    TrialRecord,
)

_VERSIONS = ("python", "torch", "ray", "optuna")


def plan_view(
    plan: Plan, name: str, budget: Budget, known: Mapping[str, int] | None = None
) -> list[RenderableType]:
    """Show the scales of a plan, and below them what else it decides.

    Args:
        plan: To be shown.
        name: Of the study.
        budget: Of the study.
        known: How many trials each arm will have, where that is known, as of a repeat.
    """
    table = Table(title=f"Plan of {name}, {budget}", title_justify="left")
    expected = expected_trials(plan, budget) if known is None else known
    trials = "trials, about" if known is None else "trials"
    several = len(plan.settings) > 1
    for column in columns_with_settings(
        ("width", "depth", "heads", "tokens", "s a trial", trials), several=several
    ):
        table.add_column(column, justify="right")
    for arm in plan.arms:
        cost = "?" if arm.trial_cost is None else f"{arm.trial_cost:.1f}"
        scale = arm.scale
        table.add_row(
            str(scale.width),
            *([arm.settings] if several else []),
            str(scale.depth),
            str(scale.heads),
            f"{scale.tokens:,}",
            cost,
            str(expected.get(arm.name) or "?"),
        )
    rates = ", ".join(f"{rate:g}" for rate in plan.ladder) or "the trial's own"
    where = "in this process" if plan.workers == 0 else f"{plan.workers} at once on {plan.device}"
    rest = (
        f"reference γ {plan.reference_gamma:.3f}; learning rates {rates}; "
        f"seeds {', '.join(map(str, plan.seeds))}; {plan.pairs} confirmation pairs"
        f"{' under each settings' if several else ''}; {where}"
        f"{', training steps compiled' if plan.compiled else ''}"
    )
    return [table, Text(rest), *(Text(f"• {note}") for note in plan.notes)]


def columns_with_settings(columns: Sequence[str], *, several: bool) -> list[str]:
    """Put a column of settings after that of the widths, where there are several."""
    if not several:
        return list(columns)
    after = columns.index("width") + 1
    return [*columns[:after], "settings", *columns[after:]]


def studies_table(studies: Sequence[StudySummary]) -> Table:
    """One line a study."""
    table = Table()
    for column in ("study", "state", "spent", "budget", "trials", "γ*", "90%", "verdict"):
        table.add_column(column)
    for one in studies:
        study, counts, latest = one.study, one.counts, one.latest
        unit = study.budget_unit
        spent = counts.spent if unit == "trials" else one.spent_seconds
        table.add_row(
            study.name,
            _state(study),
            format_amount(float(spent), unit),
            format_amount(study.budget_total, unit),
            str(counts.completed),
            *_gamma_star(latest),
        )
    return table


def trials_table(trials: Sequence[TrialRecord]) -> Table:
    """One line a trial."""
    table = Table()
    several = len({trial.settings for trial in trials}) > 1
    for column in columns_with_settings(
        ("#", "role", "width", "γ", "lr", "seed", "state", "R", "log₂ ρ", "s"), several=several
    ):
        table.add_column(column, justify="right")
    for trial in trials:
        table.add_row(
            str(trial.number),
            trial.role.value,
            str(trial.width),
            *([trial.settings] if several else []),
            f"{trial.gamma:.3f}",
            _number(trial.learning_rate, "g"),
            str(trial.seed),
            trial.state.value,
            _number(trial.reasoning, ".3f"),
            _number(trial.log2_efficiency, "+.2f"),
            _number(trial.device_seconds, ".1f"),
        )
    return table


def ledger_line(ledger: LedgerRecord) -> str:
    """Say in a line what was spent on what."""
    parts = ", ".join(
        f"{purpose} {seconds:.0f} s" for purpose, seconds in ledger.by_purpose.items()
    )
    return (
        f"spent {ledger.spent_seconds:.0f} device-seconds in {ledger.charges} charges ({parts}); "
        f"{ledger.held_seconds:.0f} held"
    )


def environment_lines(leases: Sequence[LeaseRecord]) -> list[str]:
    """Say under what the last driver ran, and how many there have been."""
    if not leases or not leases[-1].environment:
        return []
    last = leases[-1]
    found = aspects(last.environment)
    versions = [f"{name} {found[name]}" for name in _VERSIONS if name in found]
    drivers = f", the last of {len(leases)} drivers" if len(leases) > 1 else ""
    device = found.get("devices", "an unknown device")
    commit = found.get("commit", "none")
    where = "in no git repository" if commit == "none" else f"at commit {commit}"
    return [
        f"ran with {', '.join(versions)}, {where}",
        f"on {device}, host {last.process.host}{drivers}",
    ]


def _gamma_star(latest: PosteriorSummary | None) -> tuple[str, str, str]:
    """γ*, interval and verdict; where settings disagree there is no single γ* to show."""
    if latest is None:
        return "–", "–", "–"
    if latest.verdict == SETTINGS_DISAGREE:
        return "–", "–", latest.verdict
    return f"{latest.median:.3f}", f"{latest.low:.2f}–{latest.high:.2f}", latest.verdict


def _state(study: StudyRecord) -> str:
    # Of other reasons, which may be long, show tells.
    return study.state.value + (f": {ORPHANED}" if study.reason == ORPHANED else "")


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
