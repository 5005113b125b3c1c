"""Preparation: what a search is from options and files, and which studies may go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch

from critical.errors import BudgetError, CriticalError, OptionError
from critical.identity import check_identity
from critical.opening import open_search
from critical.plan import Arm, Plan
from critical.planning import plan_if_new, plan_search
from critical.preparation import Prepared
from critical.running.search import Search
from critical.storage.records import StudyState
from critical.storage.store import Store
from critical.trials import Scale
from critical.trials.architecture import Architecture
from critical.trials.errors import TrialError
from critical.trials.loading import NamedTrainable
from critical.trials.training import TrainingRecipe

Prepare = Callable[..., Prepared]
Begin = Callable[..., Search]
PLAN = Plan((Arm(Scale(32, 2, 2, 1000), "target", 1.0),), (), (0,), 0, 0.5, "cpu", 0, 6.0, ())
WITHOUT_TEXT = {"trainable": None, "mixture": "reasoning=0.5,memory=0.5"}


def test_a_study_is_named_after_its_target(prepare: Prepare, llama_config: Path) -> None:
    """``default`` where there is none, and as the user wishes where a name is given."""
    assert prepare(study=None).name == "default"
    assert prepare(study=None, target=llama_config).name == "llama-d512-L8"
    assert prepare(target=llama_config).name == "s"


def test_the_reference_is_what_the_target_has_now(prepare: Prepare, llama_config: Path) -> None:
    """0.02 at width 512 is a rate of 0.627; without a target it is one half."""
    assert prepare().reference_gamma == 0.5
    assert prepare(target=llama_config).reference_gamma == pytest.approx(0.627, abs=1e-3)


def test_the_built_in_trial_takes_the_targets_shape(prepare: Prepare, llama_config: Path) -> None:
    """Its proportions, ε and tying are the target's; text is left out if it is not mixed."""
    recipe = prepare(target=llama_config, **WITHOUT_TEXT).trainable
    assert isinstance(recipe, TrainingRecipe)
    assert recipe.architecture == Architecture(1376 / 512, kv_ratio=0.5, norm_eps=1e-5)
    assert recipe.target_width == 512
    assert recipe.corpus is None
    assert isinstance(prepare().trainable, NamedTrainable)


def test_the_vocabulary_follows_from_corpus_and_tasks(prepare: Prepare, tmp_path: Path) -> None:
    """384 by default; token ids of the user's own, and a task's, come on top of the anchors'."""
    ids = tmp_path / "train.bin"
    np.arange(1, 8193, dtype="<u2").tofile(ids)
    text = {"trainable": None, "corpus": ids}
    recipe = prepare(**text, mixture="reasoning=1,text=1").trainable
    assert isinstance(recipe, TrainingRecipe)
    assert recipe.vocabulary == 128 + 8193
    recipe = prepare(**text, mixture="reasoning=1,addition=1,text=1", vocabulary=10_000).trainable
    assert isinstance(recipe, TrainingRecipe)
    assert recipe.vocabulary == 128 + 10_000 + 12
    recipe = prepare(trainable=None).trainable
    assert isinstance(recipe, TrainingRecipe)
    assert recipe.vocabulary == 384


def test_a_users_own_trial_is_planned_without_timing(prepare: Prepare) -> None:
    """Its cost is learned from its first runs."""
    plan, spent = plan_search(prepare())
    assert spent == 0
    assert [arm.trial_cost for arm in plan.arms] == [None]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_gpu_time_without_a_gpu_offers_cpu_time(prepare: Prepare) -> None:
    """The same amount on what there is."""
    with pytest.raises(BudgetError, match=r"64gpu-h needs a GPU.*write --budget 64cpu-h"):
        prepare(budget="64gpu-h")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "best"}, r"rule 'best'"),
        ({"target": "missing.json"}, r"missing.json does not exist"),
        ({**WITHOUT_TEXT, "mixture": "poetry=1"}, r"mixture source 'poetry' is not one of"),
        ({**WITHOUT_TEXT, "corpus": "x.txt"}, r"the mixture has no text: add text=0.5"),
        ({**WITHOUT_TEXT, "tokenizer": "t.json"}, r"--tokenizer is given, but the mixture has no"),
        ({**WITHOUT_TEXT, "text_field": "body"}, r"--text-field is given, but the mixture has no"),
        ({"trainable": None, "vocabulary": 512}, r"--vocabulary is for token ids, and no corpus"),
        ({"trainable": None, "tokenizer": "none.json"}, r"tokenizer none.json does not exist"),
        ({"trainable": None, "corpus": "missing.txt"}, r"corpus missing.txt does not exist"),
        ({"trainable": "no-colon"}, r"'no-colon' names no function: write --trainable FILE.py"),
    ],
)
def test_what_cannot_be_used_is_named(
    prepare: Prepare, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    """The first thing that is wrong is said, and nothing has been written."""
    with pytest.raises((CriticalError, TrialError), match=message):
        prepare(**options)
    assert list(tmp_path.iterdir()) == []


def test_a_plan_is_made_before_anything_is_written(prepare: Prepare, tmp_path: Path) -> None:
    """A budget under the minimum leaves no store behind."""
    with pytest.raises(BudgetError, match=r"budget 5trials is under.*write --budget 6trials"):
        plan_if_new(prepare(budget="5trials"))
    assert list(tmp_path.iterdir()) == []


def test_a_stored_study_is_not_planned_again(prepare: Prepare, begin: Begin) -> None:
    """Its scales and rates stay; a greater budget gives it more seeds and pairs."""
    plan = begin().plan
    assert plan_if_new(prepare()) is None
    assert plan_if_new(prepare(study="other")) is not None
    more = begin(budget="60trials").plan
    assert (more.arms, more.ladder) == (plan.arms, plan.ladder)
    assert more.seeds[:1] == plan.seeds
    assert (len(more.seeds), more.pairs) == (8, 4)
    assert begin(budget="60trials").plan == more


def test_workers_and_device_are_this_machines(begin: Begin) -> None:
    """A study goes on with as many workers as it is given now."""
    assert begin().plan.workers == 0
    assert begin(workers=3).plan.workers == 3


def test_an_opened_study_is_running(begin: Begin, store: Store) -> None:
    """Its state is stored, and timing, had there been any, is charged."""
    study = begin().history.study
    assert store.study("s").state is StudyState.RUNNING
    assert store.ledger(study.id).spent_seconds == 0
    assert study.budget_total == 7


def test_timing_is_charged(store: Store, prepare: Prepare) -> None:
    """It is device-time like any other."""
    prepared = prepare(budget="100cpu-s", **WITHOUT_TEXT)
    search = open_search(store, prepared, planned=(PLAN, 2.5))
    assert search.history.spent == 2.5
    assert search.history.ledger.by_purpose == {"timing": 2.5}
    assert search.history.remaining == 97.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interval": (0.4, 1.0)}, r"exists with interval 0.3,1.2: give the same --interval"),
        ({"budget": "60cpu-min"}, r"exists with a budget in trials: give the same --budget"),
        ({"target": True}, r"exists with no target: give the same --target"),
        ({"trainable": True}, r"trainable .*analytic_trial.py:train: give the same --trainable"),
        ({"widths": (32, 64)}, r"exists with widths 32: give the same --widths"),
        ({"lr": (1e-3,)}, r"exists with another lr: give the same --lr"),
        ({"rule": "knee"}, r"exists with rule balance: give the same --rule"),
        ({"seed": 1}, r"exists with seed 0: give the same --seed"),
        ({"weight_decay": 0.5}, r"exists with weight decay 0.1: give the same --weight-decay"),
        ({"budget": "6trials"}, r"has a budget of 7trials already: give that or more"),
    ],
)
def test_a_study_does_not_go_on_as_another(
    begin: Begin, analytic: str, llama_config: Path, options: dict[str, object], message: str
) -> None:
    """What would make its trials incomparable is refused, with what it has and a way out."""
    begin()
    others = {"target": llama_config, "trainable": analytic.replace(":train", ":critical_gamma")}
    options = {name: others.get(name, value) for name, value in options.items()}
    with pytest.raises(OptionError, match=rf"^study 's' .*{message}, or another name with --study"):
        begin(**options)


def test_a_study_does_not_go_on_with_other_tokens(
    store: Store, prepare: Prepare, tmp_path: Path
) -> None:
    """The corpus' digest tells another vocabulary of the same ids."""
    ids = tmp_path / "train.bin"
    np.arange(1, 8193, dtype="<u2").tofile(ids)
    text = {"trainable": None, "mixture": "reasoning=1,text=1", "corpus": ids}
    open_search(store, prepare(**text), planned=(PLAN, 0.0))
    open_search(store, prepare(**text, vocabulary=8193))
    with pytest.raises(OptionError, match=r"exists with corpus [0-9a-f]{64}: give the same --corp"):
        open_search(store, prepare(**text, vocabulary=8194))


def test_a_study_does_not_go_on_with_another_mixture(store: Store, prepare: Prepare) -> None:
    """Fractions are compared as they are scaled, however they were written."""
    open_search(store, prepare(**WITHOUT_TEXT), planned=(PLAN, 0.0))
    same = prepare(**{**WITHOUT_TEXT, "mixture": "memory=2,reasoning=2"})
    open_search(store, same)
    other = prepare(**{**WITHOUT_TEXT, "mixture": "reasoning=1"})
    with pytest.raises(
        OptionError, match=r"exists with mixture reasoning=0.5,memory=0.5: give the same --mixture"
    ):
        open_search(store, other)


def test_a_study_does_not_go_on_with_another_model(
    begin: Begin, llama_config: Path, tmp_path: Path
) -> None:
    """What the file is called and where it lies does not matter; what it says does."""
    begin(target=llama_config)
    text = llama_config.read_text()
    moved, changed = tmp_path / "moved.json", tmp_path / "changed.json"
    moved.write_text(text)
    changed.write_text(text.replace('"num_hidden_layers": 8', '"num_hidden_layers": 9'))
    begin(target=moved)
    with pytest.raises(OptionError, match=r"exists with a target of llama, width 512, depth 8"):
        begin(target=changed)


@pytest.mark.parametrize(
    ("before", "after", "options", "message"),
    [
        ('"llama"', '"qwen3"', {}, "exists with a target of llama.*give the same --target"),
        ('"hidden_act": "silu"', '"hidden_act": "gelu"', {}, "its proxies are built otherwise"),
        ('"hidden_act": "silu"', '"hidden_act": "gelu"', {"proxy": "hf"}, "are built otherwise"),
    ],
)
def test_a_study_does_not_go_on_with_another_architecture(
    store: Store,
    prepare: Prepare,
    llama_config: Path,
    tmp_path: Path,
    before: str,
    after: str,
    options: dict[str, object],
    message: str,
) -> None:
    """Of the same shape; an initializer that an export has changed is no other architecture."""
    options = {**WITHOUT_TEXT, **options}
    text = llama_config.read_text()
    assert before in text
    same, other = tmp_path / "same.json", tmp_path / "other.json"
    same.write_text(text.replace('"initializer_range": 0.02', '"initializer_range": 0.01'))
    other.write_text(text.replace(before, after))
    open_search(store, prepare(target=llama_config, **options), planned=(PLAN, 0.0))
    open_search(store, prepare(target=same, **options))
    with pytest.raises(OptionError, match=message):
        open_search(store, prepare(target=other, **options))


def test_a_study_of_an_older_version_does_not_go_on(store: Store, prepare: Prepare) -> None:
    """Its trials had other numbers; those of a user's own trial are what the user makes them."""
    prepared = prepare(**WITHOUT_TEXT)
    study = open_search(store, prepared, planned=(PLAN, 0.0)).history.study
    older = {k: v for k, v in prepared.identity.items() if k != "arithmetic"}
    before = replace(study, options={**study.options, "identity": older})
    with pytest.raises(
        OptionError, match="cannot go on, for it is of a version whose trials come to other numbers"
    ):
        check_identity(before, prepared.identity, "here")
    own = prepare(study="own")
    of_own = {k: v for k, v in own.identity.items() if k != "arithmetic"}
    check_identity(replace(study, options={"identity": of_own}), own.identity, "here")


def test_the_proxy_of_the_targets_own_family(prepare: Prepare, llama_config: Path) -> None:
    """Its configuration travels with the recipe, and what it lacks under these settings is said."""
    options = {**WITHOUT_TEXT, "target": llama_config, "proxy": "hf"}
    prepared = prepare(**options, settings="target,relaxed")
    recipe = prepared.trainable
    assert isinstance(recipe, TrainingRecipe)
    assert (recipe.model, recipe.target_width) == ("hf", 512)
    assert json.loads(recipe.hf_config or "")["hidden_size"] == 512
    assert [note for note in prepared.not_carried if "no gate" in note] == list(
        prepared.not_carried
    )


def test_what_the_proxies_lack_is_in_the_plan(
    prepare: Prepare, llama_config: Path, tmp_path: Path
) -> None:
    """A mixture of experts, for one; a plain Llama lacks nothing."""
    assert prepare(target=llama_config, **WITHOUT_TEXT).not_carried == ()
    sparse = tmp_path / "sparse.json"
    text = llama_config.read_text().replace('"llama"', '"mixtral"')
    sparse.write_text(text.replace("{", '{"num_local_experts": 8,', 1))
    options = {**WITHOUT_TEXT, "target": sparse, "budget": "60trials"}
    (lacks,) = prepare(**options).not_carried
    assert lacks.startswith("a mixture of 8 experts")
    read, found = plan_search(prepare(**options))[0].notes[:2]
    assert read.startswith("the target is a mixtral of width 512: 8 blocks")
    assert found == lacks


@pytest.mark.parametrize("targeted", [False, True])
def test_a_corpus_that_is_cut_is_in_the_plan(
    targeted: bool,
    prepare: Prepare,
    llama_config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is not read of it is no part of the search, and it is the same study all the same."""
    text = tmp_path / "long.txt"
    text.write_text("some words " * 600)
    options = {"corpus": text, "target": llama_config if targeted else None, "trainable": None}
    assert prepare(**options).not_carried == ()
    monkeypatch.setattr("critical.trials.text_files.MOST_BYTES", 5000)
    prepared = prepare(**options)
    assert prepared.not_carried == (
        f"of --corpus {text} the first 64 MiB are read and the rest is left out",
    )
    text.write_text(text.read_text()[:5000])
    assert prepare(**options).identity == prepared.identity


def test_the_version_of_transformers_is_part_of_its_own_proxies(
    prepare: Prepare, llama_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A family's code changes with it; the built-in proxy's study knows none."""
    own, built_in = (
        prepare(**WITHOUT_TEXT, target=llama_config, proxy=proxy) for proxy in ("hf", "built-in")
    )
    assert own.identity["target"]["transformers"] == metadata.version("transformers")
    assert "transformers" not in built_in.identity["target"]


def test_carried_is_refused_for_a_target_without_such_a_norm(
    prepare: Prepare, llama_config: Path, tmp_path: Path
) -> None:
    """Before anything is timed."""
    olmo = tmp_path / "olmo.json"
    olmo.write_text(llama_config.read_text().replace('"llama"', '"olmo2"'))
    with pytest.raises(TrialError, match="carried changes nothing in this target"):
        prepare(target=olmo, settings="target,carried", **WITHOUT_TEXT)


def test_a_refused_command_leaves_the_study_as_it_was(begin: Begin, store: Store) -> None:
    """Neither its state nor its budget changes."""
    before = store.set_state(begin().history.study.id, StudyState.FINISHED)
    with pytest.raises(OptionError, match="--interval"):
        begin(interval=(0.4, 1.0), budget="70trials")
    assert store.study("s") == before
    assert replace(before, budget_total=0).state is StudyState.FINISHED
