"""Recorded numbers against tokens, a line a trial, coloured by γ: small multiples of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from critical.dashboards.figures import style
from critical.dashboards.figures.recorded import Point
from critical.storage.records import TrialRecord

MAX_LINES = 24
"""In a panel; of more no single one could be followed."""


@dataclass(frozen=True, slots=True)
class Line:
    """One trial's numbers in one panel."""

    trial: TrialRecord
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity: its axis, how it is told, its scale, and its panels from left to right."""

    title: str
    hover: str
    panels: Sequence[Sequence[Line]]
    log: bool = False
    within: tuple[float, ...] = ()
    """Numbers that a linear axis shows whether any trial has them or not."""


def lines_figure(rows: Sequence[Row], columns: Sequence[str], row_pixels: int) -> go.Figure:
    """Draw the rows under the columns' titles; there is one line of one point at least."""
    drawn = style.panels(
        len(rows),
        len(columns),
        height=110 + row_pixels * len(rows),
        shared_xaxes="all",
        shared_yaxes="rows",
        horizontal_spacing=0.025 if len(columns) > 1 else 0.0,
        vertical_spacing=0.16 / len(rows),
        column_titles=list(columns),
    )
    lines = [line for row in rows for panel in row.panels for line in panel if line.points]
    gammas = [line.trial.gamma for line in lines]
    extent = min(gammas), max(gammas)
    for place, row in enumerate(rows, start=1):
        for column, panel in enumerate(row.panels, start=1):
            for line in panel:
                _draw(drawn, line, row.hover, extent, row=place, col=column)
        _axis(drawn, row, place)
    tokens = [float(point.tokens) for line in lines for point in line.points if point.tokens > 0]
    style.tokens_axis(drawn, min(tokens), max(tokens))
    drawn.update_xaxes(title_text="tokens seen", row=len(rows))
    style.gamma_bar(drawn, extent)
    drawn.update_layout(margin={"t": 80})
    return drawn


def _draw(
    drawn: go.Figure, line: Line, hover: str, extent: tuple[float, float], **place: int
) -> None:
    drawn.add_scatter(
        x=[point.tokens for point in line.points],
        y=style.rounded((point.value for point in line.points), digits=3),
        mode="lines+markers",
        line={"color": style.gamma_colour(line.trial.gamma, extent), "width": 1.4},
        marker={"size": 3},
        name=f"trial {line.trial.number}",
        hovertemplate=f"γ {line.trial.gamma:.3f}, %{{x:.3s}} tokens: {hover} %{{y:.3g}}",
        showlegend=False,
        **place,
    )


def _axis(drawn: go.Figure, row: Row, place: int) -> None:
    drawn.update_yaxes(title_text=row.title, row=place, col=1)
    values = [p.value for panel in row.panels for line in panel for p in line.points]
    if row.log:
        style.log_values(drawn, values, row=place)
    else:  # told, for Plotly finds none beside rows whose range is told
        drawn.update_yaxes(range=style.padded([*values, *row.within]), row=place)
