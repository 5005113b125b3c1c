"""How weights and norms develop through training, by γ, at the widest scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import plotly.graph_objects as go

from critical.dashboards.figures import style
from critical.dashboards.figures.arms import Arm, labeller
from critical.dashboards.figures.lines import MAX_LINES, Line, Row, lines_figure
from critical.dashboards.figures.recorded import (
    Curves,
    Point,
    of_arm,
    parts_of,
    recorded_arms,
    values_of,
    widest,
)
from critical.dashboards.figures.training import thinned_trials
from critical.storage.records import MeasurementRecord, TrialRecord

Read = Callable[[MeasurementRecord], float | None]
"""What a panel draws of a measurement."""

NORMALIZES = 0.95
"""Output RMS below which a norm no longer normalizes."""
NORM_TITLE = "least norm's output RMS"


def development_figure(trials: Sequence[TrialRecord], curves: Curves) -> go.Figure | None:
    """Draw ranks and condensation of a few matrices; None where no trial has recorded them."""
    arm = developed_arm(trials, curves)
    if arm is None:
        return None
    drawn = _drawn(of_arm(trials, arm), curves, "stable_rank")
    matrices = chosen_matrices(parts_of((curves[trial.id] for trial in drawn), "stable_rank"))
    rows = [
        Row(title, hover, [_panel(drawn, curves, _part(kind, m)) for m in matrices], log=log)
        for kind, title, hover, log in (
            ("stable_rank", "stable rank", "stable rank", True),
            ("effective_rank", "effective rank", "effective rank", False),
            ("condensation", "condensation", "condensed pairs", False),
        )
    ]
    rows = [row for row in rows if any(line.points for panel in row.panels for line in panel)]
    return lines_figure(rows, [style.safe(name) for name in matrices], row_pixels=190)


def developed_arm(trials: Sequence[TrialRecord], curves: Curves) -> Arm | None:
    """Return whose weights are drawn: the widest arm with ranks, of several settings the first."""
    return next(iter(widest(recorded_arms(trials, curves, "stable_rank"))), None)


def chosen_matrices(names: Sequence[str]) -> list[str]:
    """Return three to look at: an embedding, and the middle block's first and last matrix."""
    blocks = sorted({int(n.partition(".")[0]) for n in names if n.partition(".")[0].isdecimal()})
    if not blocks:
        return list(names[:3])
    middle = f"{blocks[len(blocks) // 2]}."
    inside = [name for name in names if name.startswith(middle)]
    outside = [name for name in names if not name.partition(".")[0].isdecimal()]
    return list(dict.fromkeys([*outside[:1], inside[0], inside[-1]]))


def saturation_figure(trials: Sequence[TrialRecord], curves: Curves) -> go.Figure | None:
    """Draw the least saturated norm and the greatest sink, under each of the settings.

    None where no trial has recorded either.
    """
    arms = widest(recorded_arms(trials, curves, "saturation", "sink"))
    if not arms:
        return None
    kinds = (
        ("saturation", NORM_TITLE, "output RMS of the least norm", min, (NORMALIZES, 1.0)),
        ("sink", "attention on the first token", "greatest share on the first token", max, (0.0,)),
    )
    rows = []
    for kind, title, hover, extreme, within in kinds:
        read = _extreme(kind, extreme)
        panels = [_panel(_drawn(of_arm(trials, arm), curves, kind), curves, read) for arm in arms]
        if any(panels):
            rows.append(Row(title, hover, panels, within=within))
    label = labeller(arms)
    drawn = lines_figure(rows, [label(arm) for arm in arms], row_pixels=200)
    if rows[0].title == NORM_TITLE:
        line = {"color": style.MUTED, "width": 1, "dash": "dot"}
        drawn.add_hline(y=NORMALIZES, line=line, layer="below", row=1)
    return drawn


def _drawn(trials: Sequence[TrialRecord], curves: Curves, kind: str) -> list[TrialRecord]:
    """Return some of the trials that have numbers of a kind, spread over γ."""
    having = [t for t in trials if any(values_of(one, kind) for one in curves.get(t.id, ()))]
    return thinned_trials(having, MAX_LINES)


def _panel(trials: Sequence[TrialRecord], curves: Curves, read: Read) -> list[Line]:
    lines = []
    for trial in trials:
        told = [(one.tokens, read(one)) for one in curves[trial.id] if one.tokens > 0]
        points = [Point(tokens, value) for tokens, value in told if value is not None]
        lines.append(Line(trial, points))
    return lines


def _part(kind: str, part: str) -> Read:
    return lambda one: values_of(one, kind).get(part)


def _extreme(kind: str, extreme: Callable[[list[float]], float]) -> Read:
    def read(one: MeasurementRecord) -> float | None:
        values = list(values_of(one, kind).values())
        return extreme(values) if values else None

    return read
