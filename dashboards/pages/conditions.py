"""On what a headline hangs: a label and a sentence for each condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from critical.dashboards import units
from critical.dashboards.data import ReportData
from critical.storage.records import PosteriorRecord, ScalePosterior, StudyState, TargetPosterior

Condition: TypeAlias = tuple[str, str]
"""A label, and a sentence that explains it."""

TRUNCATION_TOLD = 0.005
"""A smaller share of draws outside the search interval changes nothing that is shown."""


def conditions_of(data: ReportData) -> list[Condition]:
    """Return what a reader must know before using γ*."""
    found = _state(data)
    if data.posterior is None:
        return found
    found += _learning_rate(data.posterior)
    answers = data.posterior.answers
    for own in answers:
        named = f" under {own.settings}" if len(answers) > 1 else ""
        scales = [scale for scale in data.posterior.scales if scale.settings == own.settings]
        found += [] if own.target is None else _target(own.target, named)
        found += _exploratory(scales, named)
    return found


def _state(data: ReportData) -> list[Condition]:
    study = data.study
    reason = f" ({study.reason})" if study.reason else ""
    told = {
        StudyState.RUNNING: "The search is still running: everything here may change.",
        StudyState.INTERRUPTED: f"The search was interrupted{reason}; the same command resumes it.",
        StudyState.FAILED: f"The search failed{reason}.",
    }
    return [(study.state.capitalize(), told[study.state])] if study.state in told else []


def _learning_rate(posterior: PosteriorRecord) -> list[Condition]:
    rate = posterior.conditional_on_learning_rate
    if rate is None:
        return []
    sentence = "The budget was too small to tune the rate, and at another one γ* can reverse."
    return [(f"Conditional on learning rate {rate:g}", sentence)]


def _target(target: TargetPosterior, named: str) -> list[Condition]:
    found: list[Condition] = []
    if target.prior_dominated:
        sentence = (
            "The interval says more about how γ* is assumed to drift with width than about data; "
            f"with twice that prior it is {units.interval(*target.doubled)}."
        )
        found.append((f"Prior-dominated{named}", sentence))
    if target.truncated >= TRUNCATION_TOLD:
        sentence = f"{target.truncated:.1%} of the draws fell outside the search interval."
        found.append((f"Truncated{named}", sentence))
    return found


def _exploratory(scales: Sequence[ScalePosterior], named: str) -> list[Condition]:
    weak = sorted({scale.width for scale in scales if not scale.learned})
    if not weak:
        return []
    sentence = "The reference there has not learned its items, so it does not join the headline."
    return [(f"Exploratory{named}: width {', '.join(map(str, weak))}", sentence)]
