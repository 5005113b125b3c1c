"""Optuna's side of a search: one two-objective study per arm, asked for γ and learning rate.

Each scale × settings has its own Optuna study, ``STUDY/w64/target``, because R and ρ are not
comparable across scales. The store's rows are the truth; what Optuna holds is mended from them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from critical.objectives import LOG2_EFFICIENCY_LIMIT
from critical.plan import Arm, Plan
from critical.storage.records import TrialRecord, TrialState

METRICS = ("reasoning", "log2_efficiency")
_DESIGN = (0.42, 0.75, 0.25, 0.58, 0.92, 0.08)
"""Where in the interval an arm's first search trials are: the middles of its six parts, those
that are likeliest to matter first."""
_ENDED = {
    TrialState.COMPLETED: OptunaState.COMPLETE,
    TrialState.DIVERGED: OptunaState.COMPLETE,
    TrialState.STOPPED: OptunaState.PRUNED,
    TrialState.FAILED: OptunaState.FAIL,
}


@dataclass(frozen=True, slots=True)
class Proposal:
    """What Optuna says to try. ``number`` is the trial's place in its Optuna study."""

    number: int
    gamma: float
    learning_rate: float | None


class Proposals:
    """The Optuna studies of a search."""

    def __init__(
        self,
        storage: BaseStorage,
        study: str,
        plan: Plan,
        interval: tuple[float, float],
        sampler: str,
        seed: int,
    ) -> None:
        self._interval = interval
        self._plan = plan
        self._distributions = _distributions(plan, interval)
        self._studies = {
            arm.name: _open(storage, f"{study}/{arm.name}", sampler, seed) for arm in plan.arms
        }

    def propose(self, arm: Arm, search_trials: int) -> Proposal:
        """Ask for γ and learning rate; the first few of an arm come from a fixed design.

        Args:
            arm: The scale and settings.
            search_trials: How many search trials the arm has had.
        """
        if search_trials < len(_DESIGN):
            low, high = self._interval
            gamma = low + (high - low) * _DESIGN[search_trials]
            rates = self._plan.rungs
            middle = len(rates) // 2
            return self._ask(arm, gamma, rates[(middle + search_trials) % len(rates)])
        return self._ask(arm)

    def enter(self, arm: Arm, gamma: float, learning_rate: float | None) -> int | None:
        """Enter a trial that the plan chose; None where its γ is outside the search interval."""
        low, high = self._interval
        if not low <= gamma <= high:
            return None
        if learning_rate is not None and learning_rate not in self._plan.ladder:
            return None
        return self._ask(arm, gamma, learning_rate).number

    def tell(self, trial: TrialRecord) -> None:
        """Tell how a trial ended, if Optuna holds it and does not know yet."""
        if trial.optuna_number is None or trial.state is TrialState.RUNNING:
            return
        study = self._studies[trial.arm]
        frozen = _find(study, trial.optuna_number)
        if frozen is None or frozen.state.is_finished():
            return
        state = _ENDED[trial.state]
        if state is not OptunaState.COMPLETE:
            study.tell(trial.optuna_number, state=state)
            return
        diverged = trial.state is TrialState.DIVERGED
        with _without_experimental_warnings():
            optuna.trial.Trial(study, frozen._trial_id).set_constraint("diverged", float(diverged))
            study.tell(trial.optuna_number, values=_values(trial))

    def mend(self, trials: Sequence[TrialRecord]) -> None:
        """Tell again what Optuna missed, and fail its open trials that have no row of ours."""
        for trial in trials:
            self.tell(trial)
        for name, study in self._studies.items():
            for _ in study.get_trials(deepcopy=False, states=(OptunaState.WAITING,)):
                study.ask()  # takes the waiting one, which the next trial would be mistaken for
            known = {trial.optuna_number for trial in trials if trial.arm == name}
            for frozen in study.get_trials(deepcopy=False, states=(OptunaState.RUNNING,)):
                if frozen.number not in known:
                    study.tell(frozen.number, state=OptunaState.FAIL)

    def _ask(self, arm: Arm, gamma: float | None = None, rate: float | None = None) -> Proposal:
        study = self._studies[arm.name]
        if gamma is not None:
            fixed = {"gamma": gamma} | ({"learning_rate": rate} if self._plan.ladder else {})
            study.enqueue_trial(fixed)
        with _without_experimental_warnings():
            trial = study.ask(self._distributions)
        return Proposal(trial.number, trial.params["gamma"], trial.params.get("learning_rate"))


def _open(storage: BaseStorage, name: str, sampler: str, seed: int) -> optuna.Study:
    with _without_experimental_warnings():
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=["maximize", "maximize"],
            load_if_exists=True,
        )
        study.set_metric_names(list(METRICS))
        # A fixed seed would replay the start-up points on every resume.
        fresh = seed + len(study.get_trials(deepcopy=False))
        study.sampler = _sampler(sampler, fresh)
    return study


def _sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.GPSampler(seed=seed, n_startup_trials=len(_DESIGN))


def _distributions(plan: Plan, interval: tuple[float, float]) -> dict[str, BaseDistribution]:
    distributions: dict[str, BaseDistribution] = {"gamma": FloatDistribution(*interval)}
    if plan.ladder:
        distributions["learning_rate"] = CategoricalDistribution(plan.ladder)
    return distributions


def _values(trial: TrialRecord) -> list[float]:
    if trial.state is TrialState.DIVERGED:
        return [0.0, -LOG2_EFFICIENCY_LIMIT]
    assert trial.reasoning is not None and trial.log2_efficiency is not None
    return [trial.reasoning, trial.log2_efficiency]


def _find(study: optuna.Study, number: int) -> FrozenTrial | None:
    trials = study.get_trials(deepcopy=False)
    return trials[number] if number < len(trials) else None


@contextmanager
def _without_experimental_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
