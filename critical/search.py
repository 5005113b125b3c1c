"""The search itself, as a plain object: what to run next, what came of it, what it says of γ*.

Ray's searcher adapts it; tests and replays drive it in process. It alone writes to the store:

    ask → our row and its reservation → run → our result and its charge → tell

An attempt at a trial may end before the trial does: its driver or its worker dies, or the user
interrupts. The attempt is charged then, and the trial goes on under its own number.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from critical import agenda
from critical.agenda import Confirmation, Intent, Signal, Situation
from critical.errors import RunError
from critical.folders import StudyFolder
from critical.history import History
from critical.objectives import LOG2_EFFICIENCY_LIMIT
from critical.plan import Plan
from critical.posterior import Inference, PosteriorSpec, infer
from critical.proposals import Proposals
from critical.retries import Retries
from critical.storage.records import (
    NewTrial,
    PosteriorRecord,
    Role,
    ScalePosterior,
    TrialOutcome,
    TrialRecord,
    TrialState,
)
from critical.trials import ProxyRun
from critical.trials.watch import NOTHING_EARLIER, Earlier, Watched

FIRST_FAILURES = 3
"""Failures in a row that end a search of which no trial has ended otherwise."""
INTERRUPTED = "interrupted by the user"
SAME_GAMMA = 1e-3
_EVIDENCE = (TrialState.COMPLETED, TrialState.DIVERGED)
CONFIRMED_WITHIN = 0.02
"""A γ* this near to one that was confirmed needs no further confirmation."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A trial to run now, under its number in the study.

    Attributes:
        number: The trial's place in its study.
        run: What to run.
        earlier: What earlier attempts at it have stored.
        longest_wait: The longest wait for a measurement seen in its arm, seconds, if any was.
    """

    number: int
    run: ProxyRun
    earlier: Earlier = NOTHING_EARLIER
    longest_wait: float | None = None


Schedule = Callable[[Sequence[TrialRecord]], Intent | Signal]
"""From a search's trials, without what had failed when it was opened, to what is next."""


class Listener(Protocol):
    """Who is told whenever something changed, as the progress display is."""

    def __call__(self, search: Search, /) -> None:
        """Look at the search."""
        ...


class Search:
    """One search over γ and scale. Not safe for several threads: the driver has one."""

    def __init__(
        self,
        history: History,
        plan: Plan,
        proposals: Proposals,
        spec: PosteriorSpec,
        folder: StudyFolder,
        *,
        precision: float | None = None,
        seed: int = 0,
        retries: Retries | None = None,
    ) -> None:
        self.history = history
        self.plan = plan
        self.spec = spec
        self.folder = folder
        self.retries = retries or Retries()
        self.posterior: PosteriorRecord | None = None
        """What everything that has ended says of γ*; None before anything has."""
        self.stopping = False
        """Whether the user interrupts: nothing more is begun, and what runs is told to stop."""
        self._inference: Inference | None = None
        self._proposals = proposals
        self._precision = precision
        self._seed = seed
        self.listener: Listener | None = None
        self.schedule: Schedule | None = None
        """Says what to run next instead of the agenda, as for a repeat; no budget ends it."""
        self._failures = 0
        self._last_failure = ""
        self._lost: dict[int, int] = {}
        self._not_before: dict[int, float] = {}
        self._confirmation: tuple[Confirmation, int] | None = None
        proposals.mend(history.trials)
        folder.tidy({trial.number for trial in history.interrupted})
        self._take_up_posterior()

    def widest_scale(self) -> ScalePosterior | None:
        """Return the widest scale that learned, or the widest at all where none has."""
        scales = self.posterior.scales if self.posterior is not None else ()
        return max(scales, key=lambda scale: (scale.learned, scale.width), default=None)

    def next(self) -> Assignment | Signal:
        """Choose, enter and reserve the next trial, or say to wait or that nothing is left.

        What was interrupted goes on first.

        Raises:
            RunError: Nothing is left, and every trial has failed.
        """
        if self.stopping:
            return Signal.DONE
        going_on = self._go_on()
        if going_on is not None:
            return going_on
        found = self._choose()
        if found is Signal.DONE and self.history.interrupted:
            return Signal.WAIT
        if found is Signal.DONE and self._failures and self.posterior is None:
            raise RunError(f"every trial has failed, the last with {self._last_failure}")
        return self._start(found) if isinstance(found, Intent) else found

    @property
    def done(self) -> bool:
        """Whether nothing is left to run."""
        return not self.history.interrupted and self._choose() is Signal.DONE

    def stop(self) -> None:
        """Begin nothing more, and tell what runs to save its state; safe in a signal handler."""
        self.stopping = True
        for trial in self.history.running:
            self.folder.stop(trial.number)

    def record(self, number: int, watched: Watched) -> None:
        """Store a measurement of a running trial."""
        self.history.measure(number, watched)

    def finish(self, number: int, device_seconds: float, *, diverged: bool = False) -> None:
        """End a trial that ran to its end: result and charge, Optuna's tell, a new posterior.

        Args:
            number: The trial's number in the study.
            device_seconds: What this attempt at it held, as its worker measured.
            diverged: Whether its loss was not finite or had exploded.
        """
        self._end(number, self._result(number, device_seconds, diverged))
        self._failures = 0
        self._infer()
        self._store_posterior()
        self._notify()

    def fail(self, number: int, device_seconds: float, reason: str, kind: str = "error") -> None:
        """Settle an attempt that ended by an exception.

        Another attempt would end by the same one, so the trial has failed; but where there was no
        memory, there may be some later.

        Args:
            number: The trial's number in the study.
            device_seconds: What this attempt at it held.
            reason: The exception, in a line.
            kind: ``memory`` or ``error``, as ``critical.trials.failure.kind_of`` tells.

        Raises:
            RunError: One trial after another has failed.
        """
        if kind == "memory":
            self.retry(number, device_seconds, reason)
            return
        self._end(number, TrialOutcome(TrialState.FAILED, device_seconds, reason))
        self._notify()
        self._failures += 1
        self._last_failure = reason
        if self._failures >= self._most_failures():
            raise RunError(f"{self._failures} trials in a row have failed, the last with {reason}")

    def interrupt(self, number: int, device_seconds: float, reason: str) -> None:
        """Settle an attempt that was told to stop; the trial goes on with the next driver.

        Args:
            number: The trial's number in the study.
            device_seconds: What this attempt at it held.
            reason: Why it stopped.
        """
        self.history.interrupt(number, device_seconds, reason)
        self._not_before[number] = math.inf
        self._notify()

    def retry(self, number: int, device_seconds: float, reason: str) -> None:
        """Settle an attempt that was lost with its worker; the trial goes on after a while.

        Where that has happened too often the trial has failed.

        Args:
            number: The trial's number in the study.
            device_seconds: What this attempt at it held.
            reason: What its worker died of.

        Raises:
            RunError: One trial after another has failed.
        """
        lost = self._lost[number] = self._lost.get(number, 0) + 1
        wait = self.retries.wait(lost)
        if wait is None:
            times = f", {lost} times" if lost > 1 else ""
            self.fail(number, device_seconds, reason + times)
            return
        self.history.interrupt(number, device_seconds, reason)
        self._not_before[number] = time.monotonic() + wait
        self._notify()

    def _end(self, number: int, outcome: TrialOutcome) -> TrialRecord:
        trial = self.history.end(number, outcome)
        self._proposals.tell(trial)
        self.folder.remove(number)
        return trial

    def _go_on(self) -> Assignment | None:
        """Take up an interrupted trial whose time has come, if its rest can be paid."""
        now = time.monotonic()
        for trial in self.history.interrupted:
            if now < self._not_before.get(trial.number, 0.0):
                continue
            left = self.history.seconds_left(trial)
            if self._pays(left):
                self.history.resume(trial.number, left)
                self._notify()
                return self._assignment(trial)
            reason = "what was left of the budget could not pay its rest"
            self._end(trial.number, TrialOutcome(TrialState.STOPPED, 0.0, reason))
        return None

    def _pays(self, device_seconds: float) -> bool:
        """Whether an interrupted trial may run on for so long."""
        unbounded = self.schedule is not None or self.history.budget.counts_trials
        return unbounded or device_seconds <= self.history.remaining

    def _result(self, number: int, device_seconds: float, diverged: bool) -> TrialOutcome:
        if diverged:
            reason = "the loss was not finite or had exploded"
            floor = -LOG2_EFFICIENCY_LIMIT
            return TrialOutcome(TrialState.DIVERGED, device_seconds, reason, 0.0, floor)
        reasoning, efficiency = self.history.objectives(number, algorithmic=self.spec.algorithmic)
        return TrialOutcome(TrialState.COMPLETED, device_seconds, None, reasoning, efficiency)

    def _most_failures(self) -> int:
        if self.history.runs():
            return self.retries.failures
        return min(FIRST_FAILURES, self.retries.failures)

    def _choose(self) -> Intent | Signal:
        if self.schedule is not None:
            return self.schedule(self.history.attempts)
        now = self._situation()
        found: Intent | Signal = Signal.DONE
        if self._confirmation is None:
            found = agenda.next_reference(self.plan, now) or agenda.next_search(self.plan, now)
            if found is Signal.DONE and (self.history.running or self.history.interrupted):
                found = Signal.WAIT
        return self._next_confirmation(now) if found is Signal.DONE else found

    def _situation(self) -> Situation:
        return Situation(
            trials=self.history.attempts,
            remaining=self.history.remaining,
            costs={arm.name: self.history.cost(arm) for arm in self.plan.arms},
            best_rates=self.history.best_rates(),
            enough=self._is_precise(),
        )

    def _start(self, intent: Intent) -> Assignment:
        arm, gamma, rate = intent.arm, intent.gamma, intent.learning_rate
        if gamma is None:
            proposal = self._proposals.propose(arm, self.history.searched(arm))
            gamma, rate = proposal.gamma, proposal.learning_rate
            optuna_number: int | None = proposal.number
        else:
            optuna_number = self._proposals.enter(arm, gamma, rate)
        trial = self.history.begin(
            NewTrial(
                arm=arm.name,
                optuna_number=optuna_number,
                role=intent.role,
                gamma=gamma,
                learning_rate=rate,
                width=arm.scale.width,
                depth=arm.scale.depth,
                heads=arm.scale.heads,
                tokens=arm.scale.tokens,
                seed=intent.seed,
                settings=arm.settings,
                reserved_seconds=self.history.seconds(arm),
            )
        )
        self._notify()
        return self._assignment(trial)

    def _assignment(self, trial: TrialRecord) -> Assignment:
        run = ProxyRun(
            trial.gamma,
            trial.learning_rate,
            self.plan.arm(trial.arm).scale,
            trial.seed,
            trial.settings,
            self.plan.device,
            self.folder.begin(trial.number),
        )
        earlier = self.history.earlier(trial.number)
        return Assignment(trial.number, run, earlier, self.history.longest_wait(trial.arm))

    def _next_confirmation(self, now: Situation) -> Intent | Signal:
        if self._confirmation is None and self.plan.pairs:
            self._confirmation = self._choose_confirmation(now)
        if self._confirmation is None:
            return Signal.DONE
        return agenda.next_confirmation(self.plan, now, *self._confirmation)

    def _choose_confirmation(self, now: Situation) -> tuple[Confirmation, int] | None:
        scale = self.widest_scale()
        if scale is None:
            return None
        name = f"w{scale.width}/{scale.settings}"
        gamma = round(scale.gamma_star.median, 3)
        if abs(gamma - self.plan.reference_gamma) < SAME_GAMMA:
            return None  # there is no difference to confirm
        rate = scale.learning_rate[int(np.argmin(np.abs(np.array(scale.gamma) - gamma)))]
        confirmed = self._confirmed(name)
        if confirmed and abs(confirmed[-1][0] - gamma) <= CONFIRMED_WITHIN:
            gamma, rate = confirmed[-1]
        round_ = confirmed.index((gamma, rate)) if (gamma, rate) in confirmed else len(confirmed)
        return Confirmation(name, gamma, rate, now.best_rates.get(name)), round_

    def _confirmed(self, arm: str) -> list[tuple[float, float | None]]:
        """Every (γ, learning rate) that an arm ran beside the reference to confirm it, in order."""
        found: dict[tuple[float, float | None], None] = {}
        for trial in self.history.trials:
            confirms = trial.role is Role.CONFIRMATION and trial.arm == arm
            if confirms and trial.gamma != self.plan.reference_gamma:
                found[trial.gamma, trial.learning_rate] = None
        return list(found)

    def _infer(self) -> None:
        runs = self.history.runs()
        if runs:
            rng = np.random.default_rng((self._seed, len(runs)))
            self._inference = infer(runs, self.spec, rng, self._inference)
            self.posterior = self._inference.record

    def _store_posterior(self) -> None:
        if self.posterior is not None:
            history = self.history
            spent = history.ledger.spent_seconds
            history.store.add_posterior(history.study.id, self.posterior, spent)

    def _take_up_posterior(self) -> None:
        """Take the stored posterior if it says all, else infer and store it.

        A driver may have died between a result and its posterior, and this one may assume another
        slope.
        """
        store, study = self.history.store, self.history.study
        latest = store.latest_posterior(study.id)
        if latest is None or not self._says_all(latest):
            self._infer()
            self._store_posterior()
        elif latest.slope_sd == self.spec.slope_sd:
            self.posterior = latest
        else:
            self._infer()

    def _says_all(self, latest: PosteriorRecord) -> bool:
        store, study = self.history.store, self.history.study
        ended = [t for t in self.history.trials if t.state in _EVIDENCE and t.finished_at]
        completed = sum(t.state is TrialState.COMPLETED for t in ended)
        inferred_at = store.inferred_at(study.id)
        return (
            latest.trials == completed
            and inferred_at is not None
            and all(
                trial.finished_at is not None and trial.finished_at <= inferred_at
                for trial in ended
            )
        )

    def _is_precise(self) -> bool:
        scale = self.widest_scale()
        if self._precision is None or scale is None or not scale.learned:
            return False
        return scale.expected_loss < self._precision

    def _notify(self) -> None:
        if self.listener is not None:
            self.listener(self)
