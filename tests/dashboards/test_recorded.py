"""What trials recorded is drawn where there is any, and takes no room where there is none."""

from __future__ import annotations

import dataclasses
import html
import json
import math
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from critical.dashboards.data import ReportData
from critical.dashboards.figures.coordinates import MAX_GROUPS, Spot, coordinates_figure, lines
from critical.dashboards.figures.development import (
    chosen_matrices,
    development_figure,
    saturation_figure,
)
from critical.dashboards.figures.gains import Gain, gains_figure, medians
from critical.dashboards.figures.kinds import kind_label, source_losses
from critical.dashboards.figures.lines import MAX_LINES
from critical.dashboards.figures.recorded import parts_of
from critical.dashboards.pages.document import Frame
from critical.dashboards.report import render
from critical.storage.records import MeasurementRecord, Role, TrialRecord, TrialState
from critical.trials.mixture import Mixture
from critical.trials.tasks.registry import SOURCES

Maker = Callable[..., ReportData]
SERVED = Frame(plotly_address="/plotly.js", version="1")
PLATES = ("gains", "development", "saturation", "coordinates")
MATRICES = ("embedding", "0.attention.qkv_proj", "0.feed_forward.down_proj", "head")
FIGURES: dict[str, Callable[[ReportData], go.Figure | None]] = {
    "gains": lambda d: gains_figure(d.trials, d.last, d.posterior),
    "development": lambda d: development_figure(d.trials, d.curves),
    "saturation": lambda d: saturation_figure(d.trials, d.curves),
    "coordinates": lambda d: coordinates_figure(d.trials, d.curves),
}


def losses_of(trial: TrialRecord) -> dict[str, float]:
    """Held-out items gain from a greater γ, text loses, seeds differ by half a nat."""
    seed = 0.5 * trial.seed
    return {
        "loss_held_out": 2.0 - trial.gamma + seed,
        "loss_text": 1.0 + 0.2 * trial.gamma + seed,
        "loss_zebra/<b>": 0.5 + seed,
    }


def developed(trial: TrialRecord, place: int) -> dict[str, float]:
    """What a trial records at its evaluation of a place, 0 to 39."""
    extras: dict[str, float] = {}
    if place % 13 == 0:
        rank = trial.width * (1 - 0.4 * trial.gamma * math.sin(place / 13))
        for name in MATRICES:
            extras |= {f"stable_rank/{name}": rank, f"effective_rank/{name}": rank + 1}
            extras[f"condensation/{name}"] = 0.1 * trial.gamma * place / 39
        extras |= {"saturation/0.attention_norm": 1.2 - trial.gamma / 2, "saturation/norm": 0.999}
        extras |= {"sink/0": 0.2, "sink/1": 0.3 + trial.gamma / 4}
    for when, at in (("initial", 0), ("final", 39)):
        if place == at:
            extras |= {f"activation_{when}/{block}": trial.width**-trial.gamma for block in (0, 1)}
            extras |= {f"gradient_norm_{when}/{name}": 3.0 for name in MATRICES}
    return extras


def recorded(whole: ReportData, **changes: Any) -> ReportData:
    """Return a report's data whose trials are the built-in one's."""
    curves = {
        trial.id: [
            dataclasses.replace(one, extras=developed(trial, place))
            for place, one in enumerate(whole.curves[trial.id])
        ]
        for trial in whole.trials
    }
    last = {
        trial.number: dataclasses.replace(whole.curves[trial.id][-1], extras=losses_of(trial))
        for trial in whole.trials
    }
    return dataclasses.replace(whole, curves=curves, last=last, **changes)


def drawn(name: str, data: ReportData) -> go.Figure:
    """Return a figure that there must be."""
    figure = FIGURES[name](data)
    assert figure is not None
    return figure


def traces(figure: go.Figure, mode: str = "lines+markers") -> list[Any]:
    """Return what is drawn in a mode, without what only explains the legend."""
    return [trace for trace in figure.data if trace.mode == mode and trace.x[0] is not None]


@pytest.mark.parametrize("name", FIGURES)
def test_what_was_recorded_is_drawn(name: str, data: Maker) -> None:
    """Every figure holds lines, and its JSON is strict."""
    figure = drawn(name, recorded(data()))
    assert len(traces(figure)) + len(traces(figure, "markers")) > 3

    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is not JSON")

    json.loads(figure.to_json(), parse_constant=refuse)


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_recorded_has_no_figure(name: str, data: Maker) -> None:
    """A user's own trials, with other extras or none, and a study without trials."""
    assert FIGURES[name](data()) is None
    assert FIGURES[name](data(trials=(), curves={})) is None
    own = {"accuracy": 0.5, "stable_rank": 3.0, "saturation/norm": math.nan, "loss_": math.inf}
    curves = {
        key: [dataclasses.replace(one, extras=own) for one in curve]
        for key, curve in data().curves.items()
    }
    last = {trial.number: curves[trial.id][-1] for trial in data().trials}
    assert FIGURES[name](data(curves=curves, last=last)) is None


def test_the_page_has_a_section_for_what_there_is(data: Maker) -> None:
    """Four plates for the built-in trial, and neither plate nor heading where nothing is."""
    without, with_all = render(data(), SERVED), render(recorded(data()), SERVED)
    assert "Inside the runs" in with_all
    assert "Inside the runs" not in without
    for name in PLATES:
        assert f'id="figure-{name}"' in with_all
        assert f"figure-{name}" not in without
    only = dataclasses.replace(data(), last=recorded(data()).last)
    assert [f'id="figure-{name}"' in render(only, SERVED) for name in PLATES] == [True] + 3 * [
        False
    ]


def test_gains_are_paired_with_the_reference_of_the_seed(data: Maker) -> None:
    """What seeds differ by cancels; kinds are told in rows, and a user's name is only text."""
    figure = drawn("gains", recorded(data(), posterior=None))
    slopes = {"y": -1.0, "y4": 0.2, "y7": 0.0}  # of three scales, the first panel of each row
    for axis, slope in slopes.items():
        (points,) = (t for t in traces(figure, "markers") if t.yaxis == axis)
        assert list(points.y) == pytest.approx([slope * (x - 0.5) for x in points.x], abs=1e-3)
        assert figure.layout[axis.replace("y", "yaxis")].title.text in (
            "held-out compositions", "text", "zebra,<br>&lt;b&gt;",
        )  # fmt: skip


def test_a_reference_is_taken_at_its_best_rate(data: Maker) -> None:
    """Of a seed's references the one with the least validation loss, not the first or last."""
    pattern = data().trials[0]
    trials, last = [], {}
    for number, (role, rate, loss, held_out) in enumerate(
        [
            (Role.REFERENCE, 1e-3, 2.0, 7.0),
            (Role.REFERENCE, 2e-3, 1.0, 5.0),
            (Role.REFERENCE, 4e-3, 3.0, 1.0),
            (Role.SEARCH, 2e-3, 1.0, 4.0),
        ]
    ):
        trials.append(
            dataclasses.replace(pattern, number=number, id=number, role=role, learning_rate=rate)
        )
        last[number] = MeasurementRecord(9, loss, 0.5, 1.0, {"loss_held_out": held_out})
    figure = gains_figure(trials, last, None)
    assert figure is not None
    (points,) = traces(figure, "markers")
    assert list(points.y) == [-1.0]
    alone = [dataclasses.replace(trials[3], seed=5), *trials[:3]]
    assert gains_figure(alone, last, None) is None


def test_trials_at_another_rate_are_set_apart(data: Maker, records: SimpleNamespace) -> None:
    """They are hollow, and no part of the median."""
    whole = recorded(data())
    trials = [
        dataclasses.replace(t, learning_rate=0.1) if t.number % 2 else t for t in whole.trials
    ]
    figure = drawn("gains", dataclasses.replace(whole, trials=trials))
    symbols = {trace.marker.symbol for trace in traces(figure, "markers")}
    assert symbols == {None, "circle-open"}
    trial = records.trials()[5]
    far = [Gain(trial, 100.0, best_rate=False), Gain(trial, 1.0, best_rate=True)]
    assert medians(far) == [(trial.gamma, 1.0)]


def test_sources_stand_in_a_known_order() -> None:
    """Held-out items first, a task that this version does not know last."""
    names = ["loss_text", "accuracy_text", "loss_zebra", "loss_reasoning", "loss_held_out", "loss"]
    assert source_losses(names) == ["loss_held_out", "loss_reasoning", "loss_text", "loss_zebra"]


def test_a_tasks_rows_stand_together() -> None:
    """Held-out kinds, what is trained, what is contrasted; the default task is not named."""
    names = [
        "memory", "contrast/symmetric/symmetric", "symmetric", "held_out/symmetric/inferential",
        "deduction", "held_out/deduction/names", "held_out", "held_out/deduction/deeper",
        "zebra", "reasoning", "held_out/zebra", "contrast",
    ]  # fmt: skip
    assert [name.removeprefix("loss_") for name in source_losses(f"loss_{n}" for n in names)] == [
        "held_out", "reasoning", "held_out/symmetric/inferential", "symmetric",
        "contrast/symmetric/symmetric", "held_out/deduction/deeper", "held_out/deduction/names",
        "deduction", "memory", "contrast", "held_out/zebra", "zebra",
    ]  # fmt: skip


def test_the_built_in_tasks_have_names_for_people() -> None:
    """Each group that a mixture of all sources but text is scored on has a label of its own."""
    sources = [name for name in SOURCES if name != "text"]
    mixture = Mixture(dict.fromkeys(sources, 1 / len(sources)), None, batch_tokens=1024, seed=0)
    names = [group.source for group in mixture.validation()]
    labels = {kind_label(f"loss_{name}") for name in names}
    assert len(labels) == len(names) > len(sources)
    assert not any(re.search("_|/|,<br>held.out$", label) for label in labels)
    assert not labels & set(names)


@given(st.text(max_size=80), st.sampled_from(["", "held_out/", "contrast/"]))
def test_a_label_stays_beside_its_row(name: str, place: str) -> None:
    """Two lines of 22 characters at most, and no markup but the break between them."""
    lines_of = kind_label(f"loss_{place}{name}").split("<br>")
    assert len(lines_of) <= 2
    for line in lines_of:
        assert "<" not in line
        assert len(html.unescape(line.removesuffix(","))) <= 22


def test_gamma_is_told_below_every_column(data: Maker) -> None:
    """With rows of several tasks too, and at the foot alone."""
    figure = drawn("gains", recorded(data(), posterior=None))
    told = [axis.title.text for axis in figure.select_xaxes()]
    assert told == [None] * 6 + ["γ"] * 3


def test_development_is_drawn_at_the_widest_scale(data: Maker) -> None:
    """Three matrices across, three quantities down, each trial in its γ's colour."""
    figure = drawn("development", recorded(data()))
    titles = [note.text for note in figure.layout.annotations]
    assert titles == ["embedding", "0.attention.qkv_proj", "0.feed_forward.down_proj"]
    widest = [t for t in data().trials if t.width == 128]
    first = [trace for trace in traces(figure) if trace.yaxis in (None, "y")]
    assert len(first) == len(widest)
    ranks = {trace.y[0] for trace in first}
    assert ranks == {128.0}


def test_few_lines_are_drawn_of_many_trials(data: Maker, records: SimpleNamespace) -> None:
    """A panel stays readable and the page small."""
    trials = records.trials(per_scale=100, widths=(64,))
    curves = {
        trial.id: [
            MeasurementRecord(1000 * (place + 1), 2.0, 0.5, 1.0, developed(trial, place))
            for place in range(40)
        ]
        for trial in trials
    }
    figure = drawn("development", data(trials=trials, curves=curves))
    assert len(traces(figure)) == 9 * MAX_LINES
    assert len(figure.to_json()) < 150_000


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ([], []),
        (["head"], ["head"]),
        (["0.a", "0.b", "1.a", "1.b", "2.a", "2.b", "wte", "wpe"], ["wte", "1.a", "1.b"]),
        (["0.only"], ["0.only"]),
        (["a", "b", "c", "d"], ["a", "b", "c"]),
    ],
)
def test_three_matrices_stand_for_all(names: list[str], chosen: list[str]) -> None:
    """An embedding and the middle block's first and last, as far as there are any."""
    assert chosen_matrices(names) == chosen


def test_blocks_are_in_order() -> None:
    """The tenth after the second, and what is in no block last."""
    extras = dict.fromkeys(["k/head", "k/10.a", "k/2.b", "k/2.a", "other/0"], 1.0)
    curve = [MeasurementRecord(1, 1.0, 0.5, 1.0, extras)]
    assert parts_of([curve], "k") == ["2.b", "2.a", "10.a", "head"]


def test_the_extremes_of_norms_and_blocks_are_drawn(data: Maker) -> None:
    """The norm that ε restrains most, and the block with the greatest sink, by settings."""
    whole = recorded(data())
    figure = drawn("saturation", whole)
    gamma = {f"trial {t.number}": t.gamma for t in whole.trials}
    above = [trace for trace in traces(figure) if trace.yaxis in (None, "y")]
    below = [trace for trace in traces(figure) if trace.yaxis == "y2"]
    assert len(above) == len(below) > 3
    for trace in above:
        expected = min(1.2 - gamma[trace.name] / 2, 0.999)
        assert list(trace.y) == pytest.approx([expected] * len(trace.y), rel=1e-2)
    for trace in below:
        assert trace.y[0] == pytest.approx(0.3 + gamma[trace.name] / 4, rel=1e-2)
    relaxed = [
        dataclasses.replace(t, settings="relaxed") if t.number % 2 else t for t in whole.trials
    ]
    both = drawn("saturation", dataclasses.replace(whole, trials=relaxed))
    titles = [note.text for note in both.layout.annotations]
    assert titles == ["width 128, target", "width 128, relaxed"]


def test_without_sinks_the_norms_stand_alone(data: Maker) -> None:
    """A model that does not tell its attention leaves no empty row."""
    whole = recorded(data())
    curves = {
        key: [
            dataclasses.replace(
                one, extras={k: v for k, v in one.extras.items() if not k.startswith("sink")}
            )
            for one in curve
        ]
        for key, curve in whole.curves.items()
    }
    figure = drawn("saturation", dataclasses.replace(whole, curves=curves))
    assert [axis.title.text for axis in figure.select_yaxes()] == ["least norm's output RMS"]


def test_a_coordinate_check_takes_two_widths(data: Maker) -> None:
    """With one there is nothing to compare; with three every line has three medians."""
    whole = recorded(data())
    assert len(traces(drawn("coordinates", whole))[0].x) == 3
    one = [trial for trial in whole.trials if trial.width == 64]
    assert coordinates_figure(one, whole.curves) is None


@given(
    st.lists(
        st.builds(Spot, st.floats(0.3, 1.2), st.sampled_from([32, 64, 128]), st.floats(1e-6, 1e6)),
        max_size=30,
    )
)
def test_lines_join_medians_of_about_the_same_gamma(spots: list[Spot]) -> None:
    """A few lines in ascending γ, of two widths at least, each within what was measured."""
    extent = (0.3, 1.2)
    found = lines(spots, extent)
    assert len(found) <= MAX_GROUPS
    assert list(found) == sorted(found)
    half = 0.45 / MAX_GROUPS + 1e-9
    for gamma, line in found.items():
        assert len(line) > 1
        for width, value in line.items():
            near = [s.value for s in spots if s.width == width and abs(s.gamma - gamma) <= half]
            assert min(near) <= value <= max(near)


def test_one_gamma_alone_is_one_line() -> None:
    """References only: the group has their γ."""
    spots = [Spot(0.5, 32, 1.0), Spot(0.5, 64, 2.0), Spot(0.5, 64, 4.0)]
    assert lines(spots, (0.5, 0.5)) == {0.5: {32: 1.0, 64: 3.0}}


def test_diverged_and_unmeasured_trials_do_no_harm(data: Maker) -> None:
    """Trials without a last measurement, and numbers that are not finite, are left out."""
    whole = recorded(data())
    broken = {
        key: [dataclasses.replace(one, extras=dict.fromkeys(one.extras, math.nan)) for one in curve]
        if key % 2
        else []
        for key, curve in whole.curves.items()
    }
    lost = {t.number for t in whole.trials[::3] if t.role is not Role.REFERENCE}
    last = {number: one for number, one in whole.last.items() if number not in lost}
    curves = {**whole.curves, **{key: broken[key] for key in list(broken)[:20]}}
    figures = {
        name: drawn(name, dataclasses.replace(whole, curves=curves, last=last)) for name in FIGURES
    }
    numbers = {
        int(text.split()[1].rstrip(","))
        for trace in traces(figures["gains"], "markers")
        for text in trace.text
    }
    assert numbers == {
        t.number
        for t in whole.trials
        if t.number in last and t.state is TrialState.COMPLETED and t.role is Role.SEARCH
    }
