"""The top of a report: γ* and its interval, what it costs and gains, and on what it hangs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from critical.dashboards import units
from critical.dashboards.data import ReportData
from critical.dashboards.documents import Estimate, estimate_at, gamma_star_at, rows_at
from critical.dashboards.markup import Html, join, tag
from critical.dashboards.pages.conditions import conditions_of
from critical.storage.agreement import disagreeing
from critical.storage.records import Document, GammaStar, PosteriorRecord, SettingsPosterior

VERDICTS = {
    "resolved": "Reasoning and efficiency ask for different γ, and γ* lies where neither loses "
    "much.",
    "one-sided": "Over a tenth of the draws lie at an edge of the search interval: γ* may lie "
    "beyond it.",
    "no tradeoff": "One γ serves reasoning and efficiency alike, or their difference is noise.",
}


@dataclass(frozen=True, slots=True)
class Headline:
    """γ* and the width it holds for.

    ``settings`` is None where no others were searched.
    """

    star: GammaStar
    width: int | None
    extrapolated: bool
    settings: str | None = None

    @property
    def place(self) -> str:
        """Where it holds, and how that is known."""
        at = "" if self.width is None else f" at width {self.width}"
        return at + (", extrapolated" if self.extrapolated else ", from its own trials")


def headline_of(data: ReportData) -> Headline | None:
    """Return γ* at the target or widest scale: the posterior's, else the recommendation's.

    Where several settings disagree there is none, see ``disagreeing_headlines``.
    """
    if data.posterior is not None:
        if disagreeing(data.posterior):
            return None
        return _headline(data.posterior, data.posterior.answers[0])
    star = gamma_star_at(data.recommendation.document if data.recommendation else None)
    return None if star is None else Headline(star, data.study.target_width, extrapolated=True)


def disagreeing_headlines(data: ReportData) -> list[Headline]:
    """Return what stands in place of a headline where settings disagree, else nothing."""
    if data.posterior is None:
        return []
    found = (_headline(data.posterior, own) for own in disagreeing(data.posterior))
    return [headline for headline in found if headline is not None]


def _headline(posterior: PosteriorRecord, own: SettingsPosterior) -> Headline | None:
    target = own.target
    if target is None:
        return None
    trained = {scale.width for scale in posterior.scales if scale.settings == own.settings}
    name = own.settings if posterior.others else None
    return Headline(target.gamma_star, target.width, target.width not in trained, name)


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
    several = disagreeing_headlines(data)
    if several:
        lines = [tag("li", *_one_of_several(headline)) for headline in several]
        sentence = "The settings disagree on γ*, so there is no single one:"
        return tag("div", tag("p", sentence), tag("ul", *lines), class_="answer")
    found = headline_of(data)
    if found is None:
        return tag("div", tag("p", _why_none(data), class_="pending"), class_="answer")
    star = found.star
    under = "" if found.settings is None else f" under settings {found.settings}"
    return tag(
        "div",
        tag("p", "γ* ", tag("strong", units.gamma(star.median)), class_="star"),
        tag(
            "div",
            tag("p", *_star(star)[1:], f"{found.place}{under}."),
            tag("p", tag("b", star.verdict.capitalize()), ". ", VERDICTS.get(star.verdict)),
            tag("p", "Draw every weight matrix with ", _rule(star), "."),
        ),
        class_="answer headline",
    )


def _one_of_several(found: Headline) -> list[Html | str]:
    star = found.star
    return [f"{found.settings}: ", *_star(star), f"{found.place}, {star.verdict}: ", _rule(star)]


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
        _fact("Gain in reasoning, R", _gains(document, "reasoning", _difference)),
        _fact("Efficiency against the reference, ρ", _gains(document, "efficiency", _times)),
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


def _gains(
    document: Document | None, of: str, told: Callable[[Estimate | None], str]
) -> Html | str:
    """Tell a gain, or that of each of several settings in a line of its own."""
    rows = rows_at(document, "settings")
    if len(rows) < 2:
        return told(estimate_at(document, "gain", of))
    lines = [f"{row.get('settings')}: {told(estimate_at(row, 'gain', of))}" for row in rows]
    return join(*(tag("div", line) for line in lines))


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
