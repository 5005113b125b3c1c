"""The recommendation: one JSON document from what is stored, at any width."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from critical.errors import RunError
from critical.recommend import matrix_stds, recommend
from critical.running.driving import run_in_process
from critical.running.search import Assignment, Search
from critical.targets.target import read_target
from critical.trials import Measurement, ProxyRun, Trainable
from critical.trials.watch import watch

Begin = Callable[..., Search]

KEYS = {
    "study", "rule", "gamma", "share", "target", "per_scale", "reference", "gain", "budget",
    "trials",
}  # fmt: skip


def test_the_document_is_the_widest_scales_without_a_target(finished: Search) -> None:
    """It has every key that scripts rely on, and is plain JSON."""
    document = recommend(finished.history.store, finished.history.study)
    assert json.loads(json.dumps(document, allow_nan=False)).keys() == document.keys()
    assert document.keys() >= KEYS
    assert document["gamma"].keys() >= {"median", "low", "high", "plateau", "verdict"}
    widest = document["per_scale"][-1]
    assert document["target"]["width"] == widest["width"] == 128
    assert document["gamma"]["median"] == widest["median"]
    assert document["gamma"]["low"] <= document["gamma"]["median"] <= document["gamma"]["high"]
    assert document["reference"] == {"gamma": 0.5}
    assert document["budget"] == {"unit": "trials", "total": 60, "spent": 60}
    assert document["trials"]["completed"] == 60
    assert document["matrices"] is None


def test_the_confirmed_gain_is_in_it(finished: Search) -> None:
    """The analytic trial's γ* beats the reference in both, clear of its interval's noise."""
    document = recommend(finished.history.store, finished.history.study)
    gain = document["gain"]
    assert gain["pairs"] == 3
    assert gain["width"] == 128
    assert gain["reasoning"] > 0.2
    assert gain["efficiency"] > 1
    assert "not confirmed on fresh seeds yet" not in document["conditions"]


def test_farther_from_the_scales_the_interval_is_wider(finished: Search) -> None:
    """Extrapolation is honest, and at one width always the same."""
    store, study = finished.history.store, finished.history.study
    spans = []
    for width in (128, 512, 4096, 32768):
        gamma = recommend(store, study, width)["gamma"]
        assert 0.3 <= gamma["low"] <= gamma["median"] <= gamma["high"] <= 1.2
        spans.append(gamma["high"] - gamma["low"])
    assert spans == sorted(spans)
    assert recommend(store, study, 4096) == recommend(store, study, 4096)


def test_a_model_gets_the_std_of_each_matrix(finished: Search, llama_config: Path) -> None:
    """Each is its own fan-in to the power of −γ."""
    target = read_target(llama_config)
    document = recommend(finished.history.store, finished.history.study, target)
    assert document["target"] == {"width": 512, "depth": 8, "model_type": "llama"}
    gamma = document["gamma"]["median"]
    assert document["matrices"] == matrix_stds(target, gamma)
    down = next(one for one in document["matrices"] if one["name"].endswith("down_proj.weight"))
    assert (down["fan_in"], down["count"]) == (1376, 8)
    assert down["std"] == pytest.approx(1376**-gamma)
    assert down["now"] == 0.02


def test_a_study_that_knows_nothing_says_how_to_go_on(begin: Begin) -> None:
    """Before the first trials have completed there is no γ*."""
    search = begin()
    with pytest.raises(RunError, match=r"'s' knows nothing of γ\* yet.*critical search again"):
        recommend(search.history.store, search.history.study)


def test_a_study_whose_every_trial_diverged_says_what_to_change(begin: Begin) -> None:
    """A search that goes on would only diverge again."""

    def exploding(run: ProxyRun) -> Iterator[Measurement]:
        yield Measurement(1, math.inf, 0.0)

    search = begin()
    run_in_process(search, exploding)
    with pytest.raises(RunError, match=r"every trial has diverged: search lower rates with --lr"):
        recommend(search.history.store, search.history.study)


def test_the_gain_is_the_same_from_python_as_from_json(finished: Search) -> None:
    """Intervals are lists in both."""
    document = recommend(finished.history.store, finished.history.study)
    assert json.loads(json.dumps(document)) == document


def test_what_it_rests_on_is_said(begin: Begin, train: Trainable) -> None:
    """One learning rate makes it conditional; pairs that have not run are missed."""
    search = begin(lr="2e-3", budget="20trials", precision=0.99)
    for _ in range(8):
        assignment = search.next()
        assert isinstance(assignment, Assignment)
        for watched in watch(train, assignment.run):
            search.record(assignment.number, watched)
        search.finish(assignment.number, 1.0)
    document = recommend(search.history.store, search.history.study)
    assert document["budget"]["spent"] == 8
    assert "conditional on learning rate 0.002" in document["conditions"]
    assert (document["gain"] is None) == ("not confirmed on fresh seeds yet" in said(document))
    run_in_process(search, train)
    assert "not confirmed on fresh seeds yet" not in said(
        recommend(search.history.store, search.history.study)
    )


def said(document: dict[str, Any]) -> list[str]:
    """The sentences on what a recommendation rests on."""
    conditions: list[str] = document["conditions"]
    return conditions
