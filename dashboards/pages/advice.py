"""What the server offers beyond the report: a recommendation at a width, an export's fragment."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias
from urllib.parse import quote

from critical.dashboards import units
from critical.dashboards.documents import gamma_star_at, gamma_stars_at, value_at
from critical.dashboards.markup import Html, tag
from critical.dashboards.pages.document import Frame, document
from critical.dashboards.pages.tables import matrices_table
from critical.storage.agreement import SETTINGS_DISAGREE
from critical.storage.records import Document, GammaStar, StudyRecord

Recommend: TypeAlias = Callable[[str, int], Document]
"""From a study's name and a width to the JSON of ``critical recommend``."""

Export: TypeAlias = Callable[[str, str], str]
"""From a study's name and a framework to the fragment to write into its configuration."""


def recommend_form(study: StudyRecord) -> Html:
    """Return the form that asks for γ* at a width."""
    field = tag("input", name="width", type="number", min=1, required=True, id="width",
                value=study.target_width)  # fmt: skip
    return tag(
        "form",
        tag("label", "γ* at another width", for_="width"),
        field,
        tag("button", "Recommend"),
        action=f"/recommend/{quote(study.name, safe='')}",
    )


def export_form(study: StudyRecord) -> Html:
    """Return the form that asks for an export's fragment."""
    return tag(
        "form",
        tag("label", "Fragment for a framework", for_="to"),
        tag("input", name="to", required=True, id="to"),
        tag("button", "Export"),
        action=f"/export/{quote(study.name, safe='')}",
    )


def recommendation_page(name: str, width: int, advice: Document, frame: Frame) -> str:
    """Return a recommendation at a width."""
    heading = tag("h1", f"{name} at width {width}")
    content = tag("main", heading, _advised(advice), matrices_table(advice))
    return document(f"{name} at width {width}", frame, content)


def _advised(advice: Document) -> Html:
    """γ*, or that of each of the settings where they disagree."""
    if value_at(advice, "gamma", "verdict") == SETTINGS_DISAGREE:
        stars = gamma_stars_at(advice)
        lines = [
            tag("li", f"{settings}: γ* ", tag("b", units.gamma(own.median)), f", {_told(own)}.")
            for settings, own in stars.items()
        ]
        sentence = "The settings disagree on γ*, so there is no single one:"
        return tag("div", tag("p", sentence), tag("ul", *lines), class_="answer")
    star = gamma_star_at(advice)
    if star is None:
        return tag("p", "No γ* is known at this width yet.", class_="pending")
    return tag(
        "div",
        tag("p", "γ* ", tag("strong", units.gamma(star.median)), class_="star"),
        tag("p", f"{_told(star)}."),
        class_="answer headline",
    )


def _told(star: GammaStar) -> str:
    return (
        f"90% interval {units.interval(star.low, star.high)}, plateau "
        f"{units.interval(*star.plateau)}, {star.verdict}"
    )
