"""Whole searches in process: γ* found, nothing lost or repeated, whatever interrupts them."""

from __future__ import annotations

import importlib.util
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator

import optuna
import pytest

from critical.errors import RunError
from critical.running.agenda import CONFIRMATION_SEEDS, Signal
from critical.running.driving import run_in_process
from critical.running.search import Assignment, Search
from critical.storage.records import Role, TrialOutcome, TrialState
from critical.trials import Measurement, ProxyRun, Trainable
from critical.trials.watch import watch

Begin = Callable[..., Search]
OptunaStudy = Callable[[str], optuna.Study]
OptunaState = optuna.trial.TrialState
TRIALS_ONLY = pytest.mark.usefixtures("without_posterior")
ARM = "s/w32/target"
BUDGET = 60
"""Trials of the finished search, see conftest."""


def critical_gamma(analytic: str, width: int) -> float:
    """The analytic trial's own answer."""
    spec = importlib.util.spec_from_file_location("analytic", analytic.rpartition(":")[0])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return float(module.critical_gamma(width))


def test_gamma_star_is_found_at_every_width(finished: Search, analytic: str) -> None:
    """Sixty trials find each width's γ* within 0.03, and say that it is resolved."""
    assert finished.posterior is not None
    assert [scale.width for scale in finished.posterior.scales] == [32, 64, 128]
    for scale in finished.posterior.scales:
        assert scale.gamma_star.median == pytest.approx(
            critical_gamma(analytic, scale.width), abs=0.03
        )
        assert scale.gamma_star.verdict == "resolved"
        assert scale.better > 0.9


def test_the_whole_budget_is_spent_and_every_scale_searched_alike(finished: Search) -> None:
    """All trials complete, and no scale has two search trials more than another."""
    trials = finished.history.trials
    assert len(trials) == BUDGET == finished.history.spent
    assert finished.history.remaining == 0
    assert all(trial.state is TrialState.COMPLETED for trial in trials)
    counts = Counter(t.width for t in trials if t.role is Role.SEARCH)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_references_run_first_and_once(finished: Search) -> None:
    """Each scale's references, on every seed, come before its first search trial."""
    for width in (32, 64, 128):
        roles = [t.role for t in finished.history.trials if t.width == width]
        count = roles.count(Role.REFERENCE)
        assert count == len(finished.plan.seeds) == 4
        assert roles[:count] == [Role.REFERENCE] * count


def test_confirmation_is_on_fresh_seeds_of_the_widest_scale(finished: Search) -> None:
    """The last runs are pairs at γ* and at the reference."""
    last = finished.history.trials[-6:]
    assert [t.role for t in last] == [Role.CONFIRMATION] * 6
    assert {t.width for t in last} == {128}
    assert [t.seed for t in last] == [CONFIRMATION_SEEDS + n for n in (0, 0, 1, 1, 2, 2)]
    assert {t.gamma for t in last[::2]} == {0.5}
    assert len({t.gamma for t in last[1::2]}) == 1


def test_the_ledger_is_what_the_trials_took(finished: Search) -> None:
    """Every trial has one charge, and nothing is held in the end."""
    ledger = finished.history.ledger
    took = [trial.device_seconds or 0.0 for trial in finished.history.trials]
    assert ledger.spent_seconds == pytest.approx(math.fsum(took))
    assert ledger.held_seconds == 0
    charges = finished.history.store.charges(finished.history.study.id)
    assert [charge.trial_number for charge in charges] == list(range(BUDGET))


def test_a_posterior_is_stored_after_every_trial(finished: Search) -> None:
    """The narrowing of γ* can be drawn, and its end is what the search says."""
    store, study = finished.history.store, finished.history.study
    steps = [step.trials for step in store.narrowing(study.id)]
    assert steps == sorted(steps)
    assert steps[-1] == BUDGET
    assert store.latest_posterior(study.id) == finished.posterior


def test_a_finished_search_has_nothing_left_to_do(finished: Search) -> None:
    """Asked again, it neither starts nor repeats anything."""
    assert finished.next() is Signal.DONE


def after(count: int, train: Trainable, error: BaseException) -> Trainable:
    """Return a trial that raises in the middle of its run number ``count``, from 0."""
    started = iter(range(10**6))

    def trial(run: ProxyRun) -> Iterator[Measurement]:
        fatal = next(started) == count
        for number, measurement in enumerate(train(run)):
            if fatal and number == 10:
                raise error
            yield measurement

    return trial


def open_trials(study: optuna.Study) -> list[int]:
    """Numbers of Optuna's trials that have not ended."""
    states = (OptunaState.RUNNING, OptunaState.WAITING)
    return [trial.number for trial in study.get_trials(states=states)]


@TRIALS_ONLY
@pytest.mark.parametrize("count", [0, 3, 6])
def test_an_interrupted_search_goes_on_where_it_stopped(
    count: int, begin: Begin, train: Trainable, optuna_study: OptunaStudy
) -> None:
    """Completed trials are kept as they are; the interrupted one ends under its own number."""
    first = begin()
    with pytest.raises(KeyboardInterrupt):
        run_in_process(first, after(count, train, KeyboardInterrupt()))
    stopped = first.history.trials[-1]
    assert stopped.number == count
    assert stopped.state is TrialState.INTERRUPTED
    assert stopped.reason == "interrupted by the user"
    curve = first.history.store.trial_measurements(stopped.id)
    assert len(curve) == 10
    assert stopped.device_seconds == curve[-1].device_seconds
    assert first.history.spent == count

    second = begin()
    assert second.history.trials == first.history.trials
    run_in_process(second, train)
    trials = second.history.trials
    assert trials[:count] == first.history.trials[:count]
    assert len(trials) == 7 == second.history.spent
    assert {t.state for t in trials} == {TrialState.COMPLETED}
    ended = trials[count]
    assert (ended.gamma, ended.seed, ended.attempts) == (stopped.gamma, stopped.seed, 2)
    whole = second.history.store.trial_measurements(ended.id)
    assert whole[:10] == curve
    assert [one.tokens for one in whole] == sorted({one.tokens for one in whole})
    assert ended.device_seconds is not None
    assert ended.device_seconds >= whole[-1].device_seconds > curve[-1].device_seconds
    assert open_trials(optuna_study(ARM)) == []
    states = Counter(t.state for t in optuna_study(ARM).get_trials())
    assert states == {OptunaState.COMPLETE: 7}


def record(search: Search, assignment: Assignment, train: Trainable, count: int) -> None:
    """Run so many measurements of a trial, and leave it running."""
    for _, watched in zip(range(count), watch(train, assignment.run), strict=False):
        search.record(assignment.number, watched)


def start(search: Search) -> Assignment:
    """Take the next trial."""
    assignment = search.next()
    assert isinstance(assignment, Assignment)
    return assignment


@TRIALS_ONLY
def test_what_a_killed_driver_left_running_goes_on(
    begin: Begin, train: Trainable, optuna_study: OptunaStudy
) -> None:
    """Killed over and over in the same reference, a search still completes it, as one trial."""
    for measured in (0, 5, 7):
        killed = begin()
        record(killed, start(killed), train, measured)
    search = begin()
    (orphan,) = search.history.trials
    assert (orphan.state, orphan.reason) == (TrialState.INTERRUPTED, "its driver died")
    assert orphan.attempts == 3
    curve = search.history.store.trial_measurements(orphan.id)
    assert len(curve) == 7
    assert orphan.device_seconds == pytest.approx(curve[-1].device_seconds)
    assert len(open_trials(optuna_study(ARM))) == 1

    run_in_process(search, train)
    counts = search.history.store.counts(search.history.study.id)
    assert (counts.completed, counts.failed, counts.running, counts.interrupted) == (7, 0, 0, 0)
    assert [t.role for t in search.history.trials].count(Role.REFERENCE) == 1
    assert open_trials(optuna_study(ARM)) == []


def dying(search: Search, assignment: Assignment, times: int) -> Assignment:
    """Let the worker of an attempt, and of the next ones, die so many times."""
    for _ in range(times):
        search.retry(assignment.number, 2.0, "its worker process died")
        found = search.next()
        assert isinstance(found, Assignment)
        assignment = found
    return assignment


@TRIALS_ONLY
def test_a_lost_attempt_is_made_again_and_then_given_up(begin: Begin, train: Trainable) -> None:
    """Two retries by default; each is charged, and only the last loss fails the trial."""
    search = begin(backoff=0)
    first = start(search)
    last = dying(search, first, 2)
    assert (last.number, last.run) == (first.number, first.run)
    search.retry(last.number, 2.0, "its worker process died")
    (failed,) = search.history.trials
    assert (failed.state, failed.attempts) == (TrialState.FAILED, 3)
    assert failed.reason == "its worker process died, 3 times"
    assert failed.device_seconds == 6.0
    run_in_process(search, train)
    assert search.history.spent == 7


@TRIALS_ONLY
def test_a_retry_waits_and_others_run_meanwhile(begin: Begin) -> None:
    """The wait doubles; what waits is neither begun anew nor forgotten."""
    search = begin(backoff=60.0, widths=(32, 64), budget="12trials")
    lost = start(search)
    search.retry(lost.number, 1.0, "its worker process died")
    other = start(search)
    assert other.number != lost.number
    assert search.next() is Signal.WAIT
    assert not search.done
    assert [t.number for t in search.history.interrupted] == [lost.number]


@TRIALS_ONLY
def test_want_of_memory_is_tried_again_and_another_error_is_not(
    begin: Begin, train: Trainable
) -> None:
    """An exception comes again as it came; memory may be there later."""
    search = begin(backoff=0)
    run_in_process(search, after(2, train, MemoryError("no more")))
    wanting = search.history.trials[2]
    assert (wanting.state, wanting.attempts) == (TrialState.COMPLETED, 2)
    charges = search.history.store.charges(search.history.study.id)
    (reason,) = [charge.reason for charge in charges if charge.reason]
    assert reason.startswith("MemoryError: no more (test_search.py, line ")


@TRIALS_ONLY
def test_a_hanging_trial_is_ended_and_goes_on(begin: Begin, train: Trainable) -> None:
    """After a wait that its pace makes improbable; the reason says where it hung."""
    hung: list[float] = []

    def hanging(run: ProxyRun) -> Iterator[Measurement]:
        for number, one in enumerate(train(run)):
            if number == 12 and not hung:
                hung.append(run.gamma)
                time.sleep(60)
            yield one

    search = begin(patience=0.2, backoff=0)
    run_in_process(search, hanging)
    trial = search.history.trials[0]
    assert (trial.state, trial.attempts) == (TrialState.COMPLETED, 2)
    charges = search.history.store.charges(search.history.study.id)
    (reason,) = [charge.reason for charge in charges if charge.reason]
    assert re.fullmatch(r"no measurement for .* s \(test_search.py, line \d+ in hanging\)", reason)


@TRIALS_ONLY
def test_what_cannot_be_paid_any_more_is_stopped(
    begin: Begin, optuna_study: OptunaStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted trial whose rest costs more than is left ends there."""
    search = begin(budget="10cpu-s")
    first = start(search)
    search.interrupt(first.number, 9.0, "interrupted by the user")
    again = begin(budget="10cpu-s")
    monkeypatch.setattr(again.history, "seconds", lambda _: 5.0)  # nothing has completed
    assert again.next() is not None
    stopped = again.history.trials[0]
    assert (stopped.state, stopped.device_seconds) == (TrialState.STOPPED, 9.0)
    assert stopped.reason == "what was left of the budget could not pay its rest"
    assert optuna_study(ARM).get_trials()[0].state is OptunaState.PRUNED


@TRIALS_ONLY
def test_a_stopping_search_begins_nothing(begin: Begin) -> None:
    """What runs finds a file that asks it to stop; what goes on later does not."""
    search = begin()
    running = start(search)
    assert not running.run.stop_requested()
    search.stop()
    assert running.run.stop_requested()
    assert search.next() is Signal.DONE
    search.interrupt(running.number, 1.0, "interrupted by the user")
    assert not start(begin()).run.stop_requested()


@TRIALS_ONLY
def test_a_trial_that_has_ended_leaves_no_files(begin: Begin, train: Trainable) -> None:
    """Nor do those of which a dead driver did not clean up after."""

    def saving(run: ProxyRun) -> Iterator[Measurement]:
        assert run.checkpoint_dir is not None
        (run.checkpoint_dir / "state").write_text("x")
        yield from train(run)

    search = begin()
    left = search.folder.trial(99)
    left.mkdir(parents=True)
    begin()
    assert not left.exists()
    run_in_process(search, saving)
    assert list(search.folder.path.iterdir()) == []


@TRIALS_ONLY
def test_optuna_is_mended_from_the_rows(
    begin: Begin, train: Trainable, optuna_study: OptunaStudy
) -> None:
    """Killed before a row, before a tell, or within an ask: Optuna learns what happened."""
    search = begin()
    told = start(search)
    record(search, told, train, 24)
    outcome = TrialOutcome(TrialState.COMPLETED, 1.0, None, 0.5, 0.0)
    search.history.end(told.number, outcome)  # and not told
    study = optuna_study(ARM)
    study.ask()  # without a row
    study.enqueue_trial({"gamma": 0.9})  # and not asked for
    assert len(open_trials(study)) == 3

    begin()
    assert open_trials(study) == []
    trials = study.get_trials()
    assert [t.state for t in trials] == [
        OptunaState.COMPLETE,
        OptunaState.FAIL,
        OptunaState.FAIL,
    ]
    assert trials[0].values == [0.5, 0.0]


@TRIALS_ONLY
def test_rows_and_optuna_agree_on_what_was_tried(
    begin: Begin, train: Trainable, optuna_study: OptunaStudy
) -> None:
    """After a crash within an ask, too, each row's γ is that of its Optuna trial."""
    run_in_process(begin(), train)
    optuna_study(ARM).enqueue_trial({"gamma": 0.9})
    search = begin(budget="9trials")
    run_in_process(search, train)
    tried = optuna_study(ARM).get_trials()
    for trial in search.history.trials:
        assert trial.optuna_number is not None
        assert tried[trial.optuna_number].params["gamma"] == trial.gamma


@TRIALS_ONLY
def test_a_bigger_budget_extends_a_search(begin: Begin, train: Trainable) -> None:
    """What is there is kept, and only the difference is run."""
    first = begin()
    run_in_process(first, train)
    second = begin(budget="9trials")
    run_in_process(second, train)
    assert second.history.trials[:7] == first.history.trials
    assert len(second.history.trials) == 9
    gammas = [t.gamma for t in second.history.trials if t.role is Role.SEARCH]
    assert len(set(gammas)) == len(gammas)


def failing(run: ProxyRun) -> Iterator[Measurement]:
    """A trial that raises, with what a terminal might take for markup."""
    if run.gamma:
        raise ValueError(f"no [/bold] at {run.scale.width}")
    yield Measurement(1, 1.0, 0.0)


def test_three_failures_in_a_row_end_the_run(begin: Begin) -> None:
    """The error says what the last one died of, and where."""
    search = begin(widths=(32, 64), budget="12trials")
    with pytest.raises(
        RunError,
        match=r"^3 trials in a row have failed, the last with ValueError: no \[/bold\] at 64 "
        r"\(test_search.py, line \d+\)$",
    ):
        run_in_process(search, failing)
    assert [t.state for t in search.history.trials] == [TrialState.FAILED] * 3
    assert all(t.reason and t.reason.startswith("ValueError") for t in search.history.trials)
    assert search.history.spent == 0


@TRIALS_ONLY
def test_a_mended_trial_completes_the_search_that_it_failed(begin: Begin, train: Trainable) -> None:
    """References that were given up are tried again by the next command."""
    with pytest.raises(RunError, match="3 trials in a row"):
        run_in_process(begin(widths=(32, 64), budget="12trials"), failing)
    search = begin(widths=(32, 64), budget="12trials")
    run_in_process(search, train)
    counts = search.history.store.counts(search.history.study.id)
    assert (counts.completed, counts.failed) == (12, 3)
    assert Counter(t.width for t in search.history.trials[3:]) == {32: 6, 64: 6}


@TRIALS_ONLY
def test_now_and_then_a_failure_is_survived(begin: Begin, train: Trainable) -> None:
    """A failed trial counts by its time only: as many as planned complete."""
    search = begin()
    run_in_process(search, after(3, train, ValueError("once")))
    failed = search.history.trials[3]
    assert failed.state is TrialState.FAILED
    assert failed.reason is not None
    assert failed.reason.startswith("ValueError: once (test_search.py, line ")
    assert len(search.history.trials) == 8
    assert search.history.spent == 7


def test_a_search_of_which_every_trial_fails_says_so(begin: Begin) -> None:
    """It ends as a failed run, charged for the time it held, not as a finished one."""
    search = begin()
    with pytest.raises(RunError, match=r"^every trial has failed, the last with ValueError: no "):
        run_in_process(search, failing)
    assert search.history.ledger.spent_seconds > 0
    assert search.history.ledger.held_seconds == 0


@TRIALS_ONLY
def test_a_diverged_trial_is_the_worst_there_is(
    begin: Begin, train: Trainable, optuna_study: OptunaStudy
) -> None:
    """Optuna is told (0, −6) and a violated constraint; the posterior goes on."""

    def exploding(run: ProxyRun) -> Iterator[Measurement]:
        for number, one in enumerate(train(run)):
            if run.gamma < 0.45 and number == 5:
                yield Measurement(one.tokens, math.nan, 0.0, {"accuracy": math.nan})
            else:
                yield one

    search = begin(budget="9trials")
    run_in_process(search, exploding)
    diverged = [t for t in search.history.trials if t.state is TrialState.DIVERGED]
    assert diverged
    assert search.history.spent == 9
    study = optuna_study(ARM)
    for trial in diverged:
        assert (trial.reasoning, trial.log2_efficiency) == (0.0, -6.0)
        assert len(search.history.store.trial_measurements(trial.id)) == 5
        assert trial.optuna_number is not None
        told = study.get_trials()[trial.optuna_number]
        assert told.state is OptunaState.COMPLETE
        assert told.values == [0.0, -6.0]
        assert 1.0 in told.constraints.values()
    completed = next(t for t in search.history.trials if t.state is TrialState.COMPLETED)
    assert completed.optuna_number is not None
    assert list(study.get_trials()[completed.optuna_number].constraints.values()) == [0.0]


@TRIALS_ONLY
def test_a_reference_outside_the_interval_is_not_entered(
    begin: Begin, train: Trainable, optuna_study: OptunaStudy
) -> None:
    """It runs and counts as a reference, but the sampler never sees it."""
    search = begin(interval=(0.6, 1.2))
    run_in_process(search, train)
    reference, *others = search.history.trials
    assert reference.gamma == 0.5
    assert reference.optuna_number is None
    assert all(t.optuna_number is not None and 0.6 <= t.gamma <= 1.2 for t in others)
    assert len(optuna_study(ARM).get_trials()) == 6


@TRIALS_ONLY
def test_a_ladder_is_run_at_the_reference_and_searched(begin: Begin, train: Trainable) -> None:
    """Every rung has a reference of the first seed; search trials are on the ladder."""
    search = begin(lr="1e-3,2e-3", budget="8trials")
    run_in_process(search, train)
    references = [t for t in search.history.trials if t.role is Role.REFERENCE]
    assert [t.learning_rate for t in references] == [1e-3, 2e-3]
    searched = {t.learning_rate for t in search.history.trials if t.role is Role.SEARCH}
    assert searched == {1e-3, 2e-3}


def test_a_precision_that_is_reached_ends_the_search(begin: Begin, train: Trainable) -> None:
    """What is left of the budget is not spent, but for the confirmation."""
    search = begin(budget="24trials", precision=0.9)
    run_in_process(search, train)
    roles = Counter(t.role for t in search.history.trials)
    assert sum(roles.values()) < 24
    assert roles[Role.CONFIRMATION] == 2 * search.plan.pairs > 0


def test_confirmation_that_was_interrupted_is_completed_and_not_repeated(
    begin: Begin, train: Trainable
) -> None:
    """Pairs already run are taken up, and γ* stays what was being confirmed."""
    first = begin(budget="20trials")
    pairs = first.plan.pairs
    with pytest.raises(KeyboardInterrupt):
        run_in_process(first, after(20 - 2, train, KeyboardInterrupt()))
    second = begin(budget="20trials")
    run_in_process(second, train)
    confirmed = [
        (t.seed, t.gamma)
        for t in second.history.trials
        if t.role is Role.CONFIRMATION and t.state is TrialState.COMPLETED
    ]
    assert len(confirmed) == len(set(confirmed)) == 2 * pairs
    assert len({gamma for _, gamma in confirmed}) == 2


@TRIALS_ONLY
def test_the_listener_hears_of_every_change(begin: Begin, train: Trainable) -> None:
    """A display redraws at each start and at each end."""
    search, heard = begin(), []
    search.listener = lambda told: heard.append(len(told.history.running))
    run_in_process(search, train)
    assert heard == [1, 0] * 7
