"""The captions that depend on the study: what a figure holds of it, and what it leaves out."""

from __future__ import annotations

from critical.dashboards import units
from critical.dashboards.data import ReportData
from critical.dashboards.figures.arms import Arm, arms_in, settings_of


def under(data: ReportData, settings: str) -> str:
    """Return what says whose a figure is that shows one of several settings, else nothing."""
    searched = {name for _, name in arms_in(data.trials)} | set(settings_of(data.posterior))
    return f" under settings {settings}" if len(searched) > 1 else ""


def gamma_star(data: ReportData) -> str:
    """Return how to read γ* against width."""
    bars = "Each bar is the 90% interval of γ* at one width and its thick part the plateau"
    bars += _told_apart(data)
    if data.posterior is None or data.posterior.target is None:
        return f"{bars}; nothing is carried to a target before a scale has learned."
    return (
        f"{bars}; the fan carries them to the target, and the dotted whisker shows how far the "
        "interval would reach if γ* could drift twice as fast."
    )


def _told_apart(data: ReportData) -> str:
    """Say how several settings are told apart: scales that have not learned are grey."""
    if data.posterior is None or len(settings_of(data.posterior)) < 2:
        return ""
    learned = [scale.learned for scale in data.posterior.scales]
    if not any(learned):
        return ", with a symbol for each of the settings and grey, for no scale has learned yet"
    grey = "" if all(learned) else ", grey where a scale has not learned yet"
    return f", in a colour and with a symbol for each of the settings{grey}"


def narrowing(data: ReportData) -> str:
    """Return how to read the interval as trials accrued: of several settings it is the first's."""
    first = next(iter(settings_of(data.posterior)), "target")
    return (
        f"The band is the 90% interval of γ*{under(data, first)} after each completed trial, above "
        "what had been spent by then: where it no longer narrows, further trials of this kind buy "
        "little."
    )


def ledger(data: ReportData) -> str:
    """Return how to read the ledger: a budget that counts trials has no line."""
    spent = "Every device-second charged so far, by purpose, as wall time went on"
    if data.study.budget_unit == units.TRIALS:
        return f"{spent}; the budget counts trials, and so has no line here."
    return f"{spent}; the dashed line is the budget."


def development(data: ReportData, arm: Arm) -> str:
    """Return how to read the development of an arm's weights."""
    width, settings = arm
    return (
        f"Ranks of three weight matrices at width {width}{under(data, settings)} as tokens are "
        "seen, and the share of pairs of their rows that point the same way (cosine above 0.7): "
        "where a rank falls and rises again, the matrix has condensed first and expanded later."
    )


def coordinates(data: ReportData, settings: str) -> str:
    """Return how to read the coordinate check of some settings."""
    return (
        "RMS of the last block's output, and the gradient's norm on the first batch, against "
        f"width{under(data, settings)}, a line for each group of γ: where lines are level, widths "
        "are alike in this."
    )
