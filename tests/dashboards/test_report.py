"""The report says what is known, what it depends on, and nothing that a name injects."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from critical.dashboards.data import ReportData
from critical.dashboards.documents import Estimate, estimate_at, gamma_star_at, number_at, rows_at
from critical.dashboards.markup import tag
from critical.dashboards.pages.document import Frame
from critical.dashboards.report import render
from critical.storage.records import RecommendationRecord, StudyState

Maker = Callable[..., ReportData]
SERVED = Frame(plotly_address="/plotly.js", version="1")
NO_DATA: dict[str, Any] = {
    "trials": (),
    "curves": {},
    "posterior": None,
    "narrowing": (),
    "charges": (),
}
VOID = {"meta", "input", "br", "link", "path"}


class Outline(HTMLParser):
    """What elements a page holds, in order, and whether all are closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element that begins."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Check that it is the innermost one that ends."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note text that is read."""
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        """Everything that is read as text."""
        return re.sub(r"\s+", " ", "".join(self.words))

    def all(self, name: str) -> list[dict[str, str | None]]:
        """Return the attributes of every element of a name."""
        return [attributes for element, attributes in self.elements if element == name]


def text_of(data: ReportData) -> str:
    """Return what a reader of the served page reads."""
    return Outline(render(data, SERVED)).text


def test_the_headline_holds_star_interval_plateau_and_verdict(data: Maker) -> None:
    """The first thing read is γ* at the target with all that qualifies it."""
    text = text_of(data())
    assert "γ* 0.71" in text
    assert "90% interval 0.56–0.88, plateau 0.65–0.77 at width 2048, extrapolated." in text
    assert "Resolved. Reasoning and efficiency ask for different γ" in text


def test_conditions_are_told(data: Maker, records: SimpleNamespace) -> None:
    """Rate, prior and exploratory scales qualify the headline, each in a sentence."""
    posterior = dataclasses.replace(records.posterior(), conditional_on_learning_rate=0.001)
    text = text_of(data(posterior=posterior))
    for label in ("Conditional on learning rate 0.001", "Prior-dominated", "Exploratory: width 32"):
        assert label in text


def test_the_gain_is_told_with_its_interval(data: Maker) -> None:
    """Reasoning is a difference and efficiency a factor."""
    text = text_of(data())
    assert "+0.21 (+0.08 to +0.34)" in text
    assert "×1.18 (0.94 to 1.41)" in text


def test_the_budget_is_told_in_its_unit(data: Maker, records: SimpleNamespace) -> None:
    """Device-time in the user's unit, or trials where the budget counts them."""
    assert re.search(r"[\d.]+ of 60 cpu-min, 1.5 cpu-min held", text_of(data()))
    trials = records.study(budget_unit="trials", budget_total=200.0)
    assert "39 of 200 trials" in text_of(data(study=trials))


def test_a_study_without_a_posterior_says_so(data: Maker) -> None:
    """A search that has just begun has a page, and the page says what is missing."""
    text = text_of(data(**NO_DATA, recommendation=None))
    assert "There is no posterior yet" in text
    assert "The search is still running" in text


def test_a_posterior_in_which_nothing_learned_has_no_headline(
    data: Maker, records: SimpleNamespace
) -> None:
    """Without a learned scale there is no γ* to recommend, and the page says so."""
    posterior = dataclasses.replace(
        records.posterior((32,)), target=None, holdout=None, intercept=(), slope=()
    )
    text = text_of(data(posterior=posterior))
    assert "No scale has learned its trained items yet" in text
    assert "exploratory (resolved)" in text


@pytest.mark.parametrize(
    ("state", "words"),
    [(StudyState.INTERRUPTED, "the same command resumes it"), (StudyState.FAILED, "disk full")],
)
def test_an_unfinished_search_says_why(
    state: StudyState, words: str, data: Maker, records: SimpleNamespace
) -> None:
    """The stored reason stands on the page."""
    assert words in text_of(data(study=records.study(state=state, reason="disk full")))


def test_matrices_are_listed(data: Maker) -> None:
    """Each matrix of the recommendation stands with its std."""
    text = text_of(data())
    assert "down_proj245,6320.002174" in text.replace(" ", "")


def test_odd_documents_are_read_as_far_as_they_go(data: Maker) -> None:
    """A recommendation of another shape is left out, never a failure."""
    odd = {"gamma": "?", "gain": {"reasoning": True}, "matrices": [3, {"name": None, "std": "x"}]}
    stamp = datetime(2026, 11, 23, tzinfo=UTC)
    assert "not confirmed yet" in text_of(data(recommendation=RecommendationRecord(odd, stamp)))
    assert gamma_star_at(odd) is None
    assert number_at(None, "gamma") is None
    gain = {"gain": {"reasoning": 0.1, "reasoning_interval": [0.05, 0.15]}}
    assert estimate_at(gain, "gain", "reasoning") == Estimate(0.1, 0.05, 0.15)
    assert estimate_at({"gain": 2}, "gain") is not None
    assert rows_at({"matrices": "abc"}, "matrices") == []


def test_the_page_is_whole_and_accessible(data: Maker) -> None:
    """Language, title, headings in order, described figures, and every element closed."""
    page = Outline(render(data(), SERVED))
    assert page.open == []
    assert page.all("html")[0]["lang"] == "en"
    levels = [int(name[1]) for name, _ in page.elements if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    plots = [a for a in page.all("div") if a.get("class") == "plot"]
    assert len(plots) == 6
    assert all(plot["role"] == "img" and plot["aria-label"] for plot in plots)
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))


def test_the_file_stands_alone_and_stays_small(data: Maker) -> None:
    """No script, style or image is fetched, plotly.js stands once, and 6 MB are not passed."""
    page = render(data())
    outline = Outline(page)
    assert not [a for a in outline.all("script") if "src" in a]
    assert not outline.all("link")
    assert not outline.all("img")
    assert page.count("plotly.js v") == 1
    assert len(page.encode()) < 6_000_000


def test_figure_data_cannot_end_its_block(data: Maker, records: SimpleNamespace) -> None:
    """A hostile settings name stays text within its JSON."""
    hostile = "</script><script>alert(1)</script>"
    trials = [dataclasses.replace(t, settings=hostile) for t in data().trials]
    trials += records.trials()
    page = render(data(trials=trials), SERVED)
    assert "alert(1)</script>" not in page
    blocks = re.findall(r'<script type="application/json" id="[^"]+">(.*?)</script>', page)
    assert len(blocks) == 6
    assert all(json.loads(block) for block in blocks)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(st.sampled_from("<>&\"'/=ab é"), min_size=1, max_size=30))
def test_a_study_name_is_only_ever_text(data: Maker, records: SimpleNamespace, name: str) -> None:
    """Whatever its name, the page has the elements of any other."""
    known = Outline(render(data(**NO_DATA), SERVED))
    study = records.study(name=name, options={name: name}, reason=name)
    found = Outline(render(data(**NO_DATA, study=study), SERVED))
    plain = {"name": "b", "options": {"a": "b"}, "reason": "b"}
    same = Outline(render(data(**NO_DATA, study=records.study(**plain)), SERVED))
    assert [element for element, _ in found.elements] == [element for element, _ in same.elements]
    assert re.sub(r"\s+", " ", name).strip() in found.text
    assert known.open == found.open == []


def test_tags_escape_text_and_attributes() -> None:
    """Only what ``tag`` made is markup."""
    made = tag("p", "<b>", tag("b", "&"), class_='"', hidden=True, title=None)
    assert made == '<p class="&quot;" hidden>&lt;b&gt;<b>&amp;</b></p>'


def test_nested_options_are_listed_one_by_one(data: Maker, records: SimpleNamespace) -> None:
    """Each option that was set has a row; those left to their default have none."""
    given = {"lr": [0.001, 0.003], "corpus": None, "adam": {"eps": 1e-8}}
    text = text_of(data(study=records.study(options={"given": given, "identity": {"unit": "h"}})))
    assert "lr[0.001, 0.003]" in text
    assert "adam.eps1e-08" in text
    assert "corpus" not in text
    assert "identity" not in text


def test_the_plans_notes_are_told(data: Maker, records: SimpleNamespace) -> None:
    """What could not be carried over and what was cut, as text; an old plan has none."""
    notes = ["a mixture of 8 experts: the proxies have 4", "<b>γ 1.2</b> was cut"]
    page = Outline(render(data(study=records.study(plan={"notes": notes})), SERVED))
    assert "What the plan notes" in page.text
    assert all(note in page.text for note in notes)
    plans: list[dict[str, Any]] = [{}, {"notes": []}, {"notes": "odd"}, {"notes": None}]
    for plan in plans:
        assert "What the plan notes" not in text_of(data(study=records.study(plan=plan)))


def test_a_budget_of_trials_is_no_dashed_line(data: Maker, records: SimpleNamespace) -> None:
    """The ledger's caption speaks of the line only where the figure has it."""
    assert "the dashed line is the budget" in text_of(data())
    trials = text_of(data(study=records.study(budget_unit="trials", budget_total=200.0)))
    assert "dashed line" not in trials
    assert "the budget counts trials" in trials
