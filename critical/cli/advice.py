"""A recommendation's JSON document on the terminal: one γ*, or each of the settings'."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from critical.cli.tables import columns_with_settings
from critical.storage.agreement import SETTINGS_DISAGREE

Document = Mapping[str, Any]


def recommendation_view(document: Document) -> list[RenderableType]:
    """Show a recommendation's JSON document.

    Where several settings were searched each one's γ* is shown, and where they disagree no
    headline and no matrices are.
    """
    answers: Sequence[Document] = document["settings"]
    disagree = document["gamma"]["verdict"] == SETTINGS_DISAGREE
    views: list[RenderableType] = []
    if disagree:
        views.append(Text("γ* depends on the settings, so there is no single one", style="bold"))
    else:
        views.append(_headline(document))
    if len(answers) > 1:
        views += [_answers(answers), _per_scale(_by_width(answers))]
    else:
        views.append(_per_scale(document["per_scale"]))
    views += [Text(f"• {sentence}") for sentence in _sentences(document)]
    if document.get("matrices") and not disagree:
        views.append(_matrices(document["matrices"]))
    return views


def _headline(document: Document) -> Text:
    gamma, target = document["gamma"], document["target"]
    where = f"width {target['width']}" + (" (exploratory)" if document["exploratory"] else "")
    several = len(document["settings"]) > 1
    under = f" under settings {document['headline']}" if several else ""
    return Text.assemble(
        (f"γ* {gamma['median']:.3f}", "bold"),
        f" at {where}{under}, 90% interval {gamma['low']:.3f}–{gamma['high']:.3f}, "
        f"plateau {gamma['plateau'][0]:.2f}–{gamma['plateau'][1]:.2f}, ",
        (gamma["verdict"], "bold"),
        f"; reference γ {document['reference']['gamma']:.3f}",
    )


def _answers(answers: Sequence[Document]) -> Table:
    """γ* of each of the settings, at the target."""
    table = Table()
    for column in ("settings", "at width", "γ*", "90%", "plateau", "verdict", "share", ""):
        table.add_column(column)
    for one in answers:
        table.add_row(
            one["settings"],
            str(one["width"]),
            *_gamma_cells(one["gamma"]),
            f"{one['share']:.2f}",
            "exploratory" if one["exploratory"] else "",
        )
    return table


def _by_width(answers: Sequence[Document]) -> list[Document]:
    """The scales of all settings, those of one width together."""
    scales = (scale for one in answers for scale in one["per_scale"])
    return sorted(scales, key=lambda scale: scale["width"])


def _per_scale(scales: Sequence[Document]) -> Table:
    several = len({scale["settings"] for scale in scales}) > 1
    table = Table()
    columns = ("width", "γ*", "90%", "plateau", "verdict", "trials", "P(both better)", "")
    for column in columns_with_settings(columns, several=several):
        table.add_column(column)
    for scale in scales:
        table.add_row(
            str(scale["width"]),
            *([scale["settings"]] if several else []),
            *_gamma_cells(scale),
            str(scale["trials"]),
            f"{scale['better']:.2f}",
            "" if scale["learned"] else "exploratory",
        )
    return table


def _gamma_cells(gamma: Document) -> tuple[str, str, str, str]:
    low, high = gamma["plateau"]
    return (
        f"{gamma['median']:.3f}",
        f"{gamma['low']:.3f}–{gamma['high']:.3f}",
        f"{low:.2f}–{high:.2f}",
        gamma["verdict"],
    )


def _sentences(document: Document) -> Iterator[str]:
    """The gain, and on what all rests; a sentence of some settings alone names them."""
    answers: Sequence[Document] = document["settings"]
    if len(answers) < 2:
        yield from (_gain_line(document), *document["conditions"])
        return
    said: dict[str, list[str]] = defaultdict(list)
    for one in answers:
        for sentence in (_gain_line(one), *one["conditions"]):
            said[sentence].append(one["settings"])
    own = set(said)
    yield from (sentence for sentence in document["conditions"] if sentence not in own)
    for sentence, names in said.items():
        yield sentence if len(names) == len(answers) else f"{', '.join(names)}: {sentence}"


def _gain_line(document: Document) -> str:
    gain = document["gain"]
    if gain is None:
        return "gain over the reference: not measured on fresh seeds"
    line = (
        f"gain over the reference on {gain['pairs']} fresh seeds at width {gain['width']} "
        f"(γ {gain['gamma']:.3f}): R {gain['reasoning']:+.3f}"
    )
    over, times = gain["reasoning_interval"], gain["efficiency_interval"]
    if over:
        line += f" [{over[0]:+.3f}, {over[1]:+.3f}]"
    line += f", efficiency × {gain['efficiency']:.2f}"
    return line + (f" [{times[0]:.2f}, {times[1]:.2f}]" if times else "")


def _matrices(matrices: Sequence[Document]) -> Table:
    table = Table()
    for column in ("matrix", "count", "fan-in", "std", "now"):
        table.add_column(column, justify="left" if column == "matrix" else "right")
    for one in matrices:
        table.add_row(
            one["name"],
            str(one["count"]),
            str(one["fan_in"]),
            f"{one['std']:.6f}",
            f"{one['now']:.6f}",
        )
    return table
