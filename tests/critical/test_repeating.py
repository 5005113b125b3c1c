"""Repeats, whole and in process: the same trials, whatever interrupts them, and the refusals."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from sqlalchemy import update
from tokenizers import Tokenizer, models, pre_tokenizers

from critical.api import run_search
from critical.comparison import compare
from critical.errors import OptionError
from critical.opening import enter_study, open_search
from critical.options import RepeatOptions
from critical.plan import BASE_TOKENS, Plan
from critical.planning import planned_search
from critical.preparation import Prepared
from critical.repeating import prepare_repeat
from critical.running.driving import run_in_process
from critical.running.search import Assignment, Search
from critical.storage.errors import StudyNotFound
from critical.storage.records import StudyRecord, TrialOutcome, TrialRecord, TrialState
from critical.storage.schema import Study
from critical.storage.store import Store
from critical.trials import Measurement, ProxyRun, Trainable
from critical.trials.loading import parse_trainable
from critical.trials.watch import watch

Prepare = Callable[..., Prepared]
Begin = Callable[..., Search]
OptunaStudy = Callable[[str], optuna.Study]
Run = Callable[..., dict[str, Any]]
TRIALS_ONLY = pytest.mark.usefixtures("without_posterior")

OWN = """
from dataclasses import replace
from pathlib import Path
from runpy import run_path
whole = run_path({path!r})["train"]
def train(run):
    for measurement in whole(run):
        {change}
        yield measurement
"""


@pytest.fixture
def run(tmp_path: Path, analytic: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Do what ``critical search`` does, in this process and an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CRITICAL_STORAGE", raising=False)

    def search(**options: object) -> dict[str, Any]:
        own = {} if "repeat" in options else {"trainable": analytic, "sampler": "random"}
        started = {"budget": "7trials", "study": "s", "widths": (32,), "workers": 0}
        return run_search(**(options if "repeat" in options else started | own | options))

    return search


@pytest.fixture
def own(tmp_path: Path, analytic: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write, or edit, a trial of the user's own, with a line that changes its measurements."""

    def write(change: str = "pass") -> str:
        text = OWN.format(path=analytic.rpartition(":")[0], change=change)
        (tmp_path / "own.py").write_text(text)
        for name in [name for name in sys.modules if name.startswith("critical_trainable_")]:
            monkeypatch.delitem(sys.modules, name)  # as in a new process
        return f"{tmp_path / 'own.py'}:train"

    return write


@pytest.fixture
def whole(analytic: str) -> Trainable:
    """The analytic trial as a repeat loads it."""
    return parse_trainable(analytic).load()


@pytest.fixture
def repeat(tmp_path: Path) -> Prepare:
    """Prepare to repeat the study ``s`` of the store, in process."""

    def prepared(**options: object) -> Prepared:
        given = {
            "repeat": "s",
            "storage": f"sqlite:///{tmp_path}/critical.db",
            "workers": 0,
            "work_dir": tmp_path / "work",
        }
        return prepare_repeat(RepeatOptions.model_validate(given | options))

    return prepared


def report(store: Store, prepared: Prepared, train: Trainable | None = None) -> dict[str, Any]:
    """Run a repeat to its end, and compare it with its original."""
    search = open_search(store, prepared)
    run_in_process(search, train or prepared.trainable)
    assert prepared.original is not None
    return compare(store, prepared.original, search.history.study)


def what(trials: list[TrialRecord]) -> list[tuple[object, ...]]:
    """What makes trials the same, in number order."""
    return [(t.arm, t.role, t.gamma, t.learning_rate, t.seed, t.state) for t in trials]


def same(of: str, trials: int) -> dict[str, object]:
    """The comparison of a repeat that came out as its original did."""
    return {
        "of": of, "trials": trials, "same": trials, "differing": [], "ended_otherwise": [],
        "left": 0, "environment": {},
    }  # fmt: skip


def run_one(search: Search, train: Trainable | None = None) -> None:
    """Let one trial end: of a trainable, or stopped before its first measurement."""
    assignment = search.next()
    assert isinstance(assignment, Assignment)
    number = assignment.number
    if train is None:
        search.history.end(number, TrialOutcome(TrialState.STOPPED, 1.0, "for a test"))
        return
    for watched in watch(train, assignment.run):
        search.record(number, watched)
    search.finish(number, 1.0)


def test_every_trial_is_run_again_and_comes_out_the_same(
    run: Run, store: Store, optuna_study: OptunaStudy
) -> None:
    """A new study with the same rows, charged and told to Optuna, with a posterior of its own."""
    first = run(budget="9trials", lr="1e-3,2e-3", interval="0.6,1.2")
    before = store.study("s"), store.trials(store.study("s").id)
    again = run(repeat="s")
    assert again["repeat"] == same("s", 9)
    assert (again["study"], again["state"]) == ("s-repeat", "finished")
    assert again["gamma"] == first["gamma"]
    assert again["budget"] == {"unit": "trials", "total": 9, "spent": 9}
    one, other = store.study("s"), store.study("s-repeat")
    given = one.options["given"] | {"study": None}
    assert other.options == {**one.options, "given": given, "repeats": "s"}
    assert Plan.from_document(other.plan).ladder == (1e-3, 2e-3)
    trials = store.trials(other.id)
    assert what(trials) == what(store.trials(one.id))
    assert store.ledger(other.id).spent_seconds > 0
    # A reference outside the interval is no trial of Optuna's, as it was none.
    entered = [t for t in trials if t.optuna_number is not None]
    assert [t.gamma for t in trials if t.optuna_number is None] == [0.5, 0.5]
    told = optuna_study("s-repeat/w32/target").get_trials()
    assert [t.params["gamma"] for t in told] == [t.gamma for t in entered]
    assert {t.state.name for t in told} == {"COMPLETE"}
    stored = store.latest_recommendation(other.id)
    assert stored is not None
    assert stored.document["repeat"] == again["repeat"]
    assert store.leases(other.id)[0].environment["versions"]["torch"]
    assert (store.study("s"), store.trials(one.id)) == before


@TRIALS_ONLY
def test_the_same_command_again_runs_what_the_original_gained(
    begin: Begin, repeat: Prepare, store: Store, whole: Trainable
) -> None:
    """Nothing where it gained nothing; a budget and a plan that have grown are taken over."""
    run_in_process(begin(), whole)
    assert report(store, repeat()) == same("s", 7)
    before = store.trials(store.study("s-repeat").id)
    assert open_search(store, repeat()).done
    run_in_process(begin(budget="12trials"), whole)
    assert report(store, repeat()) == same("s", 12)
    one, other = store.study("s"), store.study("s-repeat")
    assert what(store.trials(other.id)) == what(store.trials(one.id))
    assert store.trials(other.id)[:7] == before
    assert other.budget_total == one.budget_total == 12
    assert other.plan["seeds"] == one.plan["seeds"]
    assert len(store.studies()) == 2


def test_the_built_in_trial_is_the_same_to_the_bit(
    run: Run, store: Store, tmp_path: Path, llama_config: Path
) -> None:
    """Real training at one width for a target whose file is gone by then; nothing is timed."""
    config = tmp_path / "config.json"
    config.write_text(llama_config.read_text())
    run(
        budget="6trials", trainable=None, target=config, widths=(16,), lr=(4e-3,), tokens=3000,
        mixture="reasoning=1", batch=64,
    )  # fmt: skip
    config.unlink()
    assert run(repeat="s")["repeat"] == same("s", 6)
    study = store.study("s-repeat")
    assert (study.target_width, study.target_depth) == (512, 8)
    assert "timing" not in store.ledger(study.id).by_purpose
    curves = store.measurements(study.id)
    assert [len(curve) for curve in curves.values()] == [40] * 6


@TRIALS_ONLY
def test_what_an_edited_trial_does_otherwise_is_reported(
    begin: Begin, repeat: Prepare, own: Callable[[str], str], store: Store
) -> None:
    """By both numbers, the first token that differs and R then and now; the rest is the same."""
    run_in_process(begin(trainable=(named := own("pass"))), parse_trainable(named))
    gamma = store.trials(store.study("s").id)[3].gamma
    own(
        f"if run.gamma == {gamma!r} and measurement.tokens > 99_000: "
        "measurement = replace(measurement, reasoning=measurement.reasoning / 2)"
    )
    found = report(store, repeat())
    assert (found["trials"], found["same"]) == (7, 6)
    (one,) = found["differing"]
    assert (one["number"], one["original"], one["width"], one["gamma"]) == (3, 3, 32, gamma)
    assert 99_000 < one["tokens"] < 150_000
    then, now = one["reasoning"]
    assert now == pytest.approx(then / 2)


@TRIALS_ONLY
def test_extras_losses_and_lengths_are_compared_too(
    begin: Begin, repeat: Prepare, store: Store, own: Callable[[str], str]
) -> None:
    """Any number that differs anywhere makes a trial another."""
    named = own("pass")
    run_one(begin(trainable=named), parse_trainable(named))
    first = BASE_TOKENS // 500  # of the analytic trial's evaluations
    changes = {
        "measurement = replace(measurement, extras={'a': 1.0})": first,
        "measurement = replace(measurement, loss=measurement.loss * (1 + 1e-15))": first,
        f"if measurement.tokens == {first}: continue": first,
        "if measurement.tokens == run.scale.tokens: continue": BASE_TOKENS,
    }
    for number, (change, tokens) in enumerate(changes.items()):
        own(change)
        found = report(store, repeat(study=f"r{number}"))
        assert (found["trials"], found["same"]) == (1, 0), change
        assert [one["tokens"] for one in found["differing"]] == [tokens], change


def failing(when: Callable[[int], BaseException | None], train: Trainable) -> Trainable:
    """A trial whose run number n, from 0, raises ``when(n)`` in its middle."""
    started = iter(range(10**6))

    def trial(run: ProxyRun) -> Iterator[Measurement]:
        error = when(next(started))
        for number, one in enumerate(train(run)):
            if error is not None and number == 10:
                raise error
            yield one

    return trial


@TRIALS_ONLY
def test_failed_and_interrupted_trials_are_left_out(
    begin: Begin, repeat: Prepare, store: Store, whole: Trainable
) -> None:
    """Until the interrupted one has ended: then the same command runs it too."""
    errors = {3: ValueError("once"), 7: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        run_in_process(begin(budget="9trials"), failing(errors.get, whole))
    originals = store.trials(store.study("s").id)
    states = [t.state for t in originals]
    assert states.count(TrialState.COMPLETED) == 6
    assert (states[3], states[7]) == (TrialState.FAILED, TrialState.INTERRUPTED)

    assert report(store, repeat()) == same("s", 6)
    repeated = store.trials(store.study("s-repeat").id)
    assert what(repeated) == what([t for t in originals if t.state is TrialState.COMPLETED])
    assert [t.number for t in repeated] == list(range(6))

    run_in_process(begin(budget="9trials"), whole)
    assert report(store, repeat()) == same("s", 9)


@TRIALS_ONLY
def test_a_repeat_that_was_interrupted_goes_on(
    begin: Begin, repeat: Prepare, store: Store, whole: Trainable
) -> None:
    """By its user and by a death: each trial ends under its number, and none is run twice."""
    run_in_process(begin(), whole)
    with pytest.raises(KeyboardInterrupt):
        run_in_process(open_search(store, repeat()), failing({2: KeyboardInterrupt()}.get, whole))
    killed = open_search(store, repeat())
    killed.next()  # and its driver dies
    assert report(store, repeat()) == same("s", 7)
    study = store.study("s-repeat")
    assert what(store.trials(study.id)) == what(store.trials(store.study("s").id))
    assert [t.attempts for t in store.trials(study.id)] == [1, 1, 3, 1, 1, 1, 1]
    assert open_search(store, repeat()).done


@TRIALS_ONLY
def test_what_fails_again_and_again_is_given_up(
    begin: Begin, repeat: Prepare, store: Store, whole: Trainable
) -> None:
    """The others are run and compared; the next command tries it once more."""
    run_in_process(begin(), whole)
    gamma = store.trials(store.study("s").id)[4].gamma

    def broken(run: ProxyRun) -> Iterator[Measurement]:
        if run.gamma == gamma:
            raise ValueError("broken")
        return whole(run)

    found = report(store, repeat(), broken)
    states = [t.state.value for t in store.trials(store.study("s-repeat").id)]
    assert states == ["completed"] * 4 + ["failed"] * 2 + ["completed"] * 2
    assert (found["trials"], found["same"], found["left"]) == (6, 6, 1)
    assert report(store, repeat()) == same("s", 7)


SECOND = 0.3 + 0.9 * 0.42
"""γ of a search's second trial, after the reference, in its design."""


@TRIALS_ONLY
def test_what_ended_otherwise_is_not_compared(
    begin: Begin, repeat: Prepare, store: Store, whole: Trainable
) -> None:
    """A trial that diverges now is named with both ends; one that diverged then and now is same."""

    def exploding(*gammas: float) -> Trainable:
        def trial(run: ProxyRun) -> Iterator[Measurement]:
            for number, one in enumerate(whole(run)):
                lost = run.gamma in gammas and number == 5
                yield Measurement(one.tokens, float("nan"), 0.0) if lost else one

        return trial

    run_in_process(begin(), exploding(SECOND))
    third = store.trials(store.study("s").id)[2]
    found = report(store, repeat(), exploding(SECOND, third.gamma))
    assert (found["trials"], found["same"], found["left"]) == (6, 6, 0)
    (unlike,) = found["ended_otherwise"]
    assert (unlike["original"], unlike["states"]) == (2, ["completed", "diverged"])


@TRIALS_ONLY
def test_more_device_time_than_the_original_took_ends_no_repeat(
    begin: Begin, repeat: Prepare, store: Store
) -> None:
    """It is charged beyond the budget's total, an interrupted trial's rest too."""
    search = begin(budget="30cpu-s")
    for _ in range(4):
        run_one(search)
    slow = open_search(store, repeat())
    assert slow.history.budget.amount == 30
    for count in range(4):
        number = getattr(slow.next(), "number", -1)
        assert number == count
        slow.history.interrupt(number, 20.0, "its driver died")
        assert getattr(slow.next(), "number", -1) == number
        slow.history.end(number, TrialOutcome(TrialState.STOPPED, 0.0, "for a test"))
    assert slow.history.spent == 80
    assert slow.done


def test_a_repeat_is_named_after_its_original(begin: Begin, repeat: Prepare, store: Store) -> None:
    """By a name that is taken by nothing else, and by the same one again."""
    search = begin()
    run_one(search)
    begin(study="s-repeat")
    assert repeat().name == "s-repeat2"
    enter_study(store, repeat())
    assert repeat().name == "s-repeat2"
    assert repeat(study="mine").name == "mine"
    long = begin(study="x" * 100)
    run_one(long)
    assert repeat(repeat="x" * 100).name == "x" * 93 + "-repeat"


@TRIALS_ONLY
def test_a_repeat_can_be_repeated(
    begin: Begin, repeat: Prepare, store: Store, whole: Trainable
) -> None:
    """It is a study like any other."""
    run_in_process(begin(), whole)
    report(store, repeat())
    assert report(store, repeat(repeat="s-repeat")) == same("s-repeat", 7)


def test_a_repeat_is_made_from_the_store_and_not_from_files(
    begin: Begin, repeat: Prepare, llama_config: Path, tmp_path: Path, analytic: str
) -> None:
    """A target's file may have changed, and the trainable been named from another folder."""
    config = tmp_path / "config.json"
    config.write_text(llama_config.read_text())
    search = begin(
        target=config, slope_sd=0.05, seed=3, retries=7, work_dir=tmp_path / "a", ray_address="x"
    )
    run_one(search)
    config.write_text("{}")
    prepared = repeat(retries=1)
    assert prepared.target is not None
    assert prepared.target.width == 512
    assert prepared.reference_gamma == search.plan.reference_gamma
    assert (prepared.options.slope_sd, prepared.options.seed) == (0.05, 3)
    assert (prepared.options.retries, prepared.options.sampler) == (1, "random")
    assert prepared.options.trainable == analytic
    assert (prepared.options.work_dir, prepared.options.ray_address) == (tmp_path / "work", None)
    plan = planned_search(prepared)
    assert plan.arms == search.plan.arms
    assert plan.notes[-1].startswith("runs the trials of 's' again")


def test_a_repeat_and_a_search_do_not_go_on_as_one_another(
    begin: Begin, repeat: Prepare, prepare: Prepare, store: Store
) -> None:
    """Each sentence says what the study is and what to write."""
    run_one(begin())
    begin(study="other")
    with pytest.raises(OptionError, match=r"'s' in .* is no repeat of 's': name another with --st"):
        enter_study(store, repeat(study="s"))
    with pytest.raises(OptionError, match=r"'other' in .* is no repeat of 's'"):
        planned_search(repeat(study="other"))
    enter_study(store, repeat())
    with pytest.raises(
        OptionError, match=r"'s-repeat' in .* repeats 's': write --repeat s to go on with it, or an"
    ):
        enter_study(store, prepare(study="s-repeat"))


def test_without_a_trial_that_has_ended_there_is_nothing_to_repeat(
    begin: Begin, repeat: Prepare
) -> None:
    """Nor without the study."""
    search = begin()
    search.next()
    with pytest.raises(OptionError, match=r"'s' in .* has no trial that has ended, so there is"):
        repeat()
    with pytest.raises(StudyNotFound, match=r"no study 'nope' in .*: write one of 's'"):
        repeat(repeat="nope")


def test_a_corpus_that_has_changed_or_is_gone_is_refused(
    store: Store, prepare: Prepare, repeat: Prepare, tmp_path: Path
) -> None:
    """What the trials ran with is named by its digest."""
    text = tmp_path / "text.txt"
    text.write_text("one " * 2000)
    made = prepare(trainable=None, mixture="reasoning=0.5,text=0.5", corpus=text)
    plan = Plan.from_document(PLAN)
    run_one(open_search(store, made, planned=(plan, 0.0)))
    assert repeat().identity == made.identity
    text.write_text("two " * 2000)
    digest = made.identity["corpus"]
    with pytest.raises(
        OptionError,
        match=rf"'s' in .* cannot be repeated: it ran with corpus {digest}, and its options now "
        r"give corpus [0-9a-f]{64}: put back what it had",
    ):
        repeat()
    text.unlink()
    with pytest.raises(OptionError, match=r"corpus .*text.txt of study 's' does not exist here"):
        repeat()


def test_a_tokenizer_that_is_gone_is_refused(
    store: Store, prepare: Prepare, repeat: Prepare, tmp_path: Path
) -> None:
    """Without it the text cannot be made into the same tokens."""
    made = Tokenizer(models.WordLevel({"one": 0, "two": 1}, unk_token="one"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    text = tmp_path / "text.txt"
    text.write_text("one two " * 4000)
    given = {"mixture": "reasoning=0.5,text=0.5", "corpus": text}
    prepared = prepare(trainable=None, tokenizer=tmp_path / "tokenizer.json", **given)
    run_one(open_search(store, prepared, planned=(Plan.from_document(PLAN), 0.0)))
    assert repeat().identity == prepared.identity
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(OptionError, match=r"tokenizer .*json of study 's' does not exist here"):
        repeat()


PLAN = {
    "arms": [
        {
            "scale": {"width": 16, "depth": 2, "heads": 2, "tokens": 1000},
            "settings": "target",
            "trial_cost": 1.0,
        }
    ],
    "ladder": [], "seeds": [0], "pairs": 0, "reference_gamma": 0.5, "device": "cpu", "workers": 0,
    "cost": 6.0, "notes": [],
}  # fmt: skip


def test_a_trainable_that_is_gone_is_refused(
    begin: Begin, repeat: Prepare, own: Callable[[], str], tmp_path: Path
) -> None:
    """In a sentence that asks for no option that a repeat does not have."""
    run_one(begin(trainable=own()))
    (tmp_path / "own.py").unlink()
    with pytest.raises(OptionError, match=r"trainable .*own.py of study 's' does not exist any mo"):
        repeat()


def alter_options(store: Store, study: StudyRecord, options: dict[str, Any]) -> None:
    """Store other options, as another version would have."""
    with store._writing() as session:
        session.execute(update(Study).where(Study.id == study.id).values(options=options))


def test_a_study_of_a_gpu_is_not_repeated_without_one(
    begin: Begin, repeat: Prepare, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another device would come to other numbers; one of the CPU stays on the CPU."""
    search = begin()
    run_one(search)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert repeat().device == "cpu"
    study = search.history.study
    store.update_plan(study.id, dict(study.plan) | {"device": "cuda"})
    assert repeat().device == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(OptionError, match=r"'s' ran on a GPU and none was found: repeat it on a"):
        repeat()


def test_options_of_another_version_are_refused(
    begin: Begin, repeat: Prepare, store: Store
) -> None:
    """One that this version does not know might have decided what a trial does."""
    search = begin()
    run_one(search)
    options = dict(search.history.study.options)
    given = options["given"] | {"colour": "red"}
    alter_options(store, search.history.study, options | {"given": given})
    with pytest.raises(
        OptionError, match=r"'s' was stored by another version of Critical \('colour' is no option"
    ):
        repeat()
