"""What every figure shares: colours, template, and the few shapes that recur.

The categorical colours are Okabe and Ito's, γ is coloured with Viridis: both can be told apart
with any colour vision. γ* is vermilion, but of the further settings that are searched beside; a
posterior curve is blue, an exploratory scale grey.
"""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale, sequential
from plotly.subplots import make_subplots

from critical.storage.records import Band

INK = "#1f2933"
MUTED = "#5b6774"
GRID = "#e7eaee"
CURVE = "#0072b2"
STAR = "#d55e00"
EXPLORATORY = "#9aa5b1"
SETTINGS = (STAR, "#009e73", "#cc79a7", "#56b4e9")
"""γ* of each of several settings; the first is the headline's."""
PURPOSES = {
    "timing": "#9aa5b1",
    "reference": "#56b4e9",
    "search": "#0072b2",
    "confirmation": "#009e73",
}
OTHER_PURPOSE = "#cc79a7"
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "hexagon", "star-triangle-down")
FONT = "Inter, 'Segoe UI', system-ui, -apple-system, 'Helvetica Neue', 'Noto Sans', sans-serif"

# Viridis without its last yellow, which white paper swallows.
GAMMA_SCALE = sample_colorscale(sequential.Viridis, [0.94 * step / 11 for step in range(12)])


def _template() -> go.layout.Template:
    axis = {
        "gridcolor": GRID,
        "linecolor": "#b8c0c9",
        "showline": True,
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": "#b8c0c9",
        "zeroline": False,
        "automargin": True,
        "title": {"standoff": 8, "font": {"size": 13, "color": INK}},
    }
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 12, "color": MUTED},
            "paper_bgcolor": "#ffffff",
            "plot_bgcolor": "#ffffff",
            "xaxis": axis,
            "yaxis": axis,
            "margin": {"l": 56, "r": 16, "t": 24, "b": 48},
            "hoverlabel": {"bgcolor": "#ffffff", "font": {"family": FONT, "color": INK}},
            "legend": {
                "orientation": "h",
                "yref": "container",
                "y": 0.0,
                "yanchor": "bottom",
                "x": 0.0,
                "xanchor": "left",
                "font": {"size": 12, "color": INK},
                "itemsizing": "trace",
                "maxheight": 0.8,
                "bgcolor": "rgba(255,255,255,0)",
            },
            "coloraxis": {"colorscale": GAMMA_SCALE, "colorbar": _GAMMA_BAR},
        }
    )


_GAMMA_BAR: dict[str, Any] = {
    "orientation": "h",
    "x": 0.0,
    "xanchor": "left",
    "yref": "container",
    "y": 1.0,
    "yanchor": "top",
    "ypad": 4,
    "len": 0.6,
    "thickness": 10,
    "outlinewidth": 0,
    "nticks": 6,
    "tickformat": ".2f",
    # A title beside a horizontal bar overlaps it: the first tick says what is coloured.
    "tickprefix": "γ ",
    "showtickprefix": "first",
}

TEMPLATE = _template()


def figure(height: int) -> go.Figure:
    """Return an empty figure of one panel in the house style."""
    return go.Figure(layout={"template": TEMPLATE, "height": height})


def panels(rows: int, columns: int, height: int, **options: object) -> go.Figure:
    """Return an empty grid of panels in the house style."""
    drawn = make_subplots(rows=rows, cols=columns, **options)
    drawn.update_annotations(font={"size": 13, "color": INK})
    drawn.update_layout(template=TEMPLATE, height=height)
    return drawn


def empty(reason: str) -> go.Figure:
    """Return a figure that says in one sentence why there is nothing to draw."""
    drawn = figure(height=140)
    drawn.update_layout(margin={"l": 8, "r": 8, "t": 8, "b": 8})
    drawn.update_xaxes(visible=False)
    drawn.update_yaxes(visible=False)
    drawn.add_annotation(
        text="<br>".join(textwrap.wrap(reason, 46)),
        showarrow=False,
        x=0.5,
        y=0.5,
        xref="paper",
        yref="paper",
        font={"size": 14, "color": MUTED},
    )
    return drawn


def rounded(values: Iterable[float | None], digits: int = 5) -> list[float | None]:
    """Return numbers fit for a page: few digits, and a gap where there is no finite number."""
    return [
        None if value is None or not math.isfinite(value) else float(f"{value:.{digits}g}")
        for value in values
    ]


def safe(text: object) -> str:
    """Escape text that a user chose: Plotly reads tags and links in what it draws."""
    return html.escape(str(text), quote=False)


def padded(values: Iterable[float]) -> tuple[float, float]:
    """Return a range with room at both ends: Plotly leaves none around a line across a panel."""
    known = [value for value in values if math.isfinite(value)]
    low, high = min(known), max(known)
    room = max(0.06 * (high - low), 0.01)
    return low - room, high + room


def log_ticks(low: float, high: float, *, fine: float) -> list[float]:
    """Return round numbers for a log axis: 1, 2 and 5 up to a ratio, then powers of ten."""
    steps = (1.0,) if high / low > fine else (1.0, 2.0, 5.0)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**power for power in powers for step in steps]
    return [float(f"{tick:.6g}") for tick in ticks if low / 1.3 <= tick <= high * 1.3]


def counted(tokens: float) -> str:
    """Write a count of tokens as in ``200k`` or ``5M``."""
    for size, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if tokens >= size:
            return f"{tokens / size:g}{suffix}"
    return f"{tokens:g}"


def tokens_axis(drawn: go.Figure, low: float, high: float, **place: object) -> None:
    """Let x be tokens seen, from ``low`` to ``high``, on a log axis."""
    ticks = log_ticks(low, high, fine=20)
    names = [counted(tick) for tick in ticks]
    drawn.update_xaxes(type="log", tickvals=ticks, ticktext=names, tickangle=0, **place)


def log_values(drawn: go.Figure, values: Sequence[float], **place: object) -> None:
    """Let y be these values, all above 0, on a log axis."""
    low, high = min(values), max(values)
    ticks = log_ticks(low, high, fine=100)
    names = [f"{tick:g}" for tick in ticks]
    room = max(0.06 * math.log10(high / low), 0.03)
    span = math.log10(low) - room, math.log10(high) + room
    drawn.update_yaxes(type="log", tickvals=ticks, ticktext=names, range=span, **place)


def gamma_bar(drawn: go.Figure, extent: tuple[float, float]) -> None:
    """Bring in the colour bar of γ where lines are coloured: they have none of their own."""
    drawn.update_layout(coloraxis={"cmin": extent[0], "cmax": extent[1]})
    marker = {"color": [extent[0]], "coloraxis": "coloraxis", "showscale": True}
    bar = legend_only("γ", mode="markers", marker=marker, showlegend=False)
    drawn.add_trace(bar, row=1, col=1)


def tint(colour: str, opacity: float) -> str:
    """Return a ``#rrggbb`` colour as translucent ``rgba``."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def gamma_colour(value: float, extent: tuple[float, float]) -> str:
    """Return the colour of a γ on the shared scale."""
    low, high = extent
    place = 0.5 if high <= low else min(max((value - low) / (high - low), 0.0), 1.0)
    return str(sample_colorscale(GAMMA_SCALE, [place])[0])


def band_trace(x: Sequence[float], band: Band, colour: str, **options: object) -> go.Scatter:
    """Return the area between a band's 5% and 95% points as one closed outline."""
    return go.Scatter(
        x=rounded([*x, *reversed(x)]),
        y=rounded([*band.high, *reversed(band.low)]),
        fill="toself",
        fillcolor=tint(colour, 0.18),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        **options,
    )


def legend_only(name: str, **options: object) -> go.Scatter:
    """Return a trace that draws nothing and explains a mark in the legend."""
    return go.Scatter(x=[None], y=[None], name=name, hoverinfo="skip", **options)
