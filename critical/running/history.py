"""What a search has run so far: its trials and curves, in memory and in the store alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from critical.budget import Budget
from critical.inference.evidence import (
    TRAINED_ACCURACY,
    curve_of,
    curve_of_columns,
    is_reference,
    run_of,
)
from critical.inference.objectives import Run, best_references, observe, solved_loss
from critical.plan import Arm, Plan
from critical.running.agenda import ladder_ended, searched
from critical.storage.records import (
    COUNTED,
    EVIDENCE,
    OPEN,
    ORPHANED,
    LedgerRecord,
    MeasurementRecord,
    NewTrial,
    StudyRecord,
    TrialOutcome,
    TrialRecord,
    TrialState,
)
from critical.storage.store import Store
from critical.trials.watch import Earlier, Watched

_FEW = 50
"""Curves that are read one by one; more of them are read all at once."""


class History:
    """The trials of a study. Every change is in the store before it is here.

    What a dead driver left running is interrupted on opening, charged to its last measurement, so
    that it goes on. A curve is read when it is first needed: a study may have half a million
    measurements.
    """

    def __init__(self, store: Store, study: StudyRecord, plan: Plan) -> None:
        self.store = store
        self.study = study
        self.budget = Budget(study.budget_total, study.budget_unit)
        self._plan = plan
        store.adopt_trials(study.id, ORPHANED)
        self._trials = {trial.number: trial for trial in store.trials(study.id)}
        self._opened_at = len(self._trials)
        self._curves: dict[int, list[MeasurementRecord]] = {}
        self._runs: dict[int, Run | None] = {}
        self._held: dict[int, float] = {}
        self._waits: dict[str, float] = {}
        self._ledger: LedgerRecord | None = None

    def begin(self, new: NewTrial) -> TrialRecord:
        """Enter a trial and reserve its device-seconds, in one transaction."""
        trial = self.store.add_trial(self.study.id, new)
        self._curves[trial.number] = []
        self._held[trial.number] = new.reserved_seconds
        return self._changed(trial)

    def resume(self, number: int, reserved_seconds: float) -> TrialRecord:
        """Let an interrupted trial run on, and reserve what it still needs, in one transaction."""
        trial = self.store.resume_trial(self._trials[number].id, reserved_seconds)
        self._held[number] = reserved_seconds
        return self._changed(trial)

    def measure(self, number: int, watched: Watched) -> None:
        """Store a measurement, unless an earlier attempt's was stored for its tokens.

        The non-finite last one of a diverged trial says nothing more.
        """
        one = watched.measurement
        trial, curve = self._trials[number], self._curve(number)
        if not (math.isfinite(one.loss) and math.isfinite(one.reasoning)):
            return
        if curve and one.tokens <= curve[-1].tokens:
            return
        finite = {name: value for name, value in one.extras.items() if math.isfinite(value)}
        seconds = (trial.device_seconds or 0.0) + watched.device_seconds
        measurement = MeasurementRecord(one.tokens, one.loss, one.reasoning, seconds, finite)
        beyond = watched.device_seconds if watched.device_seconds > self._held[number] else 0.0
        self.store.add_measurements(trial.id, len(curve), [measurement], used_seconds=beyond)
        if beyond:
            self._held[number], self._ledger = beyond, None
        waited = seconds - (curve[-1].device_seconds if curve else 0.0)
        self._waits[trial.arm] = max(waited, self._waits.get(trial.arm, 0.0))
        curve.append(measurement)

    def end(self, number: int, outcome: TrialOutcome) -> TrialRecord:
        """Settle a trial: its result and its charge, in one transaction."""
        return self._changed(self.store.finish_trial(self._trials[number].id, outcome))

    def interrupt(self, number: int, device_seconds: float, reason: str) -> TrialRecord:
        """Settle an attempt that ended before its trial, in one transaction."""
        trial = self._trials[number]
        return self._changed(self.store.interrupt_trial(trial.id, device_seconds, reason))

    def earlier(self, number: int) -> Earlier:
        """Return what is stored of a trial that is about to run or to go on."""
        curve = self._curve(number)
        if not curve:
            return Earlier()
        return Earlier(len(curve), curve[0].loss, curve[-1].tokens)

    def longest_wait(self, arm: str) -> float | None:
        """Return the longest wait for a measurement that this process saw in an arm, seconds."""
        return self._waits.get(arm)

    @property
    def trials(self) -> list[TrialRecord]:
        """Every trial, in number order."""
        return list(self._trials.values())

    @property
    def running(self) -> list[TrialRecord]:
        """Those that run."""
        return [trial for trial in self._trials.values() if trial.state is TrialState.RUNNING]

    @property
    def interrupted(self) -> list[TrialRecord]:
        """Those that wait to go on."""
        return [trial for trial in self._trials.values() if trial.state is TrialState.INTERRUPTED]

    @property
    def attempts(self) -> list[TrialRecord]:
        """Every trial but those that had failed when the study was opened.

        What a fault since mended made fail is tried again.
        """
        return [
            trial
            for trial in self._trials.values()
            if trial.state is not TrialState.FAILED or trial.number >= self._opened_at
        ]

    def runs(self) -> list[Run]:
        """Return the completed and diverged trials with their curves."""
        return self._built(lambda trial: trial.state in EVIDENCE)

    def searched(self, arm: Arm) -> int:
        """Return how many search trials an arm has had; those that failed are had again."""
        return searched(self.trials, arm)

    def objectives(self, number: int, *, algorithmic: bool) -> tuple[float, float]:
        """Return R and log₂ ρ (octaves) that a trial would have if it ended now as completed.

        Where no reference has finished yet log₂ ρ is 0; the posterior recomputes both.
        """
        trial = replace(self._trials[number], state=TrialState.COMPLETED)
        run = self._run_of(trial)
        assert run is not None  # what ran to its end has been measured
        runs = [*self._references(trial.arm), run]
        observations = observe(runs, solved_loss(runs) if algorithmic else None)
        if observations:
            return observations[-1].reasoning, observations[-1].log2_efficiency
        return float(run.curve.reasoning[-1]), 0.0

    def best_rates(self) -> dict[str, float | None]:
        """Return the reference's best learning rate of the arms whose ladder has ended."""
        rates: dict[str, float | None] = {}
        attempts = self.attempts
        for arm in self._plan.arms:
            if ladder_ended(self._plan, arm, attempts):
                references = best_references(self._references(arm.name))
                if references:
                    rates[arm.name] = references[0].learning_rate
        return rates

    @property
    def ledger(self) -> LedgerRecord:
        """What has been spent and what is held, device-seconds."""
        if self._ledger is None:
            self._ledger = self.store.ledger(self.study.id)
        return self._ledger

    @property
    def spent(self) -> float:
        """What is spent of the budget, in its unit; a failed trial counts by its time only."""
        if not self.budget.counts_trials:
            return self.ledger.spent_seconds
        return float(sum(trial.state in COUNTED for trial in self._trials.values()))

    @property
    def remaining(self) -> float:
        """What is neither spent nor held by open trials, in the budget's unit."""
        if self.budget.counts_trials:
            held = sum(trial.state in OPEN for trial in self._trials.values())
            return self.budget.amount - self.spent - held
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

    def seconds_left(self, trial: TrialRecord) -> float:
        """Predict the device-seconds that an interrupted trial still needs, by its tokens."""
        curve = self._curve(trial.number)
        done = curve[-1].tokens / trial.tokens if curve else 0.0
        return self.seconds(self._plan.arm(trial.arm)) * max(0.0, 1.0 - done)

    def _changed(self, trial: TrialRecord) -> TrialRecord:
        self._trials[trial.number] = trial
        self._ledger = None
        return trial

    def _references(self, arm: str) -> list[Run]:
        """The runs of an arm that may be references, by role or by γ."""
        gamma = self._plan.reference_gamma
        return self._built(
            lambda trial: (
                trial.state in EVIDENCE and trial.arm == arm and is_reference(trial, gamma)
            )
        )

    def _built(self, wanted: Callable[[TrialRecord], bool]) -> list[Run]:
        trials = [trial for trial in self._trials.values() if wanted(trial)]
        self._read([trial for trial in trials if trial.number not in self._runs])
        found = [self._runs[trial.number] for trial in trials]
        return [run for run in found if run is not None]

    def _read(self, trials: Sequence[TrialRecord]) -> None:
        """Build the runs of ended trials, which never change, and let go of their curves."""
        missing = [trial for trial in trials if trial.number not in self._curves]
        if len(missing) > _FEW:
            columns = self.store.curves(self.study.id, TRAINED_ACCURACY)
            for trial in missing:
                curve = curve_of_columns(columns.get(trial.id))
                self._runs[trial.number] = run_of(trial, curve, self._plan.reference_gamma)
            trials = [trial for trial in trials if trial.number in self._curves]
        for trial in trials:
            self._runs[trial.number] = self._run_of(trial)
            del self._curves[trial.number]

    def _run_of(self, trial: TrialRecord) -> Run | None:
        curve = curve_of(self._curve(trial.number))
        return run_of(trial, curve, self._plan.reference_gamma)

    def _curve(self, number: int) -> list[MeasurementRecord]:
        if number not in self._curves:
            key = self._trials[number].id
            self._curves[number] = list(self.store.trial_measurements(key))
        return self._curves[number]
