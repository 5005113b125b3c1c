"""γ* against width: what was found at each scale and what that says of the target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from critical.dashboards import units
from critical.dashboards.figures import style
from critical.dashboards.figures.arms import exemplar, exploratory_labeller, scales_of
from critical.dashboards.figures.fan import fan
from critical.storage.records import (
    GammaStar,
    Holdout,
    PosteriorRecord,
    ScalePosterior,
    StudyRecord,
    TargetPosterior,
)

FAN_WIDTHS = 33


def gamma_star_figure(study: StudyRecord, posterior: PosteriorRecord | None) -> go.Figure:
    """Draw γ* of each scale, the extrapolation over width, and γ* at the target."""
    scales = scales_of(posterior)
    if posterior is None or not scales:
        return style.empty(
            "There is no posterior yet: γ* appears once a scale has a reference run and "
            "a few completed trials."
        )
    drawn = style.figure(height=460)
    if posterior.target is not None and posterior.intercept:
        _draw_fan(drawn, posterior, posterior.target, study.interval)
    _draw_scales(drawn, scales)
    if posterior.target is not None:
        place = "the widest scale" if study.target_width is None else "the target"
        same_width = _is_scale(posterior.target, scales)
        _draw_target(drawn, posterior.target, place, same_width=same_width)
    if posterior.holdout is not None:
        _draw_holdout(drawn, posterior.holdout)
    drawn.add_hline(
        y=study.reference_gamma,
        line={"color": style.MUTED, "width": 1.2, "dash": "dot"},
        name="reference γ",
        showlegend=True,
    )
    _width_axis(drawn, posterior, scales)
    drawn.update_yaxes(
        title_text="critical γ*",
        tickformat=".2f",
        range=style.padded([study.reference_gamma, *_ends(posterior)]),
    )
    return drawn


def _ends(posterior: PosteriorRecord) -> list[float]:
    """Return the ends of every interval that is drawn."""
    stars = [scale.gamma_star for scale in posterior.scales]
    ends: list[float] = []
    if posterior.target is not None:
        stars.append(posterior.target.gamma_star)
        ends += posterior.target.doubled
    if posterior.holdout is not None:
        stars.append(posterior.holdout.predicted)
    return ends + [end for star in stars for end in (star.low, star.high, *star.plateau)]


def _is_scale(target: TargetPosterior, scales: Sequence[ScalePosterior]) -> bool:
    return any(scale.width == target.width for scale in scales)


def _width_axis(
    drawn: go.Figure, posterior: PosteriorRecord, scales: Sequence[ScalePosterior]
) -> None:
    widths = {scale.width for scale in scales}
    if posterior.target is not None:
        widths.add(posterior.target.width)
    ticks = sorted(widths)
    drawn.update_xaxes(
        type="log",
        tickvals=ticks,
        ticktext=[str(width) for width in ticks],
        tickangle=0,
        range=[math.log10(ticks[0] / 1.45), math.log10(ticks[-1] * 1.45)],
        title_text="width (log scale)",
    )


def _draw_fan(
    drawn: go.Figure,
    posterior: PosteriorRecord,
    target: TargetPosterior,
    interval: tuple[float, float],
) -> None:
    first, last = min(s.width for s in posterior.scales), target.width
    widths = [first * (last / first) ** (i / (FAN_WIDTHS - 1)) for i in range(FAN_WIDTHS)]
    band = fan(posterior, widths, interval)
    drawn.add_trace(style.band_trace(widths, band, style.CURVE, name="extrapolation, 5–95%"))
    drawn.add_scatter(
        x=style.rounded(widths),
        y=style.rounded(band.median),
        mode="lines",
        line={"color": style.CURVE, "width": 1.6},
        name="extrapolation, median",
        hovertemplate="width %{x:.0f}: γ* %{y:.2f}<extra>extrapolation</extra>",
    )


def _draw_scales(drawn: go.Figure, scales: Sequence[ScalePosterior]) -> None:
    name = exploratory_labeller(scales)
    settings = sorted({scale.settings for scale in scales})
    told = set()
    for place, scale in enumerate(scales):
        arm = settings.index(scale.settings)
        kind = "γ* of a scale" if scale.learned else "γ* of an exploratory scale"
        if len(settings) > 1:
            kind = f"{kind}, {style.safe(scale.settings)}"
        estimate = _Estimate(
            x=scale.width * 1.07**arm,
            star=scale.gamma_star,
            symbol=style.SYMBOLS[arm % len(style.SYMBOLS)],
            colour=style.STAR if scale.learned else style.EXPLORATORY,
            name=kind,
            hover=f"{name(scale)}, {scale.trials} trials",
        )
        _draw_plateau(drawn, estimate, in_legend=place == exemplar(scales))
        _draw_interval(drawn, estimate, in_legend=kind not in told)
        told.add(kind)


def _draw_target(
    drawn: go.Figure, target: TargetPosterior, place: str, *, same_width: bool
) -> None:
    x = target.width * (1.14 if same_width else 1.0)
    low, high = target.doubled
    drawn.add_scatter(
        x=style.rounded([x, x]),
        y=style.rounded([low, high]),
        mode="lines+markers",
        line={"color": style.INK, "width": 1, "dash": "dot"},
        marker={"symbol": "line-ew", "size": 10, "line": {"width": 1, "color": style.INK}},
        name="90% with the slope's prior doubled",
        hovertemplate=f"with a doubled prior {units.interval(low, high)}<extra></extra>",
    )
    estimate = _Estimate(
        x=x,
        star=target.gamma_star,
        symbol="star",
        colour=style.INK,
        name=f"γ* at {place}" + (" (prior-dominated)" if target.prior_dominated else ""),
        hover=f"{place}, width {target.width}",
        size=19,
    )
    _draw_plateau(drawn, estimate, in_legend=False)
    _draw_interval(drawn, estimate, in_legend=True)


def _draw_holdout(drawn: go.Figure, holdout: Holdout) -> None:
    estimate = _Estimate(
        x=holdout.width / 1.12,
        star=holdout.predicted,
        symbol="diamond",
        colour="#009e73",
        name="held out: what the other scales predict",
        hover=f"predicted at width {holdout.width} without its trials",
    )
    _draw_interval(drawn, estimate, in_legend=True)


@dataclass(frozen=True, slots=True)
class _Estimate:
    """An estimate of γ* and how it is drawn."""

    x: float
    star: GammaStar
    symbol: str
    colour: str
    name: str
    hover: str
    size: int = 11


def _draw_plateau(drawn: go.Figure, estimate: _Estimate, *, in_legend: bool) -> None:
    drawn.add_scatter(
        x=style.rounded([estimate.x, estimate.x]),
        y=style.rounded(estimate.star.plateau),
        mode="lines",
        line={"color": style.tint(estimate.colour, 0.35), "width": 13},
        name="plateau",
        legendgroup="plateau",
        showlegend=in_legend,
        hoverinfo="skip",
    )


def _draw_interval(drawn: go.Figure, estimate: _Estimate, *, in_legend: bool) -> None:
    star = estimate.star
    drawn.add_scatter(
        x=style.rounded([estimate.x]),
        y=style.rounded([star.median]),
        error_y={
            "type": "data",
            "symmetric": False,
            "array": style.rounded([max(star.high - star.median, 0.0)]),
            "arrayminus": style.rounded([max(star.median - star.low, 0.0)]),
            "color": estimate.colour,
            "thickness": 2,
            "width": 5,
        },
        mode="markers",
        marker={"color": estimate.colour, "symbol": estimate.symbol, "size": estimate.size},
        name=estimate.name,
        legendgroup=estimate.name,
        showlegend=in_legend,
        hovertemplate=(
            f"<b>γ* {units.gamma(star.median)}</b>, {estimate.hover}<br>"
            f"90% interval {units.interval(star.low, star.high)}, {style.safe(star.verdict)}<br>"
            f"plateau {units.interval(*star.plateau)}<extra></extra>"
        ),
    )
