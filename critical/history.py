"""What a search has run so far: its trials and curves, in memory and in the store alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from critical.agenda import ladder_ended, searched
from critical.budget import Budget
from critical.evidence import runs_of
from critical.objectives import Run, best_references, observe, solved_loss
from critical.plan import Arm, Plan
from critical.storage.records import (
    COUNTED,
    LedgerRecord,
    MeasurementRecord,
    NewTrial,
    StudyRecord,
    TrialOutcome,
    TrialRecord,
    TrialState,
)
from critical.storage.store import Store
from critical.trials.watch import Watched

_EVIDENCE = (TrialState.COMPLETED, TrialState.DIVERGED)


class History:
    """The trials of a study. Every change is in the store before it is here."""

    def __init__(self, store: Store, study: StudyRecord, plan: Plan) -> None:
        self.store = store
        self.study = study
        self.budget = Budget(study.budget_total, study.budget_unit)
        self._plan = plan
        measurements = store.measurements(study.id)
        trials = store.trials(study.id)
        self._trials = {trial.number: trial for trial in trials}
        self._curves = {t.number: list(measurements.get(t.id, ())) for t in trials}
        self._opened_at = len(trials)
        self._fail_orphans()

    def begin(self, new: NewTrial) -> TrialRecord:
        """Enter a trial and reserve its device-seconds, in one transaction."""
        trial = self.store.add_trial(self.study.id, new)
        self._trials[trial.number] = trial
        self._curves[trial.number] = []
        return trial

    def measure(self, number: int, watched: Watched) -> None:
        """Store a measurement; the non-finite last one of a diverged trial says nothing more."""
        one = watched.measurement
        if not (math.isfinite(one.loss) and math.isfinite(one.reasoning)):
            return
        finite = {name: value for name, value in one.extras.items() if math.isfinite(value)}
        measurement = MeasurementRecord(
            one.tokens, one.loss, one.reasoning, watched.device_seconds, finite
        )
        curve = self._curves[number]
        self.store.add_measurements(self._trials[number].id, len(curve), [measurement])
        curve.append(measurement)

    def end(self, number: int, outcome: TrialOutcome) -> TrialRecord:
        """Settle a trial: its result and its charge, in one transaction."""
        trial = self.store.finish_trial(self._trials[number].id, outcome)
        self._trials[number] = trial
        return trial

    @property
    def trials(self) -> list[TrialRecord]:
        """Every trial, in number order."""
        return list(self._trials.values())

    @property
    def running(self) -> list[TrialRecord]:
        """Those that have not ended."""
        return [trial for trial in self._trials.values() if trial.state is TrialState.RUNNING]

    @property
    def attempts(self) -> list[TrialRecord]:
        """Every trial but those that had failed when the study was opened.

        What a killed driver, or a fault since mended, made fail is tried again.
        """
        return [
            trial
            for trial in self._trials.values()
            if trial.state is not TrialState.FAILED or trial.number >= self._opened_at
        ]

    def runs(self) -> list[Run]:
        """Return the completed and diverged trials with their curves."""
        return runs_of(self.trials, self._curves, self._plan.reference_gamma)

    def searched(self, arm: Arm) -> int:
        """Return how many search trials an arm has had; those that failed are had again."""
        return searched(self.trials, arm)

    def objectives(self, number: int, *, algorithmic: bool) -> tuple[float, float]:
        """Return R and log₂ ρ (octaves) that a trial would have if it ended now as completed.

        Where no reference has finished yet log₂ ρ is 0; the posterior recomputes both.
        """
        own = [t for t in self._trials.values() if t.arm == self._trials[number].arm]
        ended = [t for t in own if t.state in _EVIDENCE and t.number != number]
        this = replace(self._trials[number], state=TrialState.COMPLETED)
        runs = runs_of([*ended, this], self._curves, self._plan.reference_gamma)
        place = sorted(t.number for t in [*ended, this]).index(number)
        observations = observe(runs, solved_loss(runs) if algorithmic else None)
        if observations:
            return observations[place].reasoning, observations[place].log2_efficiency
        return float(runs[place].curve.reasoning[-1]), 0.0

    def best_rates(self) -> dict[str, float | None]:
        """Return the reference's best learning rate of the arms whose ladder has ended."""
        rates: dict[str, float | None] = {}
        runs = self.runs()
        for arm in self._plan.arms:
            if ladder_ended(self._plan, arm, self.attempts):
                references = best_references(_of_arm(runs, arm))
                if references:
                    rates[arm.name] = references[0].learning_rate
        return rates

    @property
    def ledger(self) -> LedgerRecord:
        """What has been spent and what is held, device-seconds."""
        return self.store.ledger(self.study.id)

    @property
    def spent(self) -> float:
        """What is spent of the budget, in its unit; a failed trial counts by its time only."""
        if not self.budget.counts_trials:
            return self.ledger.spent_seconds
        return float(sum(trial.state in COUNTED for trial in self._trials.values()))

    @property
    def remaining(self) -> float:
        """What is neither spent nor held by running trials, in the budget's unit."""
        if self.budget.counts_trials:
            return self.budget.amount - self.spent - len(self.running)
        ledger = self.ledger
        return self.budget.amount - ledger.spent_seconds - ledger.held_seconds

    def cost(self, arm: Arm) -> float | None:
        """Predict what a trial costs, in the budget's unit; None where nothing is known yet."""
        return 1.0 if self.budget.counts_trials else self.seconds(arm) or None

    def seconds(self, arm: Arm) -> float:
        """Predict a trial's device-seconds: the upper quartile of those completed, else the plan's.

        The upper one, for what is reserved in vain comes back when the trial settles.
        """
        completed = [
            trial.device_seconds
            for trial in self._trials.values()
            if trial.arm == arm.name
            and trial.state is TrialState.COMPLETED
            and trial.device_seconds is not None
        ]
        return float(np.quantile(completed, 0.75)) if completed else arm.trial_cost or 0.0

    def _fail_orphans(self) -> None:
        """Fail what a dead driver left running, charged to its last measurement."""
        for trial in self.running:
            curve = self._curves[trial.number]
            charged = curve[-1].device_seconds if curve else 0.0
            outcome = TrialOutcome(TrialState.FAILED, charged, "the search was interrupted")
            self.end(trial.number, outcome)


def _of_arm(runs: Sequence[Run], arm: Arm) -> list[Run]:
    return [r for r in runs if (r.width, r.settings) == (arm.scale.width, arm.settings)]
