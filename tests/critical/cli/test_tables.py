"""Tables: what is stored, as the terminal shows it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rich.console import RenderableType

from critical.budget import Budget
from critical.cli.advice import recommendation_view
from critical.cli.failures import failures
from critical.cli.output import Output
from critical.cli.tables import (
    ledger_line,
    plan_view,
    studies_table,
    trials_table,
)
from critical.plan import BASE_TOKENS
from critical.recommend import recommend
from critical.running.search import Search
from critical.storage.records import StudySummary, TrialCounts, TrialState
from critical.targets.target import read_target


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Any:
    """Print renderables as a command does, and return what standard output got."""

    def show(*renderables: RenderableType) -> str:
        Output(as_json=False).show(*renderables)
        return capsys.readouterr().out

    return show


def test_a_plan_shows_its_scales_and_its_notes(finished: Search, shown: Any) -> None:
    """A trial of the user's own has no cost yet and its own learning rate."""
    plan = replace(finished.plan, notes=("one seed only",), workers=2, ladder=())
    text = shown(*plan_view(plan, "s", Budget(60, "trials")))
    assert "Plan of s, 60trials" in text
    assert f"{2 * BASE_TOKENS:,}" in text
    assert " ? " in text
    assert "learning rates the trial's own; seeds 0, 1, 2, 3; 3 confirmation pairs" in text
    assert "2 at once on cpu" in text
    assert "• one seed only" in text
    again = shown(
        *plan_view(replace(plan, workers=0, ladder=(1e-3, 2e-3)), "s", Budget(1, "cpu-h"))
    )
    assert "learning rates 0.001, 0.002" in again
    assert "in this process" in again


def test_studies_show_what_is_spent_and_found(finished: Search, shown: Any) -> None:
    """Stopped and diverged trials are spent too; a study without γ* has dashes."""
    (known,) = finished.history.store.studies()
    unknown = replace(
        known,
        latest=None,
        counts=TrialCounts(completed=3, stopped=1, diverged=1, failed=9),
        study=replace(known.study, name="other"),
    )
    timed = StudySummary(
        replace(known.study, name="timed", budget_unit="cpu-min", budget_total=600.0),
        90.0,
        TrialCounts(),
        None,
    )
    lines = shown(studies_table([known, unknown, timed])).splitlines()
    first, second, third = (
        next(line for line in lines if f" {name} " in line)
        for name in ("default", "other", "timed")
    )
    assert "60trials" in first
    assert "resolved" in first
    assert "5trials" in second
    assert "–" in second
    assert "1.5cpu-min" in third
    assert "10cpu-min" in third


def test_trials_are_one_a_row(finished: Search, shown: Any) -> None:
    """What a running trial has not got yet is a dash."""
    first = finished.history.trials[0]
    running = replace(first, state=TrialState.RUNNING, reasoning=None, learning_rate=2e-3)
    text = shown(trials_table([first, running]))
    assert text.count("reference") == 2
    assert "0.002" in text
    assert "running" in text


def test_the_ledger_is_one_line(finished: Search) -> None:
    """By purpose, with the number of charges and what is held."""
    store, study = finished.history.store, finished.history.study
    line = ledger_line(store.ledger(study.id))
    assert line.startswith("spent ")
    assert "in 60 charges (confirmation" in line
    assert line.endswith("; 0 held")


def test_reasons_are_text_and_never_markup(finished: Search, shown: Any) -> None:
    """A message may hold brackets and colons that a terminal library would take for its own."""
    reason = "KeyError: '[/red]' in [bold]x[/bold] :warning: (a.py, line 3)"
    failed = replace(finished.history.trials[0], state=TrialState.FAILED, reason=reason)
    (sentence,) = failures([failed, finished.history.trials[1]])
    assert sentence == f"trial 0 (width 32, γ 0.500) failed: {reason}"
    assert sentence in shown(sentence).replace("\n", "")


def test_a_recommendation_shows_all_of_its_document(
    finished: Search, shown: Any, llama_config: Any
) -> None:
    """γ*, its interval, each scale, the gain with its intervals, and every matrix."""
    document = recommend(finished.history.store, finished.history.study, read_target(llama_config))
    text = shown(*recommendation_view(document))
    assert f"γ* {document['gamma']['median']:.3f} at width 512, 90% interval" in text
    assert "reference γ 0.500" in text
    assert "gain over the reference on 3 fresh seeds at width 128" in text
    assert "model.layers.*.mlp.down_proj.weight" in text
    for scale in document["per_scale"]:
        assert f"{scale['median']:.3f}" in text


def test_what_was_not_measured_is_said(finished: Search, shown: Any) -> None:
    """No gain, one pair without an interval, an exploratory scale, and the conditions."""
    document = recommend(finished.history.store, finished.history.study)
    document["per_scale"][0]["learned"] = False
    bare = shown(*recommendation_view({**document, "gain": None, "conditions": ["so [it] is"]}))
    assert "gain over the reference: not measured on fresh seeds" in bare
    assert "exploratory" in bare
    assert "• so [it] is" in bare
    one = {**document["gain"], "pairs": 1, "reasoning_interval": None, "efficiency_interval": None}
    single = shown(*recommendation_view({**document, "gain": one}))
    assert "on 1 fresh seeds" in single
    assert "[" not in single
