"""Every figure draws a believable study, survives a poor one, and says why it is empty."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import plotly.graph_objects as go
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from critical.dashboards.data import ReportData
from critical.dashboards.figures.curves import curves_figure
from critical.dashboards.figures.front import front_figure
from critical.dashboards.figures.gamma_star import gamma_star_figure
from critical.dashboards.figures.ledger import ledger_figure
from critical.dashboards.figures.narrowing import narrowing_figure
from critical.dashboards.figures.training import MAX_POINTS, MAX_TRIALS, training_figure
from critical.storage.records import MeasurementRecord, TrialState

Maker = Callable[..., ReportData]

FIGURES: dict[str, Callable[[ReportData], go.Figure]] = {
    "front": lambda d: front_figure(d.trials, d.posterior),
    "curves": lambda d: curves_figure(d.posterior, d.trials),
    "gamma-star": lambda d: gamma_star_figure(d.study, d.posterior),
    "narrowing": lambda d: narrowing_figure(d.study, d.narrowing),
    "ledger": lambda d: ledger_figure(d.study, d.ledger, d.charges),
    "training": lambda d: training_figure(d.trials, d.curves),
}
NOTHING: dict[str, Any] = {
    "trials": (),
    "curves": {},
    "posterior": None,
    "narrowing": (),
    "charges": (),
    "recommendation": None,
}


def names(figure: go.Figure) -> set[str]:
    """Return what the legend explains."""
    shown = [*figure.data, *figure.layout.shapes]
    return {mark.name for mark in shown if mark.name and mark.showlegend is not False}


def numbers(figure: go.Figure) -> list[float]:
    """Return every number of a figure's JSON, which must be strict JSON."""
    found: list[float] = []

    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is not JSON")

    def collect(node: object) -> None:
        if isinstance(node, dict):
            for child in node.values():
                collect(child)
        elif isinstance(node, list):
            for child in node:
                collect(child)
        elif isinstance(node, float):
            found.append(node)

    collect(json.loads(figure.to_json(), parse_constant=refuse))
    return found


@pytest.mark.parametrize("name", FIGURES)
def test_a_believable_study_is_drawn(name: str, data: Maker) -> None:
    """Each figure of a whole study holds traces and only finite numbers."""
    figure = FIGURES[name](data())
    assert len(figure.data) > 0
    assert all(math.isfinite(number) for number in numbers(figure))


@pytest.mark.parametrize("name", FIGURES)
def test_an_empty_study_is_told_in_a_sentence(name: str, data: Maker) -> None:
    """With nothing stored, each figure says why there is nothing to see."""
    figure = FIGURES[name](data(**NOTHING))
    assert not figure.data
    assert figure.layout.annotations[0].text.endswith(".")


@pytest.mark.parametrize("name", FIGURES)
def test_one_scale_without_a_target_is_drawn(
    name: str, data: Maker, records: SimpleNamespace
) -> None:
    """A posterior of one exploratory scale and no target leaves every figure whole."""
    posterior = dataclasses.replace(
        records.posterior((64,)),
        scales=(records.scale(64, learned=False),),
        target=None,
        holdout=None,
        intercept=(),
        slope=(),
    )
    study = records.study(target_width=None, target_depth=None, target=None)
    figure = FIGURES[name](data(study=study, posterior=posterior))
    assert len(figure.data) > 0


def test_a_figure_is_the_same_twice(data: Maker) -> None:
    """The fan's discrepancy is not drawn at random."""
    whole = data()
    assert FIGURES["gamma-star"](whole).to_json() == FIGURES["gamma-star"](whole).to_json()


def test_the_front_explains_its_marks(data: Maker) -> None:
    """The legend names γ*, its plateau, references and what diverged."""
    shown = names(FIGURES["front"](data()))
    assert {"γ* of a scale", "its plateau", "reference", "diverged (set apart)"} <= shown
    assert "width 32 (exploratory)" in shown


def test_diverged_trials_do_not_squeeze_the_front(data: Maker) -> None:
    """A stored floor of −6 octaves is drawn just beside the other points."""
    figure = FIGURES["front"](data())
    drawn = [x for trace in figure.data for x in trace.x or () if x is not None]
    assert min(drawn) > -4.0


def test_a_study_in_which_everything_diverged_has_a_front(data: Maker) -> None:
    """Diverged trials alone are drawn, and no front line is."""
    trials = [t for t in data().trials if t.state is TrialState.DIVERGED]
    figure = front_figure(trials, None)
    assert "diverged (set apart)" in names(figure)


def test_exploratory_scales_are_named_so(data: Maker) -> None:
    """A scale that has not learned is told in its panel's title."""
    titles = [note.text for note in FIGURES["curves"](data()).layout.annotations]
    assert "width 32 (exploratory)" in titles
    assert "width 64" in titles


def test_arms_are_told_apart_by_their_settings(records: SimpleNamespace) -> None:
    """Where a width was searched under two settings, titles name them."""
    posterior = dataclasses.replace(
        records.posterior((64,)), scales=(records.scale(64), records.scale(64, settings="relaxed"))
    )
    titles = [note.text for note in curves_figure(posterior, ()).layout.annotations]
    assert {"width 64, target", "width 64, relaxed"} <= set(titles)


def test_the_target_shows_the_doubled_prior_and_the_holdout(data: Maker) -> None:
    """What the extrapolation assumes is drawn beside what it found."""
    shown = names(FIGURES["gamma-star"](data()))
    assert "90% with the slope's prior doubled" in shown
    assert "γ* at the target (prior-dominated)" in shown
    assert "held out: what the other scales predict" in shown


def test_without_a_target_the_widest_scale_is_named(data: Maker, records: SimpleNamespace) -> None:
    """The star stands for what a recommendation is for, under its true name."""
    posterior = records.posterior()
    target = dataclasses.replace(posterior.target, width=128, prior_dominated=False)
    study = records.study(target_width=None)
    whole = data(study=study, posterior=dataclasses.replace(posterior, target=target))
    assert "γ* at the widest scale" in names(FIGURES["gamma-star"](whole))
    assert FIGURES["narrowing"](whole).layout.yaxis.title.text == "γ* at the widest scale"


def test_a_budget_of_trials_has_no_line_of_device_time(
    data: Maker, records: SimpleNamespace
) -> None:
    """200 trials are no amount of device-time, so the ledger draws no limit."""
    study = records.study(budget_unit="trials", budget_total=200.0)
    assert "budget" not in names(FIGURES["ledger"](data(study=study)))
    assert "budget" in names(FIGURES["ledger"](data()))


def test_an_unknown_purpose_is_charged_too(data: Maker) -> None:
    """A purpose that this version does not know is stacked with the others."""
    charges = [dataclasses.replace(charge, purpose="rehearsal") for charge in data().charges]
    assert "rehearsal" in names(FIGURES["ledger"](data(charges=charges)))


def test_the_training_figure_stays_small(records: SimpleNamespace) -> None:
    """Of many long runs, some lines of some points are drawn."""
    trials = records.trials(per_scale=120, widths=(64,))
    curves = {
        trial.id: [MeasurementRecord(1 + i, 2.0, 0.5, 1.0) for i in range(500)] for trial in trials
    }
    figure = training_figure(trials, curves)
    lines = [trace for trace in figure.data if trace.mode == "lines" and trace.x[0] is not None]
    assert len(lines) == MAX_TRIALS
    assert max(len(trace.x) for trace in lines) == MAX_POINTS


def test_the_legend_of_runs_tells_the_ends_that_there_are(data: Maker) -> None:
    """Dotted lines are explained by what ended them; open and completed runs have none."""
    whole = data()
    assert "stopped early or diverged" in names(FIGURES["training"](whole))
    failed = [dataclasses.replace(t, state=TrialState.FAILED) for t in whole.trials]
    assert "failed" in names(training_figure(failed, whole.curves))
    still = [dataclasses.replace(t, state=TrialState.INTERRUPTED) for t in whole.trials]
    assert names(training_figure(still, whole.curves)) == set()


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            st.floats(0.3, 1.2),
            st.one_of(st.none(), st.floats()),
            st.one_of(st.none(), st.floats()),
            st.sampled_from(TrialState),
        ),
        max_size=12,
    )
)
def test_whatever_a_trial_reports_the_json_is_finite(
    records: SimpleNamespace, told: list[tuple[float, float | None, float | None, TrialState]]
) -> None:
    """NaN and infinity in objectives never reach a page."""
    pattern = records.trials(per_scale=1, widths=(64,))[0]
    trials = [
        dataclasses.replace(
            pattern, number=i, gamma=gamma, reasoning=r, log2_efficiency=e, state=state
        )
        for i, (gamma, r, e, state) in enumerate(told)
    ]
    for figure in (front_figure(trials, None), curves_figure(records.posterior(), trials)):
        assert all(math.isfinite(number) for number in numbers(figure))
