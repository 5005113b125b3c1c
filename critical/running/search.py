"""The search itself, as a plain object: what to run next, what came of it, what it says of γ*.

Ray's searcher adapts it; tests and replays drive it in process. It alone writes to the store:

    ask → our row and its reservation → run → our result and its charge → tell

An attempt at a trial may end before the trial does: its driver or its worker dies, or the user
interrupts. The attempt is charged then, and the trial goes on under its own number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from critical.errors import RunError
from critical.inference.objectives import LOG2_EFFICIENCY_LIMIT
from critical.inference.posterior import PosteriorSpec
from critical.plan import Arm, Plan
from critical.running import agenda, packing
from critical.running.agenda import Confirmation, Intent, Signal, Situation
from critical.running.belief import Belief
from critical.running.folders import StudyFolder
from critical.running.history import History
from critical.running.proposals import Proposals
from critical.running.retries import Retries, Setbacks
from critical.storage.records import (
    NewTrial,
    PosteriorRecord,
    Role,
    TrialOutcome,
    TrialRecord,
    TrialState,
)
from critical.trials import ProxyRun
from critical.trials.watch import NOTHING_EARLIER, Earlier, Watched

INTERRUPTED = "interrupted by the user"


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
        self.folder = folder
        self.retries = retries or Retries()
        self.stopping = False
        """Whether the user interrupts: nothing more is begun, and what runs is told to stop."""
        self.listener: Listener | None = None
        self.schedule: Schedule | None = None
        """Says what to run next instead of the agenda, as for a repeat; no budget ends it."""
        self.pack = 1
        """Trials that are trained together, at the most."""
        self._proposals = proposals
        self._precision = precision
        self._setbacks = Setbacks(self.retries)
        self._confirmations: tuple[Confirmation, ...] = ()
        proposals.mend(history.trials)
        folder.tidy({trial.number for trial in history.interrupted})
        self.belief = Belief(history, spec, seed)

    @property
    def posterior(self) -> PosteriorRecord | None:
        """What everything that has ended says of γ*; None before anything has."""
        return self.belief.posterior

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
        if found is Signal.DONE and self._setbacks.last and self.posterior is None:
            raise RunError(f"every trial has failed, the last with {self._setbacks.last}")
        return self._start(found) if isinstance(found, Intent) else found

    def next_pack(self) -> list[Assignment] | Signal:
        """Choose, enter and reserve the next trial and those to train together with it.

        All are of one arm. A trial of which an attempt was lost is trained alone, for it may be
        what the others died of; and so are the trials of a repeat.

        Raises:
            RunError: Nothing is left, and every trial has failed.
        """
        first = self.next()
        if isinstance(first, Signal):
            return first
        members = [first]
        while len(members) < self.pack and (another := self._next_in(members)) is not None:
            members.append(another)
        return members

    @property
    def done(self) -> bool:
        """Whether nothing is left to run."""
        return not self.history.interrupted and self._choose() is Signal.DONE

    def stop(self) -> None:
        """Begin nothing more, and tell what runs to save its state; safe in a signal handler."""
        self.stopping = True
        for trial in self.history.running:
            self.folder.stop(trial.number)

    def close(self) -> None:
        """Close what the search has opened; its history's store belongs to who opened it."""
        self._proposals.close()

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
        self._setbacks.over()
        self.belief.update()
        self._notify()

    def drop(self, number: int, device_seconds: float, reason: str) -> None:
        """End a trial that was told to end before its time; its curve so far is kept.

        Args:
            number: The trial's number in the study.
            device_seconds: What this attempt at it held.
            reason: Why it was to end.
        """
        self._end(number, TrialOutcome(TrialState.STOPPED, device_seconds, reason))
        self._notify()

    def fail(
        self,
        number: int,
        device_seconds: float,
        reason: str,
        kind: str = "error",
        *,
        counts: bool = True,
    ) -> None:
        """Settle an attempt that ended by an exception.

        Another attempt would end by the same one, so the trial has failed; but where there was no
        memory, there may be some later.

        Args:
            number: The trial's number in the study.
            device_seconds: What this attempt at it held.
            reason: The exception, in a line.
            kind: ``memory`` or ``error``, as ``critical.trials.failure.kind_of`` tells.
            counts: Whether it is one of the failures in a row that end a search; a pack is one.

        Raises:
            RunError: One trial after another has failed.
        """
        if kind == "memory":
            self.retry(number, device_seconds, reason, counts=counts)
            return
        self._end(number, TrialOutcome(TrialState.FAILED, device_seconds, reason))
        if not counts:
            self._notify()
            return
        self._setbacks.fail(reason)
        self._notify()
        failed = self._setbacks.too_many(any_worked=bool(self.history.runs()))
        if failed is not None:
            raise RunError(f"{failed} trials in a row have failed, the last with {reason}")

    def interrupt(self, number: int, device_seconds: float, reason: str) -> None:
        """Settle an attempt that was told to stop; the trial goes on with the next driver.

        Args:
            number: The trial's number in the study.
            device_seconds: What this attempt at it held.
            reason: Why it stopped.
        """
        self.history.interrupt(number, device_seconds, reason)
        self._setbacks.leave(number)
        self._notify()

    def retry(
        self, number: int, device_seconds: float, reason: str, *, counts: bool = True
    ) -> None:
        """Settle an attempt that was lost with its worker; the trial goes on after a while.

        Where that has happened too often the trial has failed.

        Args:
            number: The trial's number in the study.
            device_seconds: What this attempt at it held.
            reason: What its worker died of.
            counts: As for ``fail``, where it is given up.

        Raises:
            RunError: One trial after another has failed.
        """
        given_up = self._setbacks.lose(number)
        if given_up is not None:
            times = f", {given_up} times" if given_up > 1 else ""
            self.fail(number, device_seconds, reason + times, counts=counts)
            return
        self.history.interrupt(number, device_seconds, reason)
        self._notify()

    def _end(self, number: int, outcome: TrialOutcome) -> TrialRecord:
        trial = self.history.end(number, outcome)
        self._proposals.tell(trial)
        self.folder.remove(number)
        return trial

    def _next_in(self, members: Sequence[Assignment]) -> Assignment | None:
        """Choose, enter and reserve another trial to train together with these."""
        numbers = {member.number for member in members}
        if self.stopping or self.schedule is not None or any(map(self._setbacks.lost, numbers)):
            return None
        trials = [trial for trial in self.history.running if trial.number in numbers]
        arm = self.plan.arm(trials[0].arm)
        going_on = self._go_on(arm)
        if going_on is not None:
            return going_on
        now = self._situation()
        found: Intent | Signal | None
        if self._confirmations:
            own = [one for one in self._confirmations if one.arm == arm.name]
            found = agenda.next_confirmation(self.plan, now, own)
        else:
            searching = sum(trial.role is Role.SEARCH for trial in trials)
            found = packing.next_in_arm(self.plan, now, arm, searching)
        return self._start(found) if isinstance(found, Intent) else None

    def _go_on(self, arm: Arm | None = None) -> Assignment | None:
        """Take up an interrupted trial whose time has come, if its rest can be paid.

        Args:
            arm: Of the pack that it is to join, if it is.
        """
        for trial in self.history.interrupted:
            if self._setbacks.waits(trial.number):
                continue
            if arm is not None and (trial.arm != arm.name or self._setbacks.lost(trial.number)):
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
        reasoning, efficiency = self.history.objectives(
            number, algorithmic=self.belief.spec.algorithmic
        )
        return TrialOutcome(TrialState.COMPLETED, device_seconds, None, reasoning, efficiency)

    def _choose(self) -> Intent | Signal:
        if self.schedule is not None:
            return self.schedule(self.history.attempts)
        now = self._situation()
        found: Intent | Signal = Signal.DONE
        if not self._confirmations:
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
            enough=self.belief.is_precise(self._precision),
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
        if not self._confirmations and self.plan.pairs:
            scales = map(self.belief.widest_scale, self.plan.settings)
            chosen = (agenda.choose_confirmation(self.plan, now, one) for one in scales if one)
            self._confirmations = tuple(one for one in chosen if one is not None)
        return agenda.next_confirmation(self.plan, now, self._confirmations)

    def _notify(self) -> None:
        if self.listener is not None:
            self.listener(self)
