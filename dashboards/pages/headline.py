"""The top of a report: γ* and its interval, what it costs and gains, and on what it hangs."""

from __future__ import annotations

from dataclasses import dataclass

from critical.dashboards import units
from critical.dashboards.data import ReportData
from critical.dashboards.documents import Estimate, estimate_at, gamma_star_at
from critical.dashboards.markup import Html, join, tag
from critical.dashboards.pages.conditions import conditions_of
from critical.storage.records import GammaStar, PosteriorRecord, ScalePosterior

DISAGREEMENT = 0.05
"""Arms whose γ* differ by more have no common headline."""

VERDICTS = {
    "resolved": "Reasoning and efficiency ask for different γ, and γ* lies where neither loses "
    "much.",
    "one-sided": "Over a tenth of the draws lie at an edge of the search interval: γ* may lie "
    "beyond it.",
    "no tradeoff": "One γ serves reasoning and efficiency alike, or their difference is noise.",
}


@dataclass(frozen=True, slots=True)
class Headline:
    """γ* and the width it holds for."""

    star: GammaStar
    width: int | None
    extrapolated: bool


def headline_of(data: ReportData) -> Headline | None:
    """Return γ* at the target or widest scale: the posterior's, else the recommendation's."""
    if data.posterior is not None:
        target = data.posterior.target
        if target is None:
            return None
        trained = {scale.width for scale in data.posterior.scales}
        return Headline(target.gamma_star, target.width, target.width not in trained)
    star = gamma_star_at(data.recommendation.document if data.recommendation else None)
    return None if star is None else Headline(star, data.study.target_width, extrapolated=True)


def disagreeing_arms(posterior: PosteriorRecord | None) -> list[ScalePosterior]:
    """Return the arms of the widest learned scale where their γ* disagree, else nothing."""
    learned = [] if posterior is None else [s for s in posterior.scales if s.learned]
    widest = max((scale.width for scale in learned), default=None)
    arms = [scale for scale in learned if scale.width == widest]
    medians = [arm.gamma_star.median for arm in arms]
    return arms if arms and max(medians) - min(medians) > DISAGREEMENT else []


def header(data: ReportData) -> Html:
    """Return the report's header."""
    study = data.study
    return tag(
        "header",
        tag(
            "p",
            "Critical initialization search",
            tag("span", study.state, class_=f"state {study.state}"),
            class_="eyebrow",
        ),
        tag("h1", study.name),
        _answer(data),
        tag("dl", *_facts(data), class_="facts"),
        _notes(conditions_of(data)),
    )


def _answer(data: ReportData) -> Html:
    arms = disagreeing_arms(data.posterior)
    if arms:
        lines = [tag("li", f"{arm.settings}: ", *_star(arm.gamma_star)) for arm in arms]
        sentence = f"The settings disagree at width {arms[0].width}, so there is no single γ*:"
        return tag("div", tag("p", sentence), tag("ul", *lines), class_="answer")
    found = headline_of(data)
    if found is None:
        return tag("div", tag("p", _why_none(data), class_="pending"), class_="answer")
    at = "" if found.width is None else f" at width {found.width}"
    how = ", extrapolated" if found.extrapolated else ", from its own trials"
    star = found.star
    return tag(
        "div",
        tag("p", "γ* ", tag("strong", units.gamma(star.median)), class_="star"),
        tag(
            "div",
            tag("p", *_star(star)[1:], at + how + "."),
            tag("p", tag("b", star.verdict.capitalize()), ". ", VERDICTS.get(star.verdict)),
            tag("p", "Draw every weight matrix with ", _rule(star), "."),
        ),
        class_="answer headline",
    )


def _rule(star: GammaStar) -> Html:
    return tag("code", "std = fan_in", tag("sup", f"−{star.median:.2f}"))


def _star(star: GammaStar) -> list[Html | str]:
    return [
        tag("b", f"{units.gamma(star.median)}, "),
        "90% interval ",
        tag("b", units.interval(star.low, star.high)),
        ", plateau ",
        tag("b", units.interval(*star.plateau)),
    ]


def _why_none(data: ReportData) -> str:
    if data.posterior is not None:
        return (
            "No scale has learned its trained items yet, so γ* has no headline: every estimate "
            "below is exploratory."
        )
    return "There is no posterior yet: γ* appears once a scale has its reference and a few trials."


def _facts(data: ReportData) -> list[Html]:
    document = data.recommendation.document if data.recommendation else None
    return [
        _fact("Budget spent", _budget(data)),
        _fact("Trials", _counts(data)),
        _fact("Gain in reasoning, R", _difference(estimate_at(document, "gain", "reasoning"))),
        _fact(
            "Efficiency against the reference, ρ",
            _times(estimate_at(document, "gain", "efficiency")),
        ),
        _fact("Reference", f"γ = {units.gamma(data.study.reference_gamma)}"),
        _fact("Target", _target(data)),
    ]


def _fact(term: str, description: str | Html) -> Html:
    return tag("div", tag("dt", term), tag("dd", description))


def _budget(data: ReportData) -> Html:
    study, ledger = data.study, data.ledger
    unit = units.device_time(study.budget_unit, ledger.spent_seconds)
    if study.budget_unit == units.TRIALS:
        spent = float(data.counts.spent)
        text = f"{spent:.0f} of {study.budget_total:.0f} trials ({unit.text(ledger.spent_seconds)})"
    else:
        spent = ledger.spent_seconds
        text = f"{units.quantity(unit.of(spent))} of {unit.text(study.budget_total)}"
    held = f", {unit.text(ledger.held_seconds)} held" if ledger.held_seconds > 0 else ""
    share = min(spent / study.budget_total, 1.0) if study.budget_total > 0 else 0.0
    bar = tag("progress", value=f"{share:.4f}", max=1, aria_label="budget spent")
    return join(text + held, bar)


def _counts(data: ReportData) -> str:
    counts = data.counts
    rest = {
        "stopped": counts.stopped,
        "diverged": counts.diverged,
        "failed": counts.failed,
        "running": counts.running,
        "interrupted": counts.interrupted,
    }
    told = [f"{count} {state}" for state, count in rest.items() if count]
    return ", ".join([f"{counts.completed} completed", *told])


def _difference(gain: Estimate | None) -> str:
    if gain is None:
        return "not confirmed yet"
    spread = (
        "" if gain.low is None or gain.high is None else f" ({gain.low:+.2f} to {gain.high:+.2f})"
    )
    return f"{gain.median:+.2f}{spread}"


def _times(gain: Estimate | None) -> str:
    if gain is None:
        return "not confirmed yet"
    spread = (
        "" if gain.low is None or gain.high is None else f" ({gain.low:.2f} to {gain.high:.2f})"
    )
    return f"×{gain.median:.2f}{spread}"


def _target(data: ReportData) -> str:
    width, depth = data.study.target_width, data.study.target_depth
    if width is None:
        return "none given: the widest scale"
    return f"width {width}" + ("" if depth is None else f", {depth} layers")


def _notes(conditions: list[tuple[str, str]]) -> Html | None:
    if not conditions:
        return None
    lines = [tag("li", tag("b", label + "."), " ", sentence) for label, sentence in conditions]
    return tag("ul", *lines, class_="notes", aria_label="What the result depends on")
