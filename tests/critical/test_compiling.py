"""Whether training steps are compiled: chosen once for a study, and kept to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from critical.api import run_prepared
from critical.compiling import as_planned, check_compiling, compiles
from critical.errors import OptionError
from critical.plan import Plan
from critical.planning import plan_search, planned_search
from critical.preparation import Prepared
from critical.storage.store import Store
from critical.trials.training import TrainingRecipe

Prepare = Callable[..., Prepared]


def costing(plan: Plan, seconds: float) -> Plan:
    """The plan with trials that take so long."""
    return replace(plan, arms=tuple(replace(arm, trial_cost=seconds) for arm in plan.arms))


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without one."""
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))


def test_it_is_compiled_where_that_pays(prepare_built_in: Prepare) -> None:
    """A process that trains half an hour at a shape, and not one that trains a minute."""
    prepared = prepare_built_in(budget="60trials")
    plan = plan_search(prepared)[0]
    assert not plan.compiled
    assert not compiles(prepared, costing(plan, 1.0))
    assert compiles(prepared, costing(plan, 60.0))
    assert not compiles(replace(prepared, workers=60), costing(plan, 60.0))
    assert not compiles(replace(prepared, device="cuda"), costing(plan, 60.0))


def test_the_user_may_say_otherwise(prepare_built_in: Prepare) -> None:
    """Either way."""
    on, off = (prepare_built_in(compile=choice) for choice in ("on", "off"))
    plan = plan_search(prepare_built_in())[0]
    assert compiles(on, costing(plan, 1.0))
    assert not compiles(off, costing(plan, 60.0))


def test_what_is_another_model_at_every_gamma_is_not_compiled(
    prepare_built_in: Prepare, llama_config: Path
) -> None:
    """It would be compiled anew for every trial."""
    carried = {"target": llama_config, "settings": ("target", "carried")}
    prepared = prepare_built_in(**carried, budget="60trials")
    plan = costing(plan_search(prepared)[0], 30.0)
    assert not compiles(prepared, plan)
    with pytest.raises(OptionError, match="--compile on cannot be had with --settings carried"):
        compiles(prepare_built_in(**carried, budget="60trials", compile="on"), plan)


def test_a_trial_of_the_users_own_is_never_compiled(prepare: Prepare) -> None:
    """It is theirs."""
    prepared = prepare(compile="on")
    plan = plan_search(prepared)[0]
    assert not plan.compiled
    assert as_planned(prepared, replace(plan, compiled=True)) is prepared


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_none_is_used(prepare_built_in: Prepare) -> None:
    """By default; who insists, or goes on with a compiled study, is told what to install."""
    prepared = prepare_built_in(budget="60trials")
    plan = costing(plan_search(prepared)[0], 30.0)
    assert not compiles(prepared, plan)
    with pytest.raises(OptionError, match="--compile on needs a C\\+\\+ compiler"):
        compiles(prepare_built_in(compile="on"), plan)
    with pytest.raises(OptionError, match="'s' was begun with compiled training steps"):
        check_compiling("s", replace(plan, compiled=True), prepared)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, in torch
def test_a_study_goes_on_as_it_was_begun(prepare_built_in: Prepare, store: Store) -> None:
    """Its trials are compiled, a greater budget leaves that, and another choice is refused."""
    run_prepared(prepare_built_in(budget="7trials", compile="on"))
    assert Plan.from_document(store.study("s").plan).compiled
    assert planned_search(prepare_built_in(budget="9trials")).compiled
    with pytest.raises(OptionError, match="'s' was begun with compiling: give --compile on"):
        planned_search(prepare_built_in(budget="7trials", compile="off"))


def test_the_trial_is_as_the_plan_has_it(prepare_built_in: Prepare) -> None:
    """And nothing else of what was prepared changes."""
    prepared = prepare_built_in()
    plan = plan_search(prepared)[0]
    compiled = as_planned(prepared, replace(plan, compiled=True))
    assert isinstance(compiled.trainable, TrainingRecipe)
    assert compiled.trainable.compiled
    assert as_planned(compiled, plan) == prepared
