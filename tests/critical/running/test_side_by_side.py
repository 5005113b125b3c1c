"""A search of two settings whose γ* is known: each is found, and no single one is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

from critical.api import recommendation
from critical.cli.advice import recommendation_view
from critical.cli.application import _status
from critical.cli.exporting import export_gamma
from critical.cli.output import Output
from critical.cli.progress import summary_line
from critical.cli.tables import plan_view, studies_table, trials_table
from critical.errors import ExportError, OptionError, RunError
from critical.identity import check_identity
from critical.opening import open_search
from critical.options import SearchOptions
from critical.preparation import prepare_search
from critical.recommend import recommend
from critical.running.driving import run_in_process
from critical.running.search import Assignment, Search
from critical.storage.records import Role, StudyState
from critical.storage.store import Store
from critical.targets.target import read_target
from critical.trials.watch import watch

ROOT = Path(__file__).parents[3]
TRIAL = ROOT / "tests" / "settings_trial.py"
BOTH = ("target", "relaxed")
MODULE = run_path(str(TRIAL))

Begin = Callable[..., Search]
OptunaStudy = Callable[[str], Any]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Search]:
    """A search of 44 trials at one width under both settings, as ``critical search`` does it."""
    folder = tmp_path_factory.mktemp("both")
    url = f"sqlite:///{folder}/critical.db"
    options = SearchOptions.model_validate(
        {
            "budget": "44trials", "trainable": f"{TRIAL}:train", "widths": (32,), "workers": 0,
            "settings": "relaxed,target", "sampler": "random", "storage": url,
            "work_dir": folder / "work",
        }
    )  # fmt: skip
    prepared = prepare_search(options)
    with Store.open(url) as store:
        search = open_search(store, prepared)
        run_in_process(search, prepared.trainable)
        store.set_state(search.history.study.id, StudyState.FINISHED)
        yield search
        search.close()


@pytest.fixture(scope="module")
def document(both: Search) -> dict[str, Any]:
    """What ``critical recommend --json`` says of it."""
    return recommend(both.history.store, both.history.study)


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Print as a command does, and return what standard output got, on one line."""

    def show(views: list[Any]) -> str:
        Output(as_json=False).show(*views)
        return " ".join(capsys.readouterr().out.split())

    return show


def test_both_are_found_within_their_intervals(document: dict[str, Any]) -> None:
    """Each γ* is within 0.03 of its own truth, and 0.15 from the other."""
    assert [one["settings"] for one in document["settings"]] == list(BOTH)
    for one in document["settings"]:
        true = known(one["settings"])
        assert one["gamma"]["median"] == pytest.approx(true, abs=0.03)
        assert one["gamma"]["low"] - 0.01 <= true <= one["gamma"]["high"] + 0.01
        assert one["gamma"]["verdict"] == "resolved"
        assert one["reference"] == {"gamma": 0.5}
        assert [scale["settings"] for scale in one["per_scale"]] == [one["settings"]]


def test_the_json_refuses_a_single_number(document: dict[str, Any]) -> None:
    """The documented keys stay and hold no γ*; verdict, agreement and conditions say why."""
    target, relaxed = document["settings"]
    assert document["headline"] is None
    assert document["agreement"] is False
    none = {"median": None, "low": None, "high": None, "plateau": None}
    assert document["gamma"] == {**none, "verdict": "settings disagree"}
    assert (document["share"], document["matrices"]) == (None, None)
    assert document["gain"] == target["gain"]
    assert document["per_scale"] == target["per_scale"]
    assert document["conditions"][0] == (
        f"the settings disagree on γ* (target {target['gamma']['median']:.3f}, relaxed "
        f"{relaxed['gamma']['median']:.3f}): choose the settings that you will train with: "
        "critical recommend default --settings target"
    )
    assert json.loads(json.dumps(document)) == document


def test_no_target_makes_it_one(both: Search, llama_config: Path) -> None:
    """Nor are the matrices of a model listed, and the list of studies in JSON has no number."""
    store, study = both.history.store, both.history.study
    found = recommend(store, study, read_target(llama_config))
    assert (found["headline"], found["share"], found["matrices"]) == (None, None, None)


def test_the_list_in_json_has_none_either(both: Search, capsys: pytest.CaptureFixture[str]) -> None:
    """Its keys stay, and its verdict says why."""
    assert _status(["studies", "--json", "--storage", both.history.store.url]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert listed["gamma"] == {
        "median": None, "low": None, "high": None, "verdict": "settings disagree"
    }  # fmt: skip


def test_the_terminal_refuses_it_too(document: dict[str, Any], shown: Callable[..., str]) -> None:
    """No headline and no matrices, but a line for each of the settings and for each gain."""
    text = shown(recommendation_view(document))
    assert text.startswith("γ* depends on the settings, so there is no single one")
    for one in document["settings"]:
        assert f"{one['settings']}: gain over the reference on 3 fresh seeds" in text
        assert f"│ {one['settings']} │ 32 │ {one['gamma']['median']:.3f} │" in text


def test_by_name_one_of_them_is_recommended(
    both: Search, llama_config: Path, shown: Callable[..., str]
) -> None:
    """Its own γ*, verdict, gain and matrices; that the others disagree is still said."""
    store, study = both.history.store, both.history.study
    found = recommend(store, study, read_target(llama_config), "relaxed")
    (own,) = (one for one in found["settings"] if one["settings"] == "relaxed")
    assert found["headline"] == "relaxed"
    assert found["gamma"] == own["gamma"]
    assert found["matrices"][0]["std"] == pytest.approx(512 ** -own["gamma"]["median"])
    assert found["conditions"][0].endswith("this one is for a model that trains under relaxed")
    assert "under settings relaxed, 90% interval" in shown(recommendation_view(found))
    again = recommendation("default", storage=store.url, target=llama_config, settings="relaxed")
    assert again == {**found, "state": again["state"]}


def test_relaxed_says_what_it_needs_of_the_built_in_trial_alone(
    both: Search, llama_config: Path
) -> None:
    """A trial of the user's own makes of the name what it likes."""
    store, study = both.history.store, both.history.study
    identity = {**study.options["identity"], "trainable": None, "mixture": {"reasoning": 1.0}}
    built_in = replace(study, options={"identity": identity})
    model = read_target(llama_config)
    needs = "rms_norm_eps 1e-05 and no gate, so change these too"
    found = recommend(store, built_in, model, "relaxed")
    assert any(needs in sentence for sentence in found["conditions"])
    assert [any(needs in s for s in one["conditions"]) for one in found["settings"]] == [
        one["settings"] == "relaxed" for one in found["settings"]
    ]
    own = recommend(store, study, model, "relaxed")
    assert not any("gate" in sentence for sentence in own["conditions"])


def test_settings_that_were_not_searched_are_refused(both: Search) -> None:
    """The sentence names those that were."""
    with pytest.raises(OptionError, match=r"--settings carried were not .*: write target or rel"):
        recommend(both.history.store, both.history.study, settings="carried")


def test_an_export_writes_none_unasked(both: Search, llama_config: Path) -> None:
    """Where settings disagree it wants to be told which, or a γ."""
    url = both.history.store.url
    with pytest.raises(ExportError, match=r"disagree on γ\* \(target 0\.\d+, relaxed 0\.\d+\): n"):
        export_gamma("default", "hf", llama_config, None, None, url)
    star = recommendation("default", storage=url, target=llama_config, settings="relaxed")
    exported = export_gamma("default", "hf", llama_config, None, "relaxed", url)
    assert exported.origin.gamma == star["gamma"]["median"]
    assert export_gamma("default", "hf", llama_config, 0.7, None, url).origin.gamma == 0.7


def test_the_command_line_passes_the_settings_on(
    both: Search, llama_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the plan, the recommendation and the export; a γ and settings exclude each other."""
    store = ("--storage", both.history.store.url)
    search = ("search", "--budget", "44trials", "--trainable", f"{TRIAL}:train", "--widths", "32")
    plan = (*search, "--settings", "target,relaxed", "--dry-run", "--json", *store)
    assert _status(list(plan)) == 0
    arms = json.loads(capsys.readouterr().out)["plan"]["arms"]
    assert [arm["settings"] for arm in arms] == list(BOTH)
    assert _status(["recommend", "default", "--settings", "relaxed", "--json", *store]) == 0
    assert json.loads(capsys.readouterr().out)["headline"] == "relaxed"
    export = ["export", "default", "--to", "hf", "--config", str(llama_config), *store]
    assert _status([*export, "--settings", "relaxed", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gamma"] > 0.8
    assert _status(export) == 2
    assert "name those that you train under, as in --settings target" in capsys.readouterr().err
    assert _status([*export, "--settings", "relaxed", "--gamma", "0.7"]) == 2
    assert "--gamma and --settings exclude each other" in capsys.readouterr().err


def test_each_has_its_own_references_search_and_confirmation(both: Search) -> None:
    """The same of each, on the same seeds, to the end of the shared budget."""
    own = {
        name: [trial for trial in both.history.trials if trial.settings == name] for name in BOTH
    }
    assert {trial.arm for trial in both.history.trials} == {"w32/target", "w32/relaxed"}
    for role in Role:
        target, relaxed = ([t for t in own[name] if t.role is role] for name in BOTH)
        assert abs(len(target) - len(relaxed)) <= 1
        shared = min(len(target), len(relaxed))
        assert [t.seed for t in target][:shared] == [t.seed for t in relaxed][:shared]
    for name in BOTH:
        confirmed = [t for t in own[name] if t.role is Role.CONFIRMATION]
        assert [t.gamma for t in confirmed[::2]] == [0.5] * both.plan.pairs
        assert confirmed[1].gamma == pytest.approx(known(name), abs=0.04)


def test_each_has_its_own_optuna_study(begin: Begin, optuna_study: OptunaStudy) -> None:
    """Named after the arm, beside the target's."""
    search = begin(settings="target,muon", budget="12trials")
    assert [arm.name for arm in search.plan.arms] == ["w32/target", "w32/muon"]
    assert optuna_study("s/w32/muon").metric_names == ["reasoning", "log2_efficiency"]


def test_lists_and_progress_tell_them_apart(both: Search, shown: Callable[..., str]) -> None:
    """A column of settings, no γ* in the list of studies, each one's in the progress line."""
    store, history = both.history.store, both.history
    plan = shown(plan_view(both.plan, "default", history.budget))
    assert "3 confirmation pairs under each settings" in plan
    assert "│ – │ – │ settings disagree │" in shown([studies_table(store.studies())])
    table = shown([trials_table(history.trials)])
    assert "┃ settings ┃" in table
    assert "│ 32 │ relaxed │" in table
    assert "γ* target 0." in summary_line(both, 1)
    assert "], relaxed 0." in summary_line(both, 1)


def test_a_precision_must_be_reached_under_every_settings(both: Search) -> None:
    """The worse of the two decides."""
    losses = [
        scale.expected_loss
        for name in BOTH
        if (scale := both.belief.widest_scale(name)) is not None
    ]
    assert len(losses) == 2
    assert both.belief.is_precise(max(losses) + 1e-9)
    assert not both.belief.is_precise(max(losses))


def test_what_is_known_of_one_is_told_before_the_other_is(begin: Begin) -> None:
    """Asked for the other by name, the error says how to go on."""
    search = begin(settings="target,relaxed", budget="30trials")
    store, study = search.history.store, search.history.study
    while not (search.posterior and search.posterior.scales):
        assignment = search.next()
        assert isinstance(assignment, Assignment)
        for watched in watch(MODULE["train"], assignment.run):
            search.record(assignment.number, watched)
        search.finish(assignment.number, 1.0)
    found = recommend(store, study)
    assert [one["settings"] for one in found["settings"]] == ["target"]
    assert (found["headline"], found["agreement"]) == ("target", None)
    assert found["gamma"]["verdict"] != "settings disagree"
    with pytest.raises(RunError, match=r"knows nothing of γ\* under --settings relaxed yet: run"):
        recommend(store, study, settings="relaxed")


def test_a_study_goes_on_with_its_settings_only(both: Search) -> None:
    """And one that was made before there was a choice, with the target's alone."""
    study = both.history.study
    identity = study.options["identity"]
    assert identity["settings"] == ["target", "relaxed"]
    with pytest.raises(
        OptionError, match=r"exists with settings target,relaxed: give the same --s"
    ):
        check_identity(study, {**identity, "settings": ["target"]}, "here")
    older = {k: v for k, v in identity.items() if k not in ("settings", "proxy")}
    before = replace(study, options={"identity": older})
    check_identity(before, {**identity, "settings": ["target"], "proxy": "built-in"}, "here")
    with pytest.raises(OptionError, match=r"exists with settings target: give the same --settings"):
        check_identity(before, identity, "here")
    with pytest.raises(OptionError, match=r"exists with proxy built-in: give the same --proxy"):
        check_identity(before, {**identity, "settings": ["target"], "proxy": "hf"}, "here")


def known(settings: str) -> float:
    """The trial's own answer at width 32."""
    found: float = MODULE["critical_gamma"](32, settings)
    return found
