"""Loss against tokens of every trial, a panel for each scale, thinned to stay small."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from critical.dashboards.figures import style
from critical.dashboards.figures.arms import Arm, arm_of, arms_in, labeller
from critical.storage.records import OPEN, MeasurementRecord, TrialRecord, TrialState

Curves = Mapping[int, Sequence[MeasurementRecord]]
"""Measurements by trial id."""

MAX_TRIALS = 48
"""A panel with more lines than this is no clearer."""

MAX_POINTS = 40
COLUMN_PIXELS = 250


def thinned_trials(trials: Sequence[TrialRecord], most: int = MAX_TRIALS) -> list[TrialRecord]:
    """Return at most so many trials, spread evenly over γ."""
    ordered = sorted(trials, key=lambda trial: (trial.gamma, trial.number))
    return [ordered[i] for i in _spread(len(ordered), most)]


def drawn_trials(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the trials, at most ``MAX_TRIALS`` of each arm, whose curves are worth reading."""
    return [trial for arm in arms_in(trials) for trial in _of_arm(trials, arm)]


def thinned_curve(curve: Sequence[MeasurementRecord]) -> list[MeasurementRecord]:
    """Return at most ``MAX_POINTS`` measurements that a log–log plot can show, ends included."""
    shown = [m for m in curve if m.tokens > 0 and math.isfinite(m.loss) and m.loss > 0]
    return [shown[i] for i in _spread(len(shown), MAX_POINTS)]


def _spread(count: int, most: int) -> list[int]:
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def training_figure(trials: Sequence[TrialRecord], curves: Curves) -> go.Figure:
    """Draw the loss of the trials of each scale, coloured by γ."""
    measured = [trial for trial in trials if thinned_curve(curves.get(trial.id, ()))]
    if not measured:
        return style.empty("No trial has reported a measurement yet.")
    arms = arms_in(measured)
    label = labeller(arms)
    drawn = style.panels(
        1,
        len(arms),
        height=430,
        shared_yaxes=True,
        horizontal_spacing=0.025 if len(arms) > 1 else 0.0,
        column_titles=[label(arm) for arm in arms],
    )
    extent = min(t.gamma for t in measured), max(t.gamma for t in measured)
    for column, arm in enumerate(arms, start=1):
        _draw_arm(drawn, column, _of_arm(measured, arm), curves, extent)
    style.gamma_bar(drawn, extent)
    _explain_ends(drawn, measured)
    drawn.update_layout(margin={"t": 80})
    _log_axes(drawn, [point for t in measured for point in thinned_curve(curves[t.id])])
    return drawn


def _log_axes(drawn: go.Figure, points: Sequence[MeasurementRecord]) -> None:
    style.tokens_axis(drawn, *_span([float(point.tokens) for point in points]))
    losses = style.log_ticks(*_span([point.loss for point in points]), fine=1e3)
    drawn.update_xaxes(title_text="tokens seen")
    drawn.update_yaxes(type="log", tickvals=losses, ticktext=[f"{value:g}" for value in losses])
    drawn.update_yaxes(title_text="validation loss, nats per token", col=1)


def _span(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def _of_arm(trials: Sequence[TrialRecord], arm: Arm) -> list[TrialRecord]:
    return thinned_trials([trial for trial in trials if arm_of(trial) == arm])


def _draw_arm(
    drawn: go.Figure,
    column: int,
    trials: Sequence[TrialRecord],
    curves: Curves,
    extent: tuple[float, float],
) -> None:
    for trial in trials:
        points = thinned_curve(curves[trial.id])
        whole = trial.state in (TrialState.COMPLETED, *OPEN)
        drawn.add_scatter(
            x=[point.tokens for point in points],
            y=style.rounded((point.loss for point in points), digits=4),
            mode="lines",
            line={
                "color": style.gamma_colour(trial.gamma, extent),
                "width": 1.4,
                "dash": "solid" if whole else "dot",
            },
            name=f"trial {trial.number}",
            hovertemplate=(
                f"<b>γ {trial.gamma:.3f}</b>, trial {trial.number} ({trial.state})<br>"
                "%{x:.3s} tokens: loss %{y:.3f}<extra></extra>"
            ),
            showlegend=False,
            row=1,
            col=column,
        )


def _explain_ends(drawn: go.Figure, trials: Sequence[TrialRecord]) -> None:
    names = {
        TrialState.STOPPED: "stopped early",
        TrialState.DIVERGED: "diverged",
        TrialState.FAILED: "failed",
    }
    states = {trial.state for trial in trials}
    name = " or ".join(names[state] for state in names if state in states)
    if name:
        line = {"color": style.MUTED, "width": 1.4, "dash": "dot"}
        drawn.add_trace(style.legend_only(name, mode="lines", line=line), row=1, col=1)
