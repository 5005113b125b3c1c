"""γ* against width: what was found at each scale and what that says of the target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from critical.dashboards import units
from critical.dashboards.figures import style
from critical.dashboards.figures.arms import (
    colours_of,
    exemplar,
    exploratory_labeller,
    scales_of,
    told_apart,
)
from critical.dashboards.figures.fan import fan
from critical.storage.records import (
    GammaStar,
    Holdout,
    PosteriorRecord,
    ScalePosterior,
    SettingsPosterior,
    StudyRecord,
    TargetPosterior,
)

FAN_WIDTHS = 33
HELD_OUT = "#009e73"
ASIDE = 1.07
"""By what factor of the width the marks of each further settings stand aside."""


def gamma_star_figure(study: StudyRecord, posterior: PosteriorRecord | None) -> go.Figure:
    """Draw γ* of each scale, the extrapolation over width, and γ* at the target.

    Where several settings were searched each has its colour and symbol.
    """
    scales = scales_of(posterior)
    if posterior is None or not scales:
        return style.empty(
            "There is no posterior yet: γ* appears once a scale has a reference run and "
            "a few completed trials."
        )
    drawn = style.figure(height=460)
    looks = _looks(posterior)
    for own in posterior.answers:
        if own.target is not None and own.intercept:
            _draw_fan(drawn, posterior, own, own.target, looks[own.settings], study.interval)
    _draw_scales(drawn, scales, looks)
    for own in posterior.answers:
        if own.target is not None:
            place = "the widest scale" if study.target_width is None else "the target"
            same_width = _is_scale(own.target, scales)
            _draw_target(drawn, own.target, place, looks[own.settings], same_width=same_width)
        if own.holdout is not None:
            _draw_holdout(drawn, own.holdout, looks[own.settings])
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


@dataclass(frozen=True, slots=True)
class _Look:
    """How the marks of some settings differ from others'; nowhere if there are no others.

    Attributes:
        colour: Of their γ*.
        symbol: Of their scales.
        aside: The factor by which their marks stand aside of their width.
        told: How they end a legend's line.
        ink: Of γ* at the target.
        curve: Of the extrapolation.
        held_out: Of what the others predict.
    """

    colour: str = style.STAR
    symbol: str = style.SYMBOLS[0]
    aside: float = 1.0
    told: str = ""
    ink: str = style.INK
    curve: str = style.CURVE
    held_out: str = HELD_OUT


def _looks(posterior: PosteriorRecord) -> dict[str, _Look]:
    colours = colours_of(posterior)
    if len(colours) < 2:
        return dict.fromkeys(colours, _Look())
    return {
        name: _Look(
            colour=colour,
            symbol=style.SYMBOLS[place % len(style.SYMBOLS)],
            aside=ASIDE**place,
            told=told_apart(name, several=True),
            ink=colour,
            curve=colour,
            held_out=colour,
        )
        for place, (name, colour) in enumerate(colours.items())
    }


def _ends(posterior: PosteriorRecord) -> list[float]:
    """Return the ends of every interval that is drawn."""
    stars = [scale.gamma_star for scale in posterior.scales]
    ends: list[float] = []
    for own in posterior.answers:
        if own.target is not None:
            stars.append(own.target.gamma_star)
            ends += own.target.doubled
        if own.holdout is not None:
            stars.append(own.holdout.predicted)
    return ends + [end for star in stars for end in (star.low, star.high, *star.plateau)]


def _is_scale(target: TargetPosterior, scales: Sequence[ScalePosterior]) -> bool:
    return any(scale.width == target.width for scale in scales)


def _width_axis(
    drawn: go.Figure, posterior: PosteriorRecord, scales: Sequence[ScalePosterior]
) -> None:
    widths = {scale.width for scale in scales}
    widths |= {own.target.width for own in posterior.answers if own.target is not None}
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
    own: SettingsPosterior,
    target: TargetPosterior,
    look: _Look,
    interval: tuple[float, float],
) -> None:
    first, last = min(s.width for s in posterior.scales), target.width
    widths = [first * (last / first) ** (i / (FAN_WIDTHS - 1)) for i in range(FAN_WIDTHS)]
    band = fan(own, posterior.discrepancy_sd, widths, interval)
    drawn.add_trace(
        style.band_trace(widths, band, look.curve, name=f"extrapolation, 5–95%{look.told}")
    )
    drawn.add_scatter(
        x=style.rounded(widths),
        y=style.rounded(band.median),
        mode="lines",
        line={"color": look.curve, "width": 1.6},
        name="extrapolation, median",
        showlegend=False if look.told else None,
        hovertemplate=f"width %{{x:.0f}}: γ* %{{y:.2f}}<extra>extrapolation{look.told}</extra>",
    )


def _draw_scales(
    drawn: go.Figure, scales: Sequence[ScalePosterior], looks: Mapping[str, _Look]
) -> None:
    name = exploratory_labeller(scales)
    told = set()
    for place, scale in enumerate(scales):
        look = looks[scale.settings]
        kind = "γ* of a scale" if scale.learned else "γ* of an exploratory scale"
        kind += look.told
        estimate = _Estimate(
            x=scale.width * look.aside,
            star=scale.gamma_star,
            symbol=look.symbol,
            colour=look.colour if scale.learned else style.EXPLORATORY,
            name=kind,
            hover=f"{name(scale)}, {scale.trials} trials",
        )
        _draw_plateau(drawn, estimate, in_legend=place == exemplar(scales))
        _draw_interval(drawn, estimate, in_legend=kind not in told)
        told.add(kind)


def _draw_target(
    drawn: go.Figure, target: TargetPosterior, place: str, look: _Look, *, same_width: bool
) -> None:
    x = target.width * (1.14 if same_width else 1.0) * look.aside
    low, high = target.doubled
    drawn.add_scatter(
        x=style.rounded([x, x]),
        y=style.rounded([low, high]),
        mode="lines+markers",
        line={"color": look.ink, "width": 1, "dash": "dot"},
        marker={"symbol": "line-ew", "size": 10, "line": {"width": 1, "color": look.ink}},
        name=f"90% with the slope's prior doubled{look.told}",
        hovertemplate=f"with a doubled prior {units.interval(low, high)}<extra></extra>",
    )
    estimate = _Estimate(
        x=x,
        star=target.gamma_star,
        symbol="star",
        colour=look.ink,
        name=f"γ* at {place}{look.told}" + (" (prior-dominated)" if target.prior_dominated else ""),
        hover=f"{place}, width {target.width}{look.told}",
        size=19,
    )
    _draw_plateau(drawn, estimate, in_legend=False)
    _draw_interval(drawn, estimate, in_legend=True)


def _draw_holdout(drawn: go.Figure, holdout: Holdout, look: _Look) -> None:
    estimate = _Estimate(
        x=holdout.width / 1.12 / look.aside,
        star=holdout.predicted,
        symbol="diamond" if not look.told else "diamond-open",
        colour=look.held_out,
        name=f"held out: what the other scales predict{look.told}",
        hover=f"predicted at width {holdout.width} without its trials{look.told}",
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
