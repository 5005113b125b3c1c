"""Device-time spent over wall time, by purpose, against the budget."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate

import plotly.graph_objects as go

from critical.dashboards import units
from critical.dashboards.figures import style
from critical.storage.records import ChargeRecord, LedgerRecord, StudyRecord

Settled = tuple[datetime, str, float]
"""When a charge was settled, its purpose, and its device-seconds."""


def settled(charges: Sequence[ChargeRecord]) -> list[Settled]:
    """Return the settled charges in the order of their settlement."""
    known = [
        (charge.settled_at, charge.purpose, charge.charged_seconds)
        for charge in charges
        if charge.settled_at is not None and charge.charged_seconds is not None
    ]
    return sorted(known, key=lambda line: line[0])


def cumulative(lines: Sequence[Settled], purpose: str) -> list[float]:
    """Return the device-seconds spent for a purpose after each settlement."""
    return list(accumulate(seconds if kind == purpose else 0.0 for _, kind, seconds in lines))


def ledger_figure(
    study: StudyRecord, ledger: LedgerRecord, charges: Sequence[ChargeRecord]
) -> go.Figure:
    """Draw what each purpose has cost so far, stacked, under the budget's line."""
    lines = settled(charges)
    if not lines:
        return style.empty("Nothing has been charged to the budget yet.")
    unit = units.device_time(study.budget_unit, ledger.spent_seconds)
    drawn = style.figure(height=380)
    start = min(charge.reserved_at for charge in charges)
    moments = [start, *(moment for moment, _, _ in lines)]
    for purpose in _purposes(lines):
        spent = [0.0, *cumulative(lines, purpose)]
        _draw_purpose(drawn, purpose, moments, [unit.of(value) for value in spent], unit.label)
    _draw_limits(drawn, study, ledger, unit)
    drawn.update_xaxes(title_text="wall time, UTC")
    drawn.update_yaxes(title_text=f"device-time, {unit.label}", rangemode="tozero")
    return drawn


def _purposes(lines: Sequence[Settled]) -> list[str]:
    """Return the purposes present: the known ones in the order of a search, then any other."""
    present = dict.fromkeys(purpose for _, purpose, _ in lines)
    known = [purpose for purpose in style.PURPOSES if purpose in present]
    return known + [purpose for purpose in present if purpose not in style.PURPOSES]


def _draw_purpose(
    drawn: go.Figure, purpose: str, moments: Sequence[datetime], spent: Sequence[float], unit: str
) -> None:
    colour = style.PURPOSES.get(purpose, style.OTHER_PURPOSE)
    drawn.add_scatter(
        x=list(moments),
        y=style.rounded(spent),
        mode="lines",
        line={"color": colour, "width": 1, "shape": "hv"},
        fillcolor=style.tint(colour, 0.65),
        stackgroup="spent",
        name=style.safe(purpose),
        hovertemplate=f"{style.safe(purpose)}: %{{y:.3g}} {unit}<extra></extra>",
    )


def _draw_limits(
    drawn: go.Figure, study: StudyRecord, ledger: LedgerRecord, unit: units.DeviceTime
) -> None:
    if ledger.held_seconds > 0:
        drawn.add_hline(
            y=unit.of(ledger.spent_seconds + ledger.held_seconds),
            line={"color": style.MUTED, "width": 1.2, "dash": "dot"},
            name="spent + held now",
            showlegend=True,
        )
    if study.budget_unit != units.TRIALS:
        drawn.add_hline(
            y=unit.of(study.budget_total),
            line={"color": style.INK, "width": 1.4, "dash": "dash"},
            name="budget",
            showlegend=True,
        )
