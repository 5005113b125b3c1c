"""The list of every study in the store."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from critical.dashboards import units
from critical.dashboards.markup import Child, tag
from critical.dashboards.pages.document import Frame, document
from critical.dashboards.pages.tables import table
from critical.storage.agreement import SETTINGS_DISAGREE
from critical.storage.records import PosteriorSummary, StudySummary, as_held


def study_address(name: str) -> str:
    """Return where a study's page is served."""
    return f"/study/{quote(name, safe='')}"


def studies_page(summaries: Sequence[StudySummary], frame: Frame) -> str:
    """Return the page that lists the studies, the newest first."""
    if summaries:
        heads = ("study", "state", "γ*", "90% interval", "spent", "completed trials")
        newest = sorted(summaries, key=lambda summary: summary.study.created_at, reverse=True)
        content = table("Searches in this store", heads, [_row(summary) for summary in newest])
    else:
        content = tag(
            "p",
            "The store holds no search yet: start one with ",
            tag("code", "critical search --budget 10cpu-min"),
            ".",
            class_="pending",
        )
    return document("Critical: searches", frame, tag("main", tag("h1", "Searches"), content))


def _row(summary: StudySummary) -> list[Child]:
    study, latest = as_held(summary.study, summary.lease), summary.latest
    disagree = latest is not None and latest.verdict == SETTINGS_DISAGREE
    unit = units.device_time(study.budget_unit, summary.spent_seconds)
    return [
        tag("a", study.name, href=study_address(study.name)),
        tag("span", study.state, class_=f"state {study.state}"),
        units.gamma(latest.median if latest and not disagree else None),
        SETTINGS_DISAGREE if disagree else _interval(latest),
        unit.text(summary.spent_seconds),
        summary.counts.completed,
    ]


def _interval(latest: PosteriorSummary | None) -> str:
    return units.MISSING if latest is None else units.interval(latest.low, latest.high)
