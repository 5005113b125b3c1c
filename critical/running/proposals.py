"""Optuna's side of a search: one two-objective study per arm, asked for γ and learning rate.

Each scale × settings has its own Optuna study, ``STUDY/w64/target``, because R and ρ are not
comparable across scales. The store's rows are the truth; what Optuna holds is mended from them.

A sampler never reads those studies: it is asked in a study in memory that holds the arm's open
trials and the last ``SHOWN`` that ended, made from our rows. So the time of an ask is bounded (an
Optuna GPSampler takes seconds at 1,000 trials), and no call loads a study as a whole, which takes
seconds too where it has ten thousand trials.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState as OptunaState
from optuna.trial import create_trial
from sqlalchemy.exc import DBAPIError

from critical.inference.objectives import LOG2_EFFICIENCY_LIMIT
from critical.plan import Arm, Plan
from critical.storage.engine import opening
from critical.storage.records import TrialRecord, TrialState

METRICS = ("reasoning", "log2_efficiency")
SHOWN = 100
"""Ended trials of an arm that its sampler is shown, the last ones. A GPSampler then takes 0.2 s, or
0.3 s beside running trials; at 200 it takes twice that, and found γ* no better in ten simulated
searches of 200 trials at one scale (share lost 0.017 against 0.016)."""
_DIRECTIONS = (StudyDirection.MAXIMIZE,) * len(METRICS)
_CONSTRAINT = "diverged"
_DESIGN = (0.42, 0.75, 0.25, 0.58, 0.92, 0.08)
"""Where in the interval an arm's first search trials are: the middles of its six parts, those
that are likeliest to matter first."""
_ENDED = {
    TrialState.COMPLETED: OptunaState.COMPLETE,
    TrialState.DIVERGED: OptunaState.COMPLETE,
    TrialState.STOPPED: OptunaState.PRUNED,
    TrialState.FAILED: OptunaState.FAIL,
}
"""How an end is told. A trial in any other state is open, and so it is in Optuna: running."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What Optuna says to try. ``number`` is the trial's place in its Optuna study."""

    number: int
    gamma: float
    learning_rate: float | None


class Proposals:
    """The Optuna studies of a search. ``mend`` takes up what was tried before.

    Any method raises StoreError, in one sentence, where the database cannot be read or written.
    """

    def __init__(
        self,
        storage: RDBStorage,
        study: str,
        plan: Plan,
        interval: tuple[float, float],
        sampler: str,
        seed: int,
    ) -> None:
        self._storage = storage
        self._interval = interval
        self._plan = plan
        self._distributions = _distributions(plan, interval)
        self._sampler = sampler
        self._seed = seed
        with self._storing():
            self._studies = {arm.name: _open(storage, f"{study}/{arm.name}") for arm in plan.arms}
            self._keys = {
                name: storage.get_study_id_from_name(opened.study_name)
                for name, opened in self._studies.items()
            }
        self._recent = {arm.name: self._shown(()) for arm in plan.arms}

    def close(self) -> None:
        """Close Optuna's connections to the database."""
        self._storage.remove_session()
        self._storage.engine.dispose()

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
            return self._begin(arm, gamma, rates[(middle + search_trials) % len(rates)])
        found = self._recent[arm.name].ask()
        return self._begin(arm, found["gamma"], found.get("learning_rate"))

    def enter(self, arm: Arm, gamma: float, learning_rate: float | None) -> int | None:
        """Enter a trial that the plan chose; None where its γ is outside the search interval."""
        low, high = self._interval
        if not low <= gamma <= high:
            return None
        if learning_rate is not None and learning_rate not in self._plan.ladder:
            return None
        return self._begin(arm, gamma, learning_rate).number

    def tell(self, trial: TrialRecord) -> None:
        """Tell how a trial ended, if Optuna holds it and does not know yet."""
        state = _ENDED.get(trial.state)
        if trial.optuna_number is None or state is None:
            return
        self._recent[trial.arm].show(trial)
        study = self._studies[trial.arm]
        with self._storing():
            key = self._key(trial.arm, trial.optuna_number)
            frozen = self._storage.get_trial(key) if key is not None else None
            if key is None or frozen is None or frozen.state.is_finished():
                return
            if state is not OptunaState.COMPLETE:
                study.tell(trial.optuna_number, state=state)
                return
            if _CONSTRAINT not in frozen.constraints:
                diverged = float(trial.state is TrialState.DIVERGED)
                optuna.trial.Trial(study, key).set_constraint(_CONSTRAINT, diverged)
            study.tell(trial.optuna_number, values=_values(trial))

    def mend(self, trials: Sequence[TrialRecord]) -> None:
        """Take up a study: tell what Optuna missed, fail its open trials without a row of ours.

        Only Optuna's open trials are read, so that this takes as long for many trials as for few.

        Args:
            trials: Every row of the study, in number order.
        """
        rows: dict[str, dict[int, TrialRecord]] = defaultdict(dict)
        for trial in trials:
            if trial.optuna_number is not None:
                rows[trial.arm][trial.optuna_number] = trial
        for name in self._studies:
            self._recent[name] = self._shown([*rows[name].values()])
            with self._storing():
                for number in self._unfinished(name):
                    if number in rows[name]:
                        self.tell(rows[name][number])
                    elif (key := self._key(name, number)) is not None:
                        self._storage.set_trial_state_values(key, OptunaState.FAIL)

    def _begin(self, arm: Arm, gamma: float, rate: float | None) -> Proposal:
        """Store a running trial, in one transaction: none is ever half begun."""
        params = _params(self._distributions, gamma, rate)
        trial = create_trial(
            state=OptunaState.RUNNING, params=params, distributions=self._distributions
        )
        with self._storing():
            key = self._storage.create_new_trial(self._keys[arm.name], trial)
            number = self._storage.get_trial_number_from_id(key)
        proposal = Proposal(number, gamma, params.get("learning_rate"))
        self._recent[arm.name].begin(proposal)
        return proposal

    def _shown(self, trials: Sequence[TrialRecord]) -> _Recent:
        # A fixed seed would replay the start-up points on every resume.
        recent = _Recent(_sampler(self._sampler, self._seed + len(trials)), self._distributions)
        for trial in trials:
            recent.show(trial)
        return recent

    def _key(self, arm: str, number: int) -> int | None:
        """Key of Optuna's trial, None where somebody deleted it."""
        try:
            return self._storage.get_trial_id_from_study_id_trial_number(self._keys[arm], number)
        except KeyError:
            return None

    def _unfinished(self, arm: str) -> list[int]:
        """Numbers of Optuna's trials that wait or run."""
        # Not study.get_trials: that reads every trial once, whatever their states.
        states = (OptunaState.WAITING, OptunaState.RUNNING)
        found = self._storage.get_all_trials(self._keys[arm], deepcopy=False, states=states)
        return [frozen.number for frozen in found]

    @contextmanager
    def _storing(self) -> Iterator[None]:
        """Turn the database's failures into one sentence, also where Optuna has wrapped them."""
        with opening(self._storage.engine.url), _without_experimental_warnings():
            try:
                yield
            except StorageInternalError as error:
                if isinstance(error.__cause__, DBAPIError):
                    raise error.__cause__ from None
                raise


@dataclass(frozen=True, slots=True)
class _Recent:
    """What the sampler of one arm is shown: its open trials, and the last that ended."""

    sampler: optuna.samplers.BaseSampler
    distributions: dict[str, BaseDistribution]
    running: dict[int, Proposal] = field(default_factory=dict)
    ended: dict[int, TrialRecord] = field(default_factory=dict)

    def begin(self, proposal: Proposal) -> None:
        """Show that a trial runs, so that another is not put beside it."""
        self.running[proposal.number] = proposal

    def show(self, trial: TrialRecord) -> None:
        """Show a row that Optuna holds; of those that ended, only results say anything."""
        number = trial.optuna_number
        assert number is not None
        if trial.state not in _ENDED:
            self.running[number] = Proposal(number, trial.gamma, trial.learning_rate)
            return
        self.running.pop(number, None)
        if _ENDED[trial.state] is OptunaState.COMPLETE:
            self.ended[number] = trial
            if len(self.ended) > SHOWN:
                del self.ended[next(iter(self.ended))]

    def ask(self) -> Mapping[str, Any]:
        """Ask the sampler for γ and, with a ladder, a learning rate."""
        study = optuna.create_study(sampler=self.sampler, directions=_DIRECTIONS)
        # A constraint that nothing violates would only cost a third model.
        constrained = any(one.state is TrialState.DIVERGED for one in self.ended.values())
        for trial in self.ended.values():
            violated = {_CONSTRAINT: float(trial.state is TrialState.DIVERGED)}
            study.add_trial(
                create_trial(
                    values=_values(trial),
                    params=_params(self.distributions, trial.gamma, trial.learning_rate),
                    distributions=self.distributions,
                    constraints=violated if constrained else None,
                )
            )
        for one in self.running.values():
            study.add_trial(
                create_trial(
                    state=OptunaState.RUNNING,
                    params=_params(self.distributions, one.gamma, one.learning_rate),
                    distributions=self.distributions,
                )
            )
        return study.ask(self.distributions).params


def _open(storage: RDBStorage, name: str) -> optuna.Study:
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        directions=_DIRECTIONS,
        load_if_exists=True,
        sampler=optuna.samplers.RandomSampler(),  # never asked: see _Recent
    )
    study.set_metric_names(list(METRICS))
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


def _params(
    distributions: Mapping[str, BaseDistribution], gamma: float, rate: float | None
) -> dict[str, Any]:
    given = {"gamma": gamma, "learning_rate": rate}
    return {name: given[name] for name in distributions}


def _values(trial: TrialRecord) -> list[float]:
    if trial.state is TrialState.DIVERGED:
        return [0.0, -LOG2_EFFICIENCY_LIMIT]
    assert trial.reasoning is not None and trial.log2_efficiency is not None
    return [trial.reasoning, trial.log2_efficiency]


@contextmanager
def _without_experimental_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
