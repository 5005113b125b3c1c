"""Reasoning against efficiency: every trial, the front, and γ* with its plateau."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from critical.dashboards import units
from critical.dashboards.figures import style
from critical.dashboards.figures.arms import (
    Arm,
    arm_of,
    arms_in,
    colours_of,
    exploratory_labeller,
    labeller,
    scales_of,
    told_apart,
    with_state,
)
from critical.dashboards.figures.pareto import Point, median_point, pareto, plateau_path
from critical.storage.records import (
    PosteriorRecord,
    Role,
    ScalePosterior,
    TrialRecord,
    TrialState,
)

LABEL_PLACES = ("bottom left", "top left", "top right", "bottom right")
"""Of the stars' labels in turn: neighbouring scales have stars close together."""


def front_figure(trials: Sequence[TrialRecord], posterior: PosteriorRecord | None) -> go.Figure:
    """Draw each completed or diverged trial, the front of each scale, γ* and plateau."""
    completed = [t for t in with_state(trials, TrialState.COMPLETED) if _point(t) is not None]
    diverged = with_state(trials, TrialState.DIVERGED)
    scales = scales_of(posterior)
    if not completed and not diverged and not scales:
        return style.empty("No trial has finished yet: the front appears with the first.")
    drawn = style.figure(height=560)
    arms = arms_in(scales, completed, diverged)  # the scales stand in the settings' order
    for place, arm in enumerate(arms):
        _draw_arm(drawn, arm, [t for t in completed if arm_of(t) == arm], _symbol(place))
    drawn.add_vline(x=0, line={"color": style.MUTED, "width": 1, "dash": "dot"}, layer="below")
    _explain_arms(drawn, arms, scales)
    _draw_diverged(drawn, diverged, completed, scales)
    colours = colours_of(posterior)
    for place, scale in enumerate(scales):
        colour = colours[scale.settings] if scale.learned else style.EXPLORATORY
        _draw_star(drawn, scale, colour, LABEL_PLACES[place % len(LABEL_PLACES)])
    if scales:
        _explain_stars(drawn, scales, colours)
    drawn.update_layout(margin={"t": 56})
    drawn.update_xaxes(title_text="efficiency, log₂ ρ (octaves; 0 is the reference)")
    top = max([trial.reasoning or 0.0 for trial in completed] + _highest(scales) + [0.1])
    drawn.update_yaxes(title_text="reasoning, R", range=[-0.035 * top, 1.08 * top])
    return drawn


def _highest(scales: Sequence[ScalePosterior]) -> list[float]:
    return [max(y for _, y in plateau_path(scale)) for scale in scales]


def _symbol(place: int) -> str:
    return style.SYMBOLS[place % len(style.SYMBOLS)]


def _point(trial: TrialRecord) -> Point | None:
    if trial.reasoning is None or trial.log2_efficiency is None:
        return None
    if None in style.rounded((trial.log2_efficiency, trial.reasoning)):
        return None
    return trial.log2_efficiency, trial.reasoning


def _draw_arm(drawn: go.Figure, arm: Arm, trials: Sequence[TrialRecord], symbol: str) -> None:
    if not trials:
        return
    points = [point for point in map(_point, trials) if point is not None]
    front = pareto(points)
    group = f"arm {arm}"
    drawn.add_scatter(
        x=style.rounded(x for x, _ in front),
        y=style.rounded(y for _, y in front),
        mode="lines",
        line={"color": "#a3adb8", "width": 1.3, "shape": "vh"},
        legendgroup=group,
        showlegend=False,
        hoverinfo="skip",
    )
    outlines = [2.2 if trial.role is Role.REFERENCE else 0.6 for trial in trials]
    drawn.add_scatter(
        x=style.rounded(x for x, _ in points),
        y=style.rounded(y for _, y in points),
        mode="markers",
        marker={
            "symbol": symbol,
            "size": 10,
            "opacity": 0.9,
            "color": style.rounded(trial.gamma for trial in trials),
            "coloraxis": "coloraxis",
            "line": {"width": outlines, "color": style.INK},
        },
        text=[_hover(trial) for trial in trials],
        hovertemplate="%{text}<extra></extra>",
        legendgroup=group,
        showlegend=False,
    )


def _hover(trial: TrialRecord) -> str:
    rate = "" if trial.learning_rate is None else f", learning rate {trial.learning_rate:g}"
    reasoning = units.MISSING if trial.reasoning is None else f"{trial.reasoning:.3f}"
    return (
        f"<b>γ {trial.gamma:.3f}</b>, width {trial.width}<br>"
        f"R {reasoning}, ρ {units.factor(trial.log2_efficiency)}<br>"
        f"trial {trial.number} ({trial.role}), seed {trial.seed}{rate}"
    )


def _explain_arms(drawn: go.Figure, arms: Sequence[Arm], scales: Sequence[ScalePosterior]) -> None:
    label = labeller(arms)
    known = dict(zip(map(arm_of, scales), map(exploratory_labeller(scales), scales), strict=True))
    for place, arm in enumerate(arms):
        marker = {"symbol": _symbol(place), "size": 10, "color": style.EXPLORATORY}
        name = label(arm) + (" (exploratory)" if "exploratory" in known.get(arm, "") else "")
        drawn.add_trace(
            style.legend_only(name, mode="markers", marker=marker, legendgroup=f"arm {arm}")
        )
    outlined = {"size": 10, "color": "#ffffff", "line": {"width": 2.2, "color": style.INK}}
    drawn.add_trace(style.legend_only("reference", mode="markers", marker=outlined))
    line = {"color": "#a3adb8", "width": 1.3}
    drawn.add_trace(style.legend_only("front of its scale", mode="lines", line=line))


def _draw_diverged(
    drawn: go.Figure,
    diverged: Sequence[TrialRecord],
    completed: Sequence[TrialRecord],
    scales: Sequence[ScalePosterior],
) -> None:
    """Set what diverged apart: at its stored floor of −6 it would squeeze all else together."""
    if not diverged:
        return
    points = [point for point in map(_point, completed) if point is not None]
    nearest = min([x for x, _ in points] + [median_point(s, s.gamma[0])[0] for s in scales] + [0.0])
    floor = nearest - 0.6
    drawn.add_vrect(
        x0=floor - 0.2,
        x1=floor + 0.2,
        fillcolor=style.GRID,
        opacity=0.6,
        line_width=0,
        layer="below",
        annotation={"text": "diverged", "textangle": -90, "font": {"color": style.MUTED}},
        annotation_position="top left",
    )
    drawn.add_scatter(
        x=[floor] * len(diverged),
        y=[0.0] * len(diverged),
        mode="markers",
        legendgroup="diverged",
        showlegend=False,
        marker={
            "symbol": "x",
            "size": 9,
            "color": style.rounded(trial.gamma for trial in diverged),
            "coloraxis": "coloraxis",
        },
        text=[_hover(trial) for trial in diverged],
        hovertemplate="%{text}<br>diverged: drawn apart, not to scale<extra></extra>",
    )
    cross = {"symbol": "x", "size": 9, "color": style.EXPLORATORY}
    drawn.add_trace(
        style.legend_only(
            "diverged (set apart)", mode="markers", marker=cross, legendgroup="diverged"
        )
    )


def _draw_star(drawn: go.Figure, scale: ScalePosterior, colour: str, label_place: str) -> None:
    path = plateau_path(scale)
    drawn.add_scatter(
        x=style.rounded(x for x, _ in path),
        y=style.rounded(y for _, y in path),
        mode="lines",
        line={"color": style.tint(colour, 0.5), "width": 9},
        hoverinfo="skip",
        legendgroup="plateau",
        showlegend=False,
    )
    star = scale.gamma_star
    x, y = median_point(scale, star.median)
    drawn.add_scatter(
        x=style.rounded([x]),
        y=style.rounded([y]),
        mode="markers+text",
        text=[f"<b>{scale.width}</b>"],
        textposition=label_place,
        textfont={"color": style.INK, "size": 12},
        marker={
            "symbol": "star",
            "size": 20,
            "color": colour,
            "line": {"width": 1.5, "color": "#ffffff"},
        },
        hovertemplate=(
            f"<b>γ* {units.gamma(star.median)}</b> at width {scale.width}<br>"
            f"90% interval {units.interval(star.low, star.high)}<br>"
            f"plateau {units.interval(*star.plateau)}<extra></extra>"
        ),
        legendgroup="star",
        showlegend=False,
    )


def _explain_stars(
    drawn: go.Figure, scales: Sequence[ScalePosterior], colours: Mapping[str, str]
) -> None:
    """Explain the stars that there are: those of exploratory scales have one colour."""
    learned = {scale.settings for scale in scales if scale.learned}
    stars = {
        "γ* of a scale" + told_apart(settings, several=len(colours) > 1): colour
        for settings, colour in colours.items()
        if settings in learned
    }
    if not all(scale.learned for scale in scales):
        stars["γ* of an exploratory scale"] = style.EXPLORATORY
    for name, colour in stars.items():
        star = {"symbol": "star", "size": 15, "color": colour}
        drawn.add_trace(style.legend_only(name, mode="markers", marker=star, legendgroup="star"))
    line = {"color": style.tint(next(iter(stars.values())), 0.5), "width": 9}
    drawn.add_trace(
        style.legend_only("its plateau", mode="lines", line=line, legendgroup="plateau")
    )
