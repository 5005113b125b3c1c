"""The report's tables: scales, matrices, options, and what the plan notes beside these."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from critical.dashboards import units
from critical.dashboards.documents import number_at, rows_at, value_at
from critical.dashboards.figures.arms import interpolate, scales_of, settings_of
from critical.dashboards.markup import Child, Html, tag
from critical.storage.records import Document, PosteriorRecord, ScalePosterior, StudyRecord


def table(
    caption: str, heads: Sequence[str], rows: Iterable[Sequence[Child]], *, wraps: bool = False
) -> Html:
    """Return a table whose first column names its rows; too wide a one scrolls, or wraps."""
    body = [
        tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in rest))
        for first, *rest in rows
    ]
    return tag(
        "div",
        tag(
            "table",
            tag("caption", caption),
            tag("thead", tag("tr", *(tag("th", head, scope="col") for head in heads))),
            tag("tbody", *body),
        ),
        class_="scroll wraps" if wraps else "scroll",
        tabindex=0,
        role="region",
        aria_label=caption,
    )


def scales_table(posterior: PosteriorRecord | None) -> Html:
    """Return what was found at each scale."""
    scales = scales_of(posterior)
    if not scales:
        return tag("p", "No scale has a posterior yet.", class_="pending")
    several = len(settings_of(posterior)) > 1
    heads = (
        "width", *(["settings"] if several else []), "trials", "γ*", "90% interval", "plateau",
        "share", "R at γ*", "R at the reference", "ρ at γ*", "P(both better)", "learning rate",
        "verdict",
    )  # fmt: skip
    rows = [_scale_row(scale, several=several) for scale in scales]
    return table("γ* at each scale", heads, rows)


def _scale_row(scale: ScalePosterior, *, several: bool) -> list[Child]:
    star = scale.gamma_star
    reasoning, efficiency = scale.reasoning.median, scale.log2_efficiency.median
    return [
        scale.width,
        *([scale.settings] if several else []),
        scale.trials,
        tag("b", units.gamma(star.median)),
        units.interval(star.low, star.high),
        units.interval(*star.plateau),
        f"{star.share:.2f}",
        f"{interpolate(scale.gamma, reasoning, star.median):.2f}",
        f"{interpolate(scale.gamma, reasoning, scale.reference_gamma):.2f}",
        units.factor(interpolate(scale.gamma, efficiency, star.median)),
        f"{scale.better:.2f}",
        _rate(scale),
        star.verdict if scale.learned else f"exploratory ({star.verdict})",
    ]


def _rate(scale: ScalePosterior) -> str:
    nearest = min(
        range(len(scale.gamma)), key=lambda i: abs(scale.gamma[i] - scale.gamma_star.median)
    )
    rate = scale.learning_rate[nearest]
    return units.MISSING if rate is None else f"{rate:g}"


def matrices_table(document: Document | None) -> Html | None:
    """Return the std of every matrix of the recommendation, or None where it lists none."""
    rows = rows_at(document, "matrices")
    if not rows:
        return None
    cells = [
        [
            str(row.get("name", units.MISSING)),
            _whole(row, "count"),
            _whole(row, "fan_in"),
            _std(row),
        ]
        for row in rows
    ]
    heads = ("matrix", "count", "fan-in", "std")
    several = len(rows_at(document, "settings")) > 1
    under = f", under settings {value_at(document, 'headline')}" if several else ""
    return table(f"Standard deviation of every weight matrix{under}", heads, cells)


def _whole(row: Document, key: str) -> str:
    found = number_at(row, key)
    return units.MISSING if found is None else f"{found:,.0f}"


def _std(row: Document) -> str:
    found = number_at(row, "std")
    return units.MISSING if found is None else f"{found:.6f}"


def options_table(study: StudyRecord) -> Html:
    """Return what the study was asked for with; its identity says the same once more."""
    rows: list[Sequence[Child]] = [
        ["rule", study.rule],
        ["search interval", units.interval(*study.interval)],
        ["started", f"{study.created_at:%Y-%m-%d %H:%M %Z}".strip()],
        *([key, _shown(value)] for key, value in _flat(study.options.get("given", study.options))),
    ]
    return table("Options of the study", ("option", "value"), rows, wraps=True)


def plan_notes(study: StudyRecord) -> Html | None:
    """Return what the plan has to say, or None where it says nothing: an old one cannot."""
    notes = value_at(study.plan, "notes")
    if not isinstance(notes, Sequence) or isinstance(notes, str) or not notes:
        return None
    lines = [tag("li", str(note)) for note in notes]
    return tag("div", tag("h3", "What the plan notes"), tag("ul", *lines))


def _flat(options: Document, within: str = "") -> Iterator[tuple[str, object]]:
    """Yield every option that was set, those of a nested object under its name."""
    for key, value in options.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{within}{key}.")
        elif value is not None:
            yield f"{within}{key}", value


def _shown(value: object) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
