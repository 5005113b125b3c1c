"""A coordinate check: activations and gradients against width, before the first step and at last.

What neither grows nor shrinks with width at one γ, a narrow proxy shows as a wide model has it
(the coordinate check of arXiv 2203.03466).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import plotly.graph_objects as go

from critical.dashboards.figures import style
from critical.dashboards.figures.arms import Arm, arm_of
from critical.dashboards.figures.recorded import Curves, recorded_arms, values_of
from critical.storage.records import TrialRecord

MAX_GROUPS = 5
"""Groups of about the same γ, a line each."""
_KINDS = (
    ("activation_initial", "before the first step"),
    ("activation_final", "at the end"),
    ("gradient_norm_initial", "before the first step"),
    ("gradient_norm_final", "at the end"),
)


@dataclass(frozen=True, slots=True)
class Spot:
    """One number of a trial at its γ and width."""

    gamma: float
    width: int
    value: float


def coordinates_figure(trials: Sequence[TrialRecord], curves: Curves) -> go.Figure | None:
    """Draw each number against width; None where fewer than two widths have recorded any."""
    arms = compared_arms(trials, curves)
    if len(arms) < 2:
        return None
    own = [trial for trial in trials if arm_of(trial) in arms]
    spots = {kind: _spots(own, curves, kind) for kind, _ in _KINDS}
    gammas = [spot.gamma for each in spots.values() for spot in each]
    extent = min(gammas), max(gammas)
    drawn = style.panels(
        2,
        2,
        height=520,
        shared_xaxes="all",
        shared_yaxes="rows",
        horizontal_spacing=0.03,
        vertical_spacing=0.06,
        column_titles=[when for _, when in _KINDS[:2]],
    )
    for place, (kind, _) in enumerate(_KINDS):
        for gamma, line in lines(spots[kind], extent).items():
            _draw(drawn, gamma, line, extent, row=1 + place // 2, col=1 + place % 2)
    _axes(drawn, sorted({width for width, _ in arms}))
    for row, kinds in enumerate((_KINDS[:2], _KINDS[2:]), start=1):
        style.log_values(drawn, [s.value for kind, _ in kinds for s in spots[kind]], row=row)
    style.gamma_bar(drawn, extent)
    drawn.update_layout(margin={"t": 80})
    return drawn


def compared_arms(trials: Sequence[TrialRecord], curves: Curves) -> list[Arm]:
    """Return the arms that have recorded any, of one of the settings: the narrowest's first."""
    arms = recorded_arms(trials, curves, *(kind for kind, _ in _KINDS))
    return [arm for arm in arms if arm[1] == arms[0][1]]


def lines(
    spots: Sequence[Spot], extent: tuple[float, float]
) -> Mapping[float, Mapping[int, float]]:
    """Return the median at each width of trials of about the same γ, where there are two widths.

    Args:
        spots: Numbers above 0.
        extent: The least and the greatest γ; divided into ``MAX_GROUPS`` equal parts.

    Returns:
        For the middle of each part its medians by width.
    """
    low, high = extent
    step = (high - low) / MAX_GROUPS or 1.0
    groups: dict[int, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for spot in spots:
        group = min(int((spot.gamma - low) / step), MAX_GROUPS - 1)
        groups[group][spot.width].append(spot.value)
    return {
        low + (group + 0.5) * step if high > low else low: {
            width: median(values) for width, values in sorted(by_width.items())
        }
        for group, by_width in sorted(groups.items())
        if len(by_width) > 1
    }


def _spots(trials: Sequence[TrialRecord], curves: Curves, kind: str) -> list[Spot]:
    """Return the last block's activation, or the norm of the whole gradient."""
    spots = []
    for trial in trials:
        for one in curves.get(trial.id, ()):
            values = values_of(one, kind)
            if values and min(values.values()) > 0:
                whole = kind.startswith("gradient")
                last = max(values, key=lambda part: (len(part), part))  # of the numbers of blocks
                value = math.hypot(*values.values()) if whole else values[last]
                spots.append(Spot(trial.gamma, trial.width, value))
    return spots


def _draw(
    drawn: go.Figure,
    gamma: float,
    line: Mapping[int, float],
    extent: tuple[float, float],
    **place: int,
) -> None:
    drawn.add_scatter(
        x=list(line),
        y=style.rounded(line.values(), digits=3),
        mode="lines+markers",
        line={"color": style.gamma_colour(gamma, extent), "width": 1.8},
        marker={"size": 6},
        hovertemplate=f"γ about {gamma:.2f}, width %{{x}}: %{{y:.3g}}<extra></extra>",
        showlegend=False,
        **place,
    )


def _axes(drawn: go.Figure, widths: Sequence[int]) -> None:
    names = [str(width) for width in widths]
    drawn.update_xaxes(type="log", tickvals=widths, ticktext=names, tickangle=0)
    drawn.update_xaxes(title_text="width", row=2)
    drawn.update_yaxes(title_text="activation, RMS", row=1, col=1)
    drawn.update_yaxes(title_text="gradient norm", row=2, col=1)
