"""The search itself, as a plain object: what to run next, what came of it, what it says of γ*.

Ray's searcher adapts it; tests and replays drive it in process. It alone writes to the store:

    ask → our row and its reservation → run → our result and its charge → tell
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from critical import agenda
from critical.agenda import Confirmation, Intent, Signal, Situation
from critical.errors import RunError
from critical.history import History
from critical.objectives import LOG2_EFFICIENCY_LIMIT
from critical.plan import Plan
from critical.posterior import Inference, PosteriorSpec, infer
from critical.proposals import Proposals
from critical.storage.records import (
    NewTrial,
    PosteriorRecord,
    Role,
    ScalePosterior,
    TrialOutcome,
    TrialState,
)
from critical.trials import ProxyRun
from critical.trials.watch import Watched

FIRST_FAILURES = 3
"""Failures in a row that end a search of which no trial has ended otherwise."""
MOST_FAILURES = 10
"""Failures in a row that end any search."""
SAME_GAMMA = 1e-3
CONFIRMED_WITHIN = 0.02
"""A γ* this near to one that was confirmed needs no further confirmation."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A trial to run now, under its number in the study."""

    number: int
    run: ProxyRun


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
        *,
        precision: float | None = None,
        seed: int = 0,
        listener: Listener | None = None,
    ) -> None:
        self.history = history
        self.plan = plan
        self.spec = spec
        self._inference: Inference | None = None
        self._proposals = proposals
        self._precision = precision
        self._seed = seed
        self.listener = listener
        self._failures = 0
        self._last_failure = ""
        self._confirmation: tuple[Confirmation, int] | None = None
        proposals.mend(history.trials)
        self._infer()
        self._store_posterior_once()

    @property
    def posterior(self) -> PosteriorRecord | None:
        """What everything that has ended says of γ*; None before anything has."""
        return self._inference.record if self._inference is not None else None

    def widest_scale(self) -> ScalePosterior | None:
        """Return the widest scale that learned, or the widest at all where none has."""
        scales = self.posterior.scales if self.posterior is not None else ()
        return max(scales, key=lambda scale: (scale.learned, scale.width), default=None)

    def next(self) -> Assignment | Signal:
        """Choose, enter and reserve the next trial, or say to wait or that nothing is left.

        Raises:
            RunError: Nothing is left, and every trial has failed.
        """
        found = self._choose()
        if found is Signal.DONE and self._failures and self.posterior is None:
            raise RunError(f"every trial has failed, the last with {self._last_failure}")
        return self._start(found) if isinstance(found, Intent) else found

    @property
    def done(self) -> bool:
        """Whether nothing is left to run."""
        return self._choose() is Signal.DONE

    def record(self, number: int, watched: Watched) -> None:
        """Store a measurement of a running trial."""
        self.history.measure(number, watched)

    def finish(
        self,
        number: int,
        device_seconds: float,
        *,
        diverged: bool = False,
        stopped: str | None = None,
        failure: str | None = None,
    ) -> None:
        """End a trial: its result and charge, Optuna's tell, and a new posterior.

        Args:
            number: The trial's number in the study.
            device_seconds: What it held, as its worker measured.
            diverged: Whether its loss was not finite or had exploded.
            stopped: Why it was ended before its time, if it was.
            failure: What its worker died of, in a line, if it did.

        Raises:
            RunError: One trial after another has failed.
        """
        if failure is not None:
            outcome = TrialOutcome(TrialState.FAILED, device_seconds, failure)
        elif stopped is not None:
            outcome = TrialOutcome(TrialState.STOPPED, device_seconds, stopped)
        else:
            outcome = self._result(number, device_seconds, diverged)
        trial = self.history.end(number, outcome)
        self._proposals.tell(trial)
        if trial.state in (TrialState.COMPLETED, TrialState.DIVERGED):
            self._failures = 0
            self._infer()
            self._store_posterior()
        self._notify()
        if failure is not None:
            self._count_failure(failure)

    def _result(self, number: int, device_seconds: float, diverged: bool) -> TrialOutcome:
        if diverged:
            reason = "the loss was not finite or had exploded"
            floor = -LOG2_EFFICIENCY_LIMIT
            return TrialOutcome(TrialState.DIVERGED, device_seconds, reason, 0.0, floor)
        reasoning, efficiency = self.history.objectives(number, algorithmic=self.spec.algorithmic)
        return TrialOutcome(TrialState.COMPLETED, device_seconds, None, reasoning, efficiency)

    def _count_failure(self, failure: str) -> None:
        self._failures += 1
        self._last_failure = failure
        if self._failures >= (MOST_FAILURES if self.history.runs() else FIRST_FAILURES):
            raise RunError(f"{self._failures} trials in a row have failed, the last with {failure}")

    def _choose(self) -> Intent | Signal:
        now = self._situation()
        found: Intent | Signal = Signal.DONE
        if self._confirmation is None:
            found = agenda.next_reference(self.plan, now) or agenda.next_search(self.plan, now)
            if found is Signal.DONE and self.history.running:
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
        run = ProxyRun(gamma, rate, arm.scale, intent.seed, arm.settings, self.plan.device)
        return Assignment(trial.number, run)

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

    def _store_posterior(self) -> None:
        if self.posterior is not None:
            history = self.history
            spent = history.ledger.spent_seconds
            history.store.add_posterior(history.study.id, self.posterior, spent)

    def _store_posterior_once(self) -> None:
        """Store it on opening only if a driver died between a result and its posterior."""
        latest = self.history.store.latest_posterior(self.history.study.id)
        if latest is None or (self.posterior and latest.trials != self.posterior.trials):
            self._store_posterior()

    def _is_precise(self) -> bool:
        scale = self.widest_scale()
        if self._precision is None or scale is None or not scale.learned:
            return False
        return scale.expected_loss < self._precision

    def _notify(self) -> None:
        if self.listener is not None:
            self.listener(self)
