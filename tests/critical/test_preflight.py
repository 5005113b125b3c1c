"""Pre-flight: which γ are cut before a search, and how that is told, stored and kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from math import isclose
from pathlib import Path
from typing import Any

import pytest

from critical.cli.application import _status
from critical.errors import OptionError
from critical.opening import open_search
from critical.plan import Arm, Plan
from critical.planning import plan_search
from critical.preflight import NARROWEST, STEP, checked
from critical.preparation import Prepared
from critical.running.driving import run_in_process
from critical.running.search import Search
from critical.storage.store import Store
from critical.trials import ProxyRun, Scale, Trainable
from critical.trials.preflight import inspect, judge
from critical.trials.training import TrainingRecipe

Prepare = Callable[..., Prepared]
RECIPE = TrainingRecipe(None, {"reasoning": 0.75, "memory": 0.25}, batch_tokens=144)
BUILT_IN = {
    "trainable": None,
    "mixture": "reasoning=0.75,memory=0.25",
    "tokens": 6000,
    "batch": 144,
}
SLOW = 1e-3
"""A learning rate at which weights drawn with γ 0 are not undone in ``SHORT`` steps."""
SHORT = 90


def plan(*widths: int, rates: tuple[float, ...] = (4e-3,), reference: float = 0.5) -> Plan:
    """A plan of short runs."""
    scales = (Scale(width, 2, width // 16, SHORT * 144) for width in widths)
    arms = tuple(Arm(scale, "target", 1.0) for scale in scales)
    return Plan(arms, rates, (0,), 0, reference, "cpu", 0, 1.0, ("a note",))


def with_eps(eps: float) -> TrainingRecipe:
    """The recipe with another ε of its norms."""
    return replace(RECIPE, architecture=replace(RECIPE.architecture, norm_eps=eps))


def test_the_default_interval_is_searched_whole() -> None:
    """Nothing is cut or said, and the look is charged."""
    found, seconds = checked(RECIPE, plan(16, 64), (0.3, 1.2))
    assert found == replace(plan(16, 64), interval=(0.3, 1.2))
    assert seconds > 0


def test_weights_too_large_are_cut_up_to_the_first_step_that_can_start() -> None:
    """The note tells the last γ that cannot, with its width and settings; all arms keep one end."""
    given = plan(16, 64, rates=(SLOW / 2, SLOW))
    found, _ = checked(RECIPE, given, (0.0, 1.2))
    assert found.interval is not None
    low, high = found.interval
    assert high == 1.2
    assert low > 0
    assert isclose(low / STEP, round(low / STEP))

    def reasons(gamma: float) -> list[str | None]:
        runs = [ProxyRun(gamma, SLOW, arm.scale, 0) for arm in given.arms]
        return [judge(inspect(RECIPE, run)) for run in runs]

    assert reasons(low) == [None, None]
    at_the_cut = reasons(low - STEP)
    width, reason = next((w, r) for w, r in zip((16, 64), at_the_cut, strict=True) if r)
    assert found.findings == (
        f"γ below {low:g} is cut: at γ {low - STEP:g}, width {width} and settings target, {reason}",
    )
    assert found.notes == ("a note", *found.findings)


def test_a_cut_at_the_other_end_is_told_alike() -> None:
    """At γ so great that weights underflow the upper end is cut."""
    found, _ = checked(RECIPE, plan(16), (0.3, 40.0))
    assert found.interval is not None
    assert found.interval[0] == 0.3
    assert found.findings[0].startswith(f"γ above {found.interval[1]:g} is cut: at γ ")
    assert "no gradient reaches any weight matrix" in found.findings[0]


@pytest.mark.parametrize(("eps", "gamma"), [(1e-5, 3.0), (1e-2, 1.2)])
def test_a_big_epsilon_is_a_finding_and_cuts_nothing(eps: float, gamma: float) -> None:
    """Runs start from saturated norms, too; of several arms the most saturated one is named."""
    found, _ = checked(with_eps(eps), plan(16, 32), (0.3, gamma))
    assert found.interval == (0.3, gamma)
    (finding,) = found.findings
    assert finding.startswith(
        f"at γ {gamma:g}, width 32 and settings target, norms are saturated by their ε (output RMS"
    )


def test_each_settings_has_a_finding_of_its_own() -> None:
    """Relaxed norms have an ε of 1e-12 and are saturated nowhere; the target's are."""
    target = plan(16)
    both = tuple(replace(target.arms[0], settings=name) for name in ("target", "relaxed"))
    found, _ = checked(with_eps(1e-2), replace(target, arms=both), (0.3, 1.2))
    assert found.interval == (0.3, 1.2)
    assert [finding.split(", norms")[0] for finding in found.findings] == [
        "at γ 1.2, width 16 and settings target"
    ]
    carried = replace(with_eps(1e-2), target_width=4096)
    arms = (*both, replace(target.arms[0], settings="carried"))
    found, _ = checked(carried, replace(target, arms=arms), (0.4, 1.2))
    named = [finding.split(", norms")[0].rpartition(" ")[2] for finding in found.findings]
    assert {"target", "carried"} == set(named)


@pytest.mark.parametrize(("reference", "said"), [(0.02, True), (0.5, False)])
def test_a_reference_in_what_is_cut_is_told(reference: float, said: bool) -> None:
    """It is run all the same, because the target has it now."""
    found, _ = checked(RECIPE, plan(32, rates=(SLOW,), reference=reference), (0.0, 1.2))
    sentence = f"the reference γ {reference:.3f} lies in what is cut: it is run all the same"
    assert (sentence in found.notes) == said
    assert len(found.findings) == 1 + said


@pytest.mark.parametrize("interval", [(0.0, 0.15), (0.0, 0.1)])
def test_an_interval_of_which_nothing_is_left_is_refused(interval: tuple[float, float]) -> None:
    """In one sentence: the interval, what was found and where, and what to write instead."""
    with pytest.raises(
        OptionError,
        match=rf"^--interval 0,{interval[1]:g} has no {NARROWEST:g} of γ in which a run can start, "
        r"for at γ 0(\.05)?, width 32 and settings target, the loss begins at .*: write other γ, "
        r"as in --interval 0\.3,1\.2, or more --tokens$",
    ):
        checked(RECIPE, plan(32, rates=(1e-4,)), interval)


def test_what_is_left_is_planned_and_charged(prepare: Prepare) -> None:
    """Planning a search by the built-in trial looks first; a trial of the user's own is not."""
    cut = prepare(**BUILT_IN, widths=(32,), lr=(SLOW,), interval=(0.0, 1.2))
    planned, seconds = plan_search(cut)
    assert planned.interval is not None
    assert planned.interval[0] > 0
    assert planned.findings
    assert seconds > 0
    own, nothing = plan_search(prepare(interval=(0.0, 1.2)))
    assert (own.interval, own.findings, nothing) == (None, (), 0.0)


def test_the_search_keeps_to_what_is_left(prepare: Prepare, store: Store, train: Trainable) -> None:
    """Its trials and its posterior do; the identity stays as typed, and the study goes on."""
    options: dict[str, Any] = {
        **BUILT_IN, "widths": (32,), "lr": (SLOW,), "interval": (0.0, 1.2), "budget": "6trials",
    }  # fmt: skip
    search = open_search(store, prepare(**options))
    interval = search.plan.interval
    assert interval is not None
    assert interval[0] > 0
    run_in_process(search, train)
    study = search.history.study
    assert study.interval == interval == search.belief.spec.interval
    assert study.options["identity"]["interval"] == [0.0, 1.2]
    searched = [trial.gamma for trial in search.history.trials if trial.role == "search"]
    assert searched
    assert all(interval[0] <= gamma <= interval[1] for gamma in searched)
    search.close()

    grown: Search = open_search(store, prepare(**options | {"budget": "30trials"}))
    assert (grown.plan.interval, grown.plan.findings) == (interval, search.plan.findings)
    assert set(grown.plan.findings) <= set(grown.plan.notes)
    assert grown.history.study.interval == interval
    grown.close()


def test_plans_of_before_are_read() -> None:
    """A stored plan without an interval has none, and one with it survives."""
    document = plan(16).to_document()
    del document["interval"], document["findings"]
    assert Plan.from_document(document) == plan(16)
    found = replace(plan(16), interval=(0.1, 1.2), findings=("γ below 0.1 is cut",))
    assert Plan.from_document(json.loads(json.dumps(found.to_document()))) == found


def test_a_dry_run_shows_what_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As JSON and in the notes of the table, with nothing stored."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CRITICAL_STORAGE", raising=False)
    command = [
        "search", "--dry-run", "--budget", "6trials", "--widths", "32", "--interval", "0,1.2",
        "--mixture", "reasoning=0.75,memory=0.25", "--tokens", "6000", "--lr", "1e-3",
    ]  # fmt: skip
    assert _status([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)["plan"]
    assert 0 < document["interval"][0] < document["interval"][1] == 1.2
    assert _status(command) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"• γ below {document['interval'][0]:g} is cut: at γ" in printed
    assert not list(tmp_path.glob("*.db"))
    assert _status([*command, "--interval", "0,0.1"]) == 2
    assert "--interval 0,0.1 has no 0.1 of γ" in capsys.readouterr().err
