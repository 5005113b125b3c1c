"""Final loss on each kind of item against γ, paired with the reference run of the same seed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import plotly.graph_objects as go

from critical.dashboards.figures import style
from critical.dashboards.figures.arms import (
    Arm,
    arm_of,
    arms_in,
    labeller,
    scales_of,
    with_state,
)
from critical.dashboards.figures.kinds import kind_label, source_losses
from critical.dashboards.figures.recorded import of_arm
from critical.dashboards.figures.training import thinned_trials
from critical.storage.records import (
    MeasurementRecord,
    PosteriorRecord,
    Role,
    ScalePosterior,
    TrialRecord,
    TrialState,
)

COLUMN_PIXELS = 230
GAMMA_STEP = 0.1
"""The width of the intervals of γ whose medians the line joins."""
_MEDIAN = {"color": style.CURVE, "width": 2.2}


@dataclass(frozen=True, slots=True)
class Gain:
    """A trial's final loss on one kind of item less its reference's, nats per token."""

    trial: TrialRecord
    nats: float
    best_rate: bool
    """Whether its learning rate is the one with the least validation loss at its γ."""


def gains_figure(
    trials: Sequence[TrialRecord],
    last: Mapping[int, MeasurementRecord],
    posterior: PosteriorRecord | None,
) -> go.Figure | None:
    """Draw the gain of every trial that has a reference, kinds down and scales across.

    Args:
        trials: The study's.
        last: The last measurement of each by its number, with the losses of ``source_losses``.
        posterior: Tells the best learning rate at each γ.

    Returns:
        None where no trial beside the references has told losses by source.
    """
    names = source_losses(name for one in last.values() for name in one.extras)
    gains = {
        name: [
            gain for arm in arms_in(trials) for gain in _gains(trials, arm, name, last, posterior)
        ]
        for name in names
    }
    gains = {name: found for name, found in gains.items() if found}
    if not gains:
        return None
    arms = arms_in(gain.trial for found in gains.values() for gain in found)
    label = labeller(arms)
    drawn = style.panels(
        len(gains),
        len(arms),
        height=110 + 170 * len(gains),
        shared_xaxes="all",
        shared_yaxes="rows",
        horizontal_spacing=0.025 if len(arms) > 1 else 0.0,
        vertical_spacing=0.12 / len(gains),
        column_titles=[label(arm) for arm in arms],
    )
    for row, (name, found) in enumerate(gains.items(), start=1):
        for column, arm in enumerate(arms, start=1):
            own = [gain for gain in found if arm_of(gain.trial) == arm]
            _draw(drawn, own, row=row, col=column)
        drawn.update_yaxes(range=style.padded([0.0, *(gain.nats for gain in found)]), row=row)
        drawn.update_yaxes(title_text=kind_label(name), row=row, col=1)
    drawn.add_hline(y=0, line={"color": style.MUTED, "width": 1, "dash": "dot"}, layer="below")
    drawn.update_xaxes(title_text="γ", row=len(gains))
    _explain(drawn, [gain for found in gains.values() for gain in found])
    drawn.update_layout(margin={"t": 40})
    return drawn


def medians(gains: Iterable[Gain]) -> list[tuple[float, float]]:
    """Return the median γ and gain of each step of γ, of trials at their best rate."""
    steps: dict[int, list[Gain]] = defaultdict(list)
    for gain in gains:
        if gain.best_rate:
            steps[math.floor(gain.trial.gamma / GAMMA_STEP)].append(gain)
    return [
        (median(g.trial.gamma for g in steps[step]), median(g.nats for g in steps[step]))
        for step in sorted(steps)
    ]


def _gains(
    trials: Sequence[TrialRecord],
    arm: Arm,
    name: str,
    last: Mapping[int, MeasurementRecord],
    posterior: PosteriorRecord | None,
) -> list[Gain]:
    told = [
        trial
        for trial in with_state(of_arm(trials, arm), TrialState.COMPLETED)
        if trial.number in last and math.isfinite(last[trial.number].extras.get(name, math.nan))
    ]
    references = _references(told, last)
    scale = next((s for s in scales_of(posterior) if arm_of(s) == arm), None)
    paired = [t for t in told if t.seed in references and t.role is not Role.REFERENCE]
    return [
        Gain(
            trial,
            last[trial.number].extras[name] - last[references[trial.seed].number].extras[name],
            _at_best_rate(trial, scale),
        )
        for trial in thinned_trials(paired)
    ]


def _references(
    trials: Iterable[TrialRecord], last: Mapping[int, MeasurementRecord]
) -> dict[int, TrialRecord]:
    """Return each seed's reference, at the learning rate with the least validation loss."""
    found: dict[int, TrialRecord] = {}
    for trial in trials:
        if trial.role is Role.REFERENCE:
            best = found.get(trial.seed)
            if best is None or last[trial.number].loss < last[best.number].loss:
                found[trial.seed] = trial
    return found


def _at_best_rate(trial: TrialRecord, scale: ScalePosterior | None) -> bool:
    if scale is None or trial.learning_rate is None:
        return True
    nearest = min(range(len(scale.gamma)), key=lambda i: abs(scale.gamma[i] - trial.gamma))
    best = scale.learning_rate[nearest]
    return best is None or math.isclose(best, trial.learning_rate, rel_tol=1e-6)


def _draw(drawn: go.Figure, gains: Sequence[Gain], **place: int) -> None:
    line = medians(gains)
    if len(line) > 1:
        drawn.add_scatter(
            x=style.rounded(x for x, _ in line),
            y=style.rounded((y for _, y in line), digits=4),
            mode="lines",
            line=_MEDIAN,
            hoverinfo="skip",
            showlegend=False,
            **place,
        )
    for best in (True, False):
        some = [gain for gain in gains if gain.best_rate is best]
        if some:
            drawn.add_trace(_points(some, best=best), **place)


def _points(gains: Sequence[Gain], *, best: bool) -> go.Scatter:
    rates = [gain.trial.learning_rate for gain in gains]
    return go.Scatter(
        x=style.rounded(gain.trial.gamma for gain in gains),
        y=style.rounded((gain.nats for gain in gains), digits=4),
        mode="markers",
        marker=_marker(best=best),
        text=[
            f"trial {gain.trial.number}, seed {gain.trial.seed}"
            + ("" if rate is None else f", learning rate {rate:g}")
            for gain, rate in zip(gains, rates, strict=True)
        ],
        hovertemplate="%{text}<br>γ %{x:.3f}: %{y:+.3f} nats<extra></extra>",
        showlegend=False,
    )


def _marker(*, best: bool) -> dict[str, object]:
    ink = style.tint(style.INK, 0.55)
    return {"size": 6, "color": ink} if best else {"size": 5, "color": ink, "symbol": "circle-open"}


def _explain(drawn: go.Figure, gains: Sequence[Gain]) -> None:
    marks = {True: "trial at the best learning rate of its γ", False: "trial at another rate"}
    for best, name in marks.items():
        if any(gain.best_rate is best for gain in gains):
            mark = style.legend_only(name, mode="markers", marker=_marker(best=best))
            drawn.add_trace(mark, row=1, col=1)
    drawn.add_trace(style.legend_only("median", mode="lines", line=_MEDIAN), row=1, col=1)
