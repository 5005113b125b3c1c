"""R, log₂ ρ and share against γ at each scale, with what is not known about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import plotly.graph_objects as go

from critical.dashboards import units
from critical.dashboards.figures import style
from critical.dashboards.figures.arms import (
    Arm,
    arm_of,
    colours_of,
    exemplar,
    exploratory_labeller,
    scales_of,
    with_state,
)
from critical.storage.records import (
    Band,
    PosteriorRecord,
    ScalePosterior,
    TrialRecord,
    TrialState,
)

Shape: TypeAlias = dict[str, object]
"""A Plotly shape's properties."""

COLUMN_PIXELS = 230
"""What a column needs to be read; a page narrower than all of them scrolls the figure."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One quantity: its axis, its band, and what a trial says of it (nothing, for share)."""

    title: str
    hover: str

    def band(self, scale: ScalePosterior) -> Band:
        return {
            "R": scale.reasoning,
            "log₂ ρ": scale.log2_efficiency,
            "share": scale.share,
        }[self.hover]

    def observed(self, trial: TrialRecord) -> float | None:
        return {"R": trial.reasoning, "log₂ ρ": trial.log2_efficiency}.get(self.hover)


ROWS = (
    _Row("reasoning, R", "R"),
    _Row("efficiency, log₂ ρ", "log₂ ρ"),
    _Row("share of both", "share"),
)


def curves_figure(posterior: PosteriorRecord | None, trials: Sequence[TrialRecord]) -> go.Figure:
    """Draw the posterior curves as small multiples: quantities down, scales across."""
    scales = scales_of(posterior)
    if not scales:
        return style.empty(
            "There is no posterior yet: the curves appear once a scale has a reference run and "
            "a few completed trials."
        )
    name = exploratory_labeller(scales)
    drawn = style.panels(
        len(ROWS),
        len(scales),
        height=720,
        shared_xaxes="all",
        shared_yaxes="rows",
        horizontal_spacing=0.02 if len(scales) > 1 else 0.0,
        vertical_spacing=0.035,
        column_titles=[name(scale) for scale in scales],
    )
    completed = with_state(trials, TrialState.COMPLETED)
    colours = {
        arm_of(scale): colours_of(posterior)[scale.settings] if scale.learned else style.EXPLORATORY
        for scale in scales
    }
    for place, scale in enumerate(scales):
        own = [trial for trial in completed if arm_of(trial) == arm_of(scale)]
        _draw_column(drawn, place + 1, scale, own, in_legend=place == exemplar(scales))
        _tell_gamma_star(drawn, place + 1, scale, colours[arm_of(scale)])
    drawn.update_layout(margin={"t": 40}, hovermode="closest", shapes=_marks(scales, colours))
    for row, quantity in enumerate(ROWS, start=1):
        drawn.update_yaxes(range=_range(quantity, scales, completed), row=row)
        drawn.update_yaxes(title_text=quantity.title, row=row, col=1)
    drawn.update_xaxes(title_text="γ", row=len(ROWS))
    drawn.update_xaxes(range=_extent(scales))
    return drawn


def _extent(scales: Sequence[ScalePosterior]) -> tuple[float, float]:
    return (
        min(scale.gamma[0] for scale in scales) - 0.01,
        max(scale.gamma[-1] for scale in scales) + 0.01,
    )


def _range(
    quantity: _Row, scales: Sequence[ScalePosterior], trials: Sequence[TrialRecord]
) -> tuple[float, float]:
    """Return a range for a row: a band's far ends must not squeeze what is known."""
    if quantity.hover == "share":
        return 0.0, 1.03
    bands = [quantity.band(scale) for scale in scales]
    told = [value for trial in trials if (value := quantity.observed(trial)) is not None]
    centre = [value for band in bands for value in band.median] + told
    low, high = min(centre), max(centre)
    reach = 0.6 * max(high - low, 0.1)
    bottom = max(low - reach, min([low, *(value for band in bands for value in band.low)]))
    top = min(high + reach, max([high, *(value for band in bands for value in band.high)]))
    pad = 0.05 * (top - bottom)
    return (0.0 if quantity.hover == "R" else bottom - pad), top + pad


def _draw_column(
    drawn: go.Figure,
    column: int,
    scale: ScalePosterior,
    trials: Sequence[TrialRecord],
    *,
    in_legend: bool,
) -> None:
    colour = style.CURVE if scale.learned else style.EXPLORATORY
    for row, quantity in enumerate(ROWS, start=1):
        place = {"row": row, "col": column}
        band = quantity.band(scale)
        legend = in_legend and row == 1
        drawn.add_trace(
            style.band_trace(
                scale.gamma, band, colour, name="5–95%", legendgroup="band", showlegend=legend
            ),
            **place,
        )
        drawn.add_trace(_median(scale, band, colour, quantity.hover, legend=legend), **place)
        observed = [t for t in trials if quantity.observed(t) is not None]
        if observed:
            drawn.add_trace(_trials(observed, quantity, legend=legend), **place)


def _median(
    scale: ScalePosterior, band: Band, colour: str, hover: str, *, legend: bool
) -> go.Scatter:
    spread = [
        f"{median:.3f} ({low:.3f} to {high:.3f})"
        for low, median, high in zip(band.low, band.median, band.high, strict=True)
    ]
    return go.Scatter(
        x=style.rounded(scale.gamma),
        y=style.rounded(band.median),
        mode="lines",
        name="posterior median",
        line={"color": colour, "width": 2.2},
        text=spread,
        hovertemplate=f"γ %{{x:.2f}}: {hover} %{{text}}<extra>width {scale.width}</extra>",
        legendgroup="median",
        showlegend=legend,
    )


def _trials(trials: Sequence[TrialRecord], quantity: _Row, *, legend: bool) -> go.Scatter:
    return go.Scatter(
        x=style.rounded(trial.gamma for trial in trials),
        y=style.rounded(quantity.observed(trial) for trial in trials),
        mode="markers",
        name="completed trial",
        marker={"size": 6, "color": style.tint(style.INK, 0.55)},
        text=[f"trial {trial.number} ({trial.role}), seed {trial.seed}" for trial in trials],
        hovertemplate=f"%{{text}}<br>γ %{{x:.3f}}: {quantity.hover} %{{y:.3f}}<extra></extra>",
        legendgroup="trial",
        showlegend=legend,
    )


def _marks(scales: Sequence[ScalePosterior], colours: Mapping[Arm, str]) -> list[Shape]:
    """Return γ*, its interval and plateau, and the reference, over every panel.

    Plotly checks all shapes again with each that is added, so they are handed to it at once.
    """
    shown = exemplar(scales)
    return [
        mark
        for row in range(len(ROWS))
        for place, scale in enumerate(scales)
        for mark in _panel_marks(
            scale,
            row * len(scales) + place + 1,
            colours[arm_of(scale)],
            in_legend=place == shown and row == 0,
        )
    ]


def _panel_marks(scale: ScalePosterior, panel: int, colour: str, *, in_legend: bool) -> list[Shape]:
    star, reference = scale.gamma_star, scale.reference_gamma
    dotted = {"color": style.MUTED, "width": 1.2, "dash": "dot"}
    bare = {"width": 0}
    rect: Shape = {"type": "rect", "fillcolor": colour, "line": bare}
    line: Shape = {"type": "line", "y0": 0, "y1": 1}
    marks: list[Shape] = [
        {**rect, "x0": star.low, "x1": star.high, "y0": 0, "y1": 1, "opacity": 0.13,
         "layer": "below", "name": "90% interval of γ*"},
        {**line, "x0": star.median, "x1": star.median, "line": {"color": colour, "width": 2},
         "name": "γ*"},
        {**line, "x0": reference, "x1": reference, "line": dotted, "name": "reference γ"},
        {**rect, "x0": star.plateau[0], "x1": star.plateau[1], "y0": 0, "y1": 0.035,
         "opacity": 0.75, "name": "plateau"},
    ]  # fmt: skip
    number = "" if panel == 1 else str(panel)
    place = {"xref": f"x{number}", "yref": f"y{number} domain", "showlegend": in_legend}
    return [{**mark, **place} for mark in marks]


def _tell_gamma_star(drawn: go.Figure, column: int, scale: ScalePosterior, colour: str) -> None:
    star = scale.gamma_star
    drawn.add_annotation(
        text=f"<b>γ* {units.gamma(star.median)}</b> ({units.interval(star.low, star.high)})",
        x=0.5,
        y=0.08,
        xref="x domain",
        yref="y domain",
        showarrow=False,
        yanchor="bottom",
        font={"size": 12, "color": colour if scale.learned else style.MUTED},
        bgcolor="rgba(255,255,255,0.8)",
        row=len(ROWS),
        col=column,
    )
