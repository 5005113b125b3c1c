"""Several settings on a page: told apart where they agree, and no single γ* where they do not."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import plotly.graph_objects as go
import pytest

from critical.dashboards.data import ReportData
from critical.dashboards.figures import style
from critical.dashboards.figures.arms import arms_in, scales_of
from critical.dashboards.figures.curves import curves_figure
from critical.dashboards.figures.front import front_figure
from critical.dashboards.figures.gamma_star import gamma_star_figure
from critical.dashboards.figures.narrowing import narrowing_figure
from critical.dashboards.pages import captions
from critical.dashboards.pages.advice import recommendation_page
from critical.dashboards.pages.document import STANDALONE
from critical.dashboards.pages.studies import studies_page
from critical.dashboards.pages.tables import matrices_table, scales_table
from critical.dashboards.report import render
from critical.storage.records import (
    PosteriorSummary,
    RecommendationRecord,
    StudySummary,
    TrialCounts,
)

Maker = Callable[..., ReportData]
FAR, NEAR = 0.93, 0.74
"""γ* of the relaxed settings: beyond 0.05 of the target's 0.71, and within."""


def read(page: str) -> str:
    """Return what a reader reads of a page, without scripts and styles."""
    bare = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", bare))


def title(page: str) -> str:
    """Return what the browser's tab shows."""
    found = re.search(r"<title>(.*?)</title>", page)
    assert found is not None
    return found[1]


def colours(figure: go.Figure, symbol: str) -> list[str]:
    """Return the colours of the marks of a symbol, in the order in which they are drawn."""
    return [trace.marker.color for trace in figure.data if trace.marker.symbol == symbol]


@pytest.fixture
def differing(data: Maker, records: SimpleNamespace) -> ReportData:
    """The believable study, searched under two settings that disagree."""
    return data(posterior=records.beside(records.posterior(), FAR))


def advice(records: SimpleNamespace, **changes: Any) -> dict[str, Any]:
    """The recommendation's document with an entry for each of the settings."""
    document = dict(records.recommendation().document)
    star = {**document["gamma"], "median": FAR, "low": 0.8, "high": 1.1}
    rows = [
        {"settings": "target", "gamma": document["gamma"], "gain": document["gain"]},
        {"settings": "relaxed", "gamma": star, "gain": None},
    ]
    return {**document, "headline": "target", "settings": rows, **changes}


def test_settings_that_disagree_have_no_single_headline(differing: ReportData) -> None:
    """Both are told with interval, verdict and rule, and the tab's title tells no γ*."""
    page = render(differing)
    text = read(page)
    assert "The settings disagree on γ*, so there is no single one:" in text
    assert "target: 0.71, 90% interval 0.56–0.88" in text
    assert "relaxed: 0.93, 90% interval 0.78–1.13" in text
    assert "extrapolated, one-sided: std = fan_in−0.93" in text
    assert "Draw every weight matrix" not in text
    assert "γ*" not in title(page)


def test_settings_that_agree_have_the_firsts_headline(
    data: Maker, records: SimpleNamespace
) -> None:
    """It says under which settings it holds."""
    page = render(data(posterior=records.beside(records.posterior(), NEAR)))
    assert "at width 2048, extrapolated under settings target." in read(page)
    assert title(page).startswith("γ* 0.71")
    assert "disagree" not in read(page)


def test_conditions_name_the_settings_that_they_are_of(differing: ReportData) -> None:
    """Each has its own prior's weight and its own exploratory scales."""
    text = read(render(differing))
    for label in ("Prior-dominated under target", "Exploratory under relaxed: width 32"):
        assert label in text


def test_each_gain_is_told(data: Maker, records: SimpleNamespace) -> None:
    """Of settings that were not confirmed it is said so."""
    stored = RecommendationRecord(advice(records), datetime(2026, 1, 1, tzinfo=UTC))
    text = read(render(data(recommendation=stored)))
    assert "target: +0.21 (+0.08 to +0.34)" in text
    assert "relaxed: not confirmed yet" in text


def test_tables_have_a_column_of_settings_only_where_there_are_several(
    records: SimpleNamespace,
) -> None:
    """One more column, and the settings of a width in adjacent rows, the target's first."""
    alone = scales_table(records.posterior())
    several = scales_table(records.beside(records.posterior(), FAR))
    assert ">settings<" not in alone
    assert ">settings<" in several
    assert re.findall(r">(\d+)</th><td>(\w+)<", several) == [
        (str(width), name) for width in (32, 64, 128) for name in ("target", "relaxed")
    ]


def test_matrices_say_under_which_settings_they_are(records: SimpleNamespace) -> None:
    """With one settings there is nothing to say."""
    assert "under settings" not in (matrices_table(records.recommendation().document) or "")
    assert "every weight matrix, under settings target" in (matrices_table(advice(records)) or "")


@pytest.mark.parametrize("stored", [True, False], ids=["with a number", "without"])
def test_a_recommendation_at_a_width_refuses_too(records: SimpleNamespace, *, stored: bool) -> None:
    """The page shows each γ* and no headline, whether or not the document has a first one's."""
    document = advice(records)
    numbers = document["gamma"] if stored else dict.fromkeys(document["gamma"])
    document["gamma"] = {**numbers, "verdict": "settings disagree"}
    text = read(recommendation_page("s", 512, document, STANDALONE))
    assert "The settings disagree on γ*, so there is no single one:" in text
    assert "target: γ* 0.71, 90% interval 0.56–0.88" in text
    assert "relaxed: γ* 0.93, 90% interval 0.80–1.10" in text


def test_the_list_of_searches_shows_no_gamma_where_settings_disagree(
    records: SimpleNamespace,
) -> None:
    """A dash stands for it, and the reason for its interval."""
    latest = PosteriorSummary(9, 1.0, 0.71, 0.56, 0.88, "settings disagree")
    summary = StudySummary(records.study(), 1.0, TrialCounts(), latest)
    page = studies_page([summary], STANDALONE)
    assert "<td>–</td><td>settings disagree</td>" in page
    agreed = dataclasses.replace(latest, verdict="resolved")
    page = studies_page([dataclasses.replace(summary, latest=agreed)], STANDALONE)
    assert "<td>0.71</td><td>0.56–0.88</td>" in page


def test_each_settings_has_its_colour_and_symbol(
    differing: ReportData, records: SimpleNamespace
) -> None:
    """In every figure the first is vermilion, as it is alone, and the second is not."""
    figure = gamma_star_figure(differing.study, differing.posterior)
    assert colours(figure, "star") == [style.STAR, style.SETTINGS[1]]
    assert {style.STAR} == set(colours(figure, "circle")) - {style.EXPLORATORY}
    assert {style.SETTINGS[1]} == set(colours(figure, "square")) - {style.EXPLORATORY}
    alone = gamma_star_figure(differing.study, records.posterior())
    assert colours(alone, "star") == [style.INK]
    stars = colours(front_figure(differing.trials, differing.posterior), "star")
    assert stars.count(style.SETTINGS[1]) == stars.count(style.STAR) == 3


def test_legends_name_the_settings(differing: ReportData) -> None:
    """Marks that mean the same of different settings are told apart."""
    figure = gamma_star_figure(differing.study, differing.posterior)
    shown = {trace.name for trace in figure.data if trace.showlegend is not False}
    for settings in ("target", "relaxed"):
        assert f"extrapolation, 5–95%, {settings} settings" in shown
        assert f"γ* of a scale, {settings} settings" in shown


def test_panels_of_a_width_stand_side_by_side(differing: ReportData) -> None:
    """Each is named by width and settings, and marks γ* in its settings' colour."""
    figure = curves_figure(differing.posterior, ())
    titles = [note.text for note in figure.layout.annotations[:6]]
    assert titles[2:4] == ["width 64, target", "width 64, relaxed"]
    lines = [mark.line.color for mark in figure.layout.shapes if mark.name == "γ*"]
    assert lines[2:4] == [style.STAR, style.SETTINGS[1]]


def test_settings_stand_in_the_order_in_which_they_are_searched(records: SimpleNamespace) -> None:
    """Not that of the alphabet: in panels, table and legends it is the posterior's answers'."""
    posterior = records.beside(records.posterior(), FAR)
    carried = tuple(
        dataclasses.replace(scale, settings="carried")
        for scale in posterior.scales
        if scale.settings == "relaxed"
    )
    others = (*posterior.others, dataclasses.replace(posterior.others[0], settings="carried"))
    posterior = dataclasses.replace(posterior, scales=(*carried, *posterior.scales), others=others)
    order = ["target", "relaxed", "carried"]
    assert [scale.settings for scale in scales_of(posterior)] == order * 3
    assert re.findall(r">64</th><td>(\w+)<", scales_table(posterior)) == order
    legend = [trace.name for trace in front_figure((), posterior).data if trace.name]
    assert [name for name in legend if "64" in name] == [f"width 64, {name}" for name in order]
    stars = [name for name in legend if "γ* of a scale" in name]
    assert stars == [f"γ* of a scale, {name} settings" for name in order]
    trials = [
        dataclasses.replace(trial, settings=name)
        for name in order
        for trial in records.trials(per_scale=1)
    ]
    assert arms_in(trials) == [(width, name) for width in (32, 64, 128) for name in order]


def test_the_fronts_legend_explains_the_stars_that_there_are(records: SimpleNamespace) -> None:
    """Where no scale has learned, all stars and plateaus are grey, and so is what explains them."""
    posterior = records.beside(records.posterior(), FAR)
    scales = tuple(dataclasses.replace(scale, learned=False) for scale in posterior.scales)
    figure = front_figure((), dataclasses.replace(posterior, scales=scales))
    assert set(colours(figure, "star")) == {style.EXPLORATORY}
    plateaus = [trace.line.color for trace in figure.data if trace.legendgroup == "plateau"]
    assert set(plateaus) == {style.tint(style.EXPLORATORY, 0.5)}
    names = [trace.name for trace in figure.data if trace.name and "γ*" in trace.name]
    assert names == ["γ* of an exploratory scale"]


def test_captions_say_whose_a_figure_is(differing: ReportData, data: Maker) -> None:
    """Figures of one of several settings name it; where there is one there is nothing to name."""
    for caption in (
        captions.narrowing(differing),
        captions.development(differing, (128, "target")),
        captions.coordinates(differing, "target"),
    ):
        assert " under settings target" in caption
    alone = data()
    for caption in (
        captions.narrowing(alone),
        captions.development(alone, (128, "target")),
        captions.coordinates(alone, "target"),
    ):
        assert "settings" not in caption


def test_colours_are_promised_only_where_there_are_some(differing: ReportData) -> None:
    """γ* of scales that have not learned is grey under all settings."""
    assert differing.posterior is not None
    assert "grey where a scale has not learned" in captions.gamma_star(differing)
    told = {}
    for learned in (True, False):
        scales = tuple(
            dataclasses.replace(scale, learned=learned) for scale in differing.posterior.scales
        )
        posterior = dataclasses.replace(differing.posterior, scales=scales)
        told[learned] = captions.gamma_star(dataclasses.replace(differing, posterior=posterior))
    assert "in a colour" in told[True]
    assert "grey" not in told[True]
    assert "grey, for no scale has learned" in told[False]
    assert "colour" not in told[False]


def test_the_narrowing_says_whose_it_is(differing: ReportData) -> None:
    """Of several settings it is the first's."""
    figure = narrowing_figure(differing.study, differing.narrowing, "target")
    assert figure.layout.yaxis.title.text == "γ* at the target, target settings"


def test_arms_stand_by_width_and_the_targets_first(records: SimpleNamespace) -> None:
    """Whatever order they are stored in."""
    scales = scales_of(records.beside(records.posterior(), FAR))
    assert [scale.settings for scale in scales] == ["target", "relaxed"] * 3
    assert arms_in(reversed(scales)) == [(scale.width, scale.settings) for scale in scales]
