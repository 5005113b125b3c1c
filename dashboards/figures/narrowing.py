"""How the interval of γ* narrowed as trials accrued, and what that cost."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from critical.dashboards import units
from critical.dashboards.figures import style
from critical.dashboards.figures.arms import told_apart
from critical.storage.agreement import SETTINGS_DISAGREE
from critical.storage.records import Band, PosteriorSummary, StudyRecord

VERDICT_SYMBOLS = {
    "resolved": "circle",
    "one-sided": "triangle-up-open",
    "no tradeoff": "x",
    SETTINGS_DISAGREE: "diamond-open",
}


def narrowing_figure(
    study: StudyRecord, steps: Sequence[PosteriorSummary], settings: str | None = None
) -> go.Figure:
    """Draw the median and 90% interval of γ* after each completed trial, over the spend.

    Args:
        study: The study.
        steps: Of its narrowing.
        settings: Whose γ* it is, where several were searched.
    """
    if not steps:
        return style.empty("No scale has learned yet, so there is no interval that could narrow.")
    drawn = style.panels(
        2, 1, height=480, shared_xaxes=True, row_heights=[0.72, 0.28], vertical_spacing=0.06
    )
    ordered = sorted(steps, key=lambda step: step.trials)
    _draw_interval(drawn, ordered)
    _draw_spend(drawn, study, ordered)
    drawn.add_hline(
        y=study.reference_gamma,
        line={"color": style.MUTED, "width": 1.2, "dash": "dot"},
        name="reference γ",
        showlegend=True,
        row=1,
        col=1,
    )
    place = "at the widest scale" if study.target_width is None else "at the target"
    under = "" if settings is None else told_apart(settings, several=True)
    ends = [end for step in ordered for end in (step.low, step.high)]
    drawn.update_yaxes(
        title_text=f"γ* {place}{under}",
        tickformat=".2f",
        range=style.padded([study.reference_gamma, *ends]),
        row=1,
    )
    drawn.update_xaxes(title_text="completed trials", row=2)
    return drawn


def _draw_interval(drawn: go.Figure, steps: Sequence[PosteriorSummary]) -> None:
    band = Band(
        low=tuple(step.low for step in steps),
        median=tuple(step.median for step in steps),
        high=tuple(step.high for step in steps),
    )
    counts = [step.trials for step in steps]
    drawn.add_trace(
        style.band_trace(counts, band, style.STAR, name="90% interval of γ*"), row=1, col=1
    )
    drawn.add_scatter(
        x=counts,
        y=style.rounded(band.median),
        mode="lines",
        line={"color": style.STAR, "width": 2},
        hoverinfo="skip",
        showlegend=False,
        row=1,
        col=1,
    )
    for verdict in dict.fromkeys(step.verdict for step in steps):
        _draw_verdict(drawn, verdict, [step for step in steps if step.verdict == verdict])


def _draw_verdict(drawn: go.Figure, verdict: str, steps: Sequence[PosteriorSummary]) -> None:
    drawn.add_scatter(
        x=[step.trials for step in steps],
        y=style.rounded(step.median for step in steps),
        mode="markers",
        marker={
            "symbol": VERDICT_SYMBOLS.get(verdict, "square-open"),
            "size": 8,
            "color": style.STAR,
        },
        name=f"γ*, {style.safe(verdict)}",
        text=[units.interval(step.low, step.high) for step in steps],
        hovertemplate="after %{x} trials: γ* %{y:.2f} (%{text})<extra></extra>",
        row=1,
        col=1,
    )


def _draw_spend(drawn: go.Figure, study: StudyRecord, steps: Sequence[PosteriorSummary]) -> None:
    largest = max(step.spent_seconds for step in steps)
    unit = units.device_time(study.budget_unit, largest)
    drawn.add_scatter(
        x=[step.trials for step in steps],
        y=style.rounded(unit.of(step.spent_seconds) for step in steps),
        mode="lines",
        line={"color": style.CURVE, "width": 2, "shape": "hv"},
        fill="tozeroy",
        fillcolor=style.tint(style.CURVE, 0.12),
        name="spent",
        hovertemplate=f"after %{{x}} trials: %{{y:.3g}} {unit.label}<extra></extra>",
        showlegend=False,
        row=2,
        col=1,
    )
    drawn.update_yaxes(title_text=f"spent, {unit.label}", rangemode="tozero", row=2)
    if study.budget_unit != units.TRIALS:
        line = {"color": style.INK, "width": 1.2, "dash": "dash"}
        budget = unit.of(study.budget_total)
        drawn.add_hline(y=budget, line=line, name="budget", showlegend=True, row=2, col=1)
