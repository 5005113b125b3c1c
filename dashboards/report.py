"""One search as one self-contained HTML file, or as a page of the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import plotly.graph_objects as go

from critical.dashboards.data import ReportData, gather
from critical.dashboards.figures import curves, gains, training
from critical.dashboards.figures.arms import arms_in, settings_of
from critical.dashboards.figures.coordinates import compared_arms, coordinates_figure
from critical.dashboards.figures.curves import curves_figure
from critical.dashboards.figures.development import (
    developed_arm,
    development_figure,
    saturation_figure,
)
from critical.dashboards.figures.front import front_figure
from critical.dashboards.figures.gains import gains_figure
from critical.dashboards.figures.gamma_star import gamma_star_figure
from critical.dashboards.figures.ledger import ledger_figure
from critical.dashboards.figures.narrowing import narrowing_figure
from critical.dashboards.figures.training import training_figure
from critical.dashboards.markup import Html, tag
from critical.dashboards.pages import captions
from critical.dashboards.pages.document import STANDALONE, Frame, data_block, document
from critical.dashboards.pages.headline import header, headline_of
from critical.dashboards.pages.tables import (
    matrices_table,
    options_table,
    plan_notes,
    scales_table,
)

__all__ = ["ReportData", "gather", "render"]


@dataclass(frozen=True, slots=True)
class Plate:
    """A figure as it stands on the page."""

    name: str
    title: str
    caption: str
    """One sentence that teaches how to read it."""
    figure: go.Figure
    least_pixels: int = 0
    """Below this width the figure scrolls rather than shrinks."""


def render(data: ReportData, frame: Frame = STANDALONE, *forms: Html) -> str:
    """Return a study's page.

    Args:
        data: The study; see `gather`.
        frame: What surrounds it. By default nothing does, and the page makes no request.
        forms: What the server offers below the tables.
    """
    recommended = data.recommendation.document if data.recommendation else None
    stamp = f"Drawn {datetime.now(UTC):%Y-%m-%d %H:%M} UTC from what the search has stored."
    content = tag(
        "main",
        header(data),
        tag("section", tag("h2", "Where γ* lies"), *_plates(_answer_plates(data))),
        tag("section", tag("h2", "Scale by scale"), scales_table(data.posterior)),
        tag("section", tag("h2", "How the search went"), *_plates(_search_plates(data))),
        _recorded(data),
        _matrices(matrices_table(recommended)),
        *forms,
        tag(
            "section",
            tag("h2", "How it was asked"),
            options_table(data.study),
            plan_notes(data.study),
        ),
        tag("footer", tag("p", stamp)),
    )
    return document(_title(data), frame, _fresh(frame), content, figures=True)


def _title(data: ReportData) -> str:
    found = headline_of(data)
    star = "" if found is None else f"γ* {found.star.median:.2f} – "
    return f"{star}{data.study.name} – Critical"


def _fresh(frame: Frame) -> Html:
    if frame.version is None:
        return Html("")
    link = tag("a", "show them", href="")
    return tag("p", "There are new results: ", link, id="fresh", role="status", hidden=True)


def _matrices(table: Html | None) -> Html | None:
    return None if table is None else tag("section", tag("h2", "What to write"), table)


def _answer_plates(data: ReportData) -> list[Plate]:
    scales = 0 if data.posterior is None else len(data.posterior.scales)
    return [
        Plate(
            "gamma-star",
            "γ* against width",
            captions.gamma_star(data),
            gamma_star_figure(data.study, data.posterior),
        ),
        Plate(
            "curves",
            "Reasoning, efficiency and share against γ",
            "γ* is where the share, the lesser of what is kept of the best R and of the best ρ, is "
            "greatest; shaded bands hold 90% of the posterior, and the bar at the foot is the "
            "plateau, where the share is expected within 0.02 of the best.",
            curves_figure(data.posterior, data.trials),
            least_pixels=60 + curves.COLUMN_PIXELS * scales if scales > 1 else 0,
        ),
        Plate(
            "front",
            "What is traded: reasoning against efficiency",
            "Up is better reasoning and right is faster training than the reference; nothing tried "
            "at a scale lies beyond its line, and trials that were stopped early are left out.",
            front_figure(data.trials, data.posterior),
        ),
    ]


def _search_plates(data: ReportData) -> list[Plate]:
    panels = len(arms_in(t for t in data.trials if t.id in data.curves))
    return [
        Plate(
            "narrowing",
            "How the interval narrowed",
            captions.narrowing(data),
            narrowing_figure(data.study, data.narrowing, _first_of_several(data)),
        ),
        Plate(
            "ledger",
            "What it cost",
            captions.ledger(data),
            ledger_figure(data.study, data.ledger, data.charges),
        ),
        Plate(
            "training",
            "Every run",
            "Validation loss as tokens are seen, coloured by γ: the further left a line falls, the "
            "more efficient its γ; a line that ends early was stopped or interrupted, has diverged "
            "or failed, or is still running.",
            training_figure(data.trials, data.curves),
            least_pixels=60 + training.COLUMN_PIXELS * panels if panels > 1 else 0,
        ),
    ]


def _recorded(data: ReportData) -> Html | None:
    plates = _recorded_plates(data)
    return tag("section", tag("h2", "Inside the runs"), *_plates(plates)) if plates else None


def _recorded_plates(data: ReportData) -> list[Plate]:
    """Return what can be drawn of what trials recorded: a user's own may have none of it."""
    scales = len(arms_in(data.trials))
    developed = developed_arm(data.trials, data.curves)
    compared = compared_arms(data.trials, data.curves)
    figures = (
        (
            "gains",
            "What each kind of item gains",
            "Final loss on each kind of item less that of the reference run of the same seed, in "
            "nats per token: points below the dotted line have learned it better than the "
            "reference did, and the line joins medians of neighbouring γ.",
            gains_figure(data.trials, data.last, data.posterior),
            60 + gains.COLUMN_PIXELS * scales if scales > 1 else 0,
        ),
        (
            "development",
            "How the weights develop",
            "" if developed is None else captions.development(data, developed),
            development_figure(data.trials, data.curves),
            620,
        ),
        (
            "saturation",
            "Norms and attention sinks",
            "Above, the norm that its ε restrains most: under the dotted 0.95 it no longer "
            "normalizes; below, the greatest share of attention that any block pays to the first "
            "token.",
            saturation_figure(data.trials, data.curves),
            0,
        ),
        (
            "coordinates",
            "Coordinate check",
            captions.coordinates(data, compared[0][1]) if compared else "",
            coordinates_figure(data.trials, data.curves),
            0,
        ),
    )
    return [
        Plate(name, title, caption, figure, least_pixels)
        for name, title, caption, figure, least_pixels in figures
        if figure is not None
    ]


def _first_of_several(data: ReportData) -> str | None:
    """Name the settings that the search's steps are of, where there are others."""
    names = settings_of(data.posterior)
    return names[0] if len(names) > 1 else None


def _plates(plates: Sequence[Plate]) -> list[Html]:
    return [_plate(plate) for plate in plates]


def _plate(plate: Plate) -> Html:
    source = f"figure-{plate.name}-data"
    size = f"min-width:{plate.least_pixels}px;min-height:{plate.figure.layout.height}px"
    plot = tag(
        "div",
        role="img",
        class_="plot",
        id=f"figure-{plate.name}",
        style=size,
        aria_label=f"{plate.title}. {plate.caption}",
        data_source=source,
    )
    return tag(
        "figure",
        tag("h3", plate.title),
        tag("figcaption", plate.caption),
        tag("div", plot, class_="scroll", tabindex=0),
        tag("noscript", tag("p", "This figure needs JavaScript; the tables do not.")),
        data_block(source, plate.figure.to_json()),
    )
