"""What to run next: references first, then the search at every scale in turn, then confirmation.

Pure: from the plan and the trials so far to an intent. γ and learning rate of a search trial are
left to the sampler; the plan alone decides scale, settings and seed. Settings take turns on the
same seeds, so that wherever a search ends they have had about the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import product

from critical.plan import Arm, Plan
from critical.storage.records import EVIDENCE, OPEN, Role, ScalePosterior, TrialRecord, TrialState

ATTEMPTS = 2
"""A reference or confirmation run that failed this often is given up."""
CONFIRMATION_SEEDS = 1_000
"""Confirmation seeds start this far above the search's, so that they are fresh."""
SAME_GAMMA = 1e-3
CONFIRMED_WITHIN = 0.02
"""A γ* this near to one that was confirmed needs no further confirmation."""


class Signal(Enum):
    """No intent now."""

    WAIT = auto()
    """Something that runs must end first."""
    DONE = auto()
    """Nothing is left to do."""


@dataclass(frozen=True, slots=True)
class Intent:
    """A trial to run. ``gamma`` None: the sampler picks γ and learning rate."""

    arm: Arm
    role: Role
    seed: int
    gamma: float | None = None
    learning_rate: float | None = None


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What is to be confirmed: γ* against the reference, each at its own best learning rate.

    ``round_`` counts the γ of the arm that are confirmed, from 0: each has fresh seeds.
    """

    arm: str
    gamma: float
    learning_rate: float | None
    reference_learning_rate: float | None
    round_: int = 0


@dataclass(frozen=True, slots=True)
class Situation:
    """What the agenda looks at.

    Attributes:
        trials: Those of the study, without what had failed when it was opened.
        remaining: Budget that is neither spent nor held, device-seconds or trials.
        costs: Predicted cost of one trial by arm, in the budget's unit; None where unknown.
        best_rates: The reference's best learning rate by arm, for arms whose ladder has ended.
        enough: Whether the wanted precision has been reached.
    """

    trials: Sequence[TrialRecord]
    remaining: float
    costs: Mapping[str, float | None]
    best_rates: Mapping[str, float | None]
    enough: bool


def next_reference(plan: Plan, now: Situation, among: Sequence[Arm] = ()) -> Intent | None:
    """Return a reference that is due, if any.

    Narrow scales first; the ladder at the first seed, then the other seeds at the best rung.

    Args:
        plan: Of the search.
        now: What has been run.
        among: Arms to look at; all where none is given.
    """
    for arm in among or plan.arms:
        for seed, rate in _references(plan, arm, now.best_rates):
            if _due(_matching(now.trials, arm, Role.REFERENCE, seed, rate)) and _pays(arm, now):
                return Intent(arm, Role.REFERENCE, seed, plan.reference_gamma, rate)
    return None


def next_search(plan: Plan, now: Situation, among: Sequence[Arm] = ()) -> Intent | Signal:
    """Return a search trial of the arm that has had the least of its equal part.

    Every scale gets the same part of device-time (of trials, where those are counted), so that
    narrow ones, being cheap, run more of them; and so do the settings at each.

    Args:
        plan: Of the search.
        now: What has been run.
        among: Arms to look at; all where none is given.
    """
    if now.enough:
        return Signal.DONE
    reserve = confirmation_cost(plan, now.costs)
    arms = among or plan.arms
    payable = [arm for arm in arms if (now.costs[arm.name] or 0) <= now.remaining - reserve]
    if not payable or now.remaining - reserve <= 0:
        return Signal.DONE
    ready = [arm for arm in payable if arm.name in now.best_rates]
    if not ready:
        going_on = any(trial.state in OPEN for trial in now.trials)
        return Signal.WAIT if going_on else Signal.DONE
    arm = min(ready, key=lambda arm: had(arm, now))
    # Rungs change faster than seeds, or some seed would only ever see one of them.
    turn = searched(now.trials, arm) // len(plan.rungs)
    return Intent(arm, Role.SEARCH, plan.seeds[turn % len(plan.seeds)])


def searched(trials: Sequence[TrialRecord], arm: Arm) -> int:
    """Return how many search trials an arm has had; those that failed are had again."""
    own = (t for t in trials if t.arm == arm.name and t.role is Role.SEARCH)
    return sum(trial.state is not TrialState.FAILED for trial in own)


def choose_confirmation(plan: Plan, now: Situation, scale: ScalePosterior) -> Confirmation | None:
    """Choose γ* and its learning rate of a scale to be confirmed, and the round of seeds.

    What was confirmed already goes on where γ* has not moved; a γ* that is the reference's leaves
    nothing to confirm.
    """
    name = f"w{scale.width}/{scale.settings}"
    gamma = round(scale.gamma_star.median, 3)
    if abs(gamma - plan.reference_gamma) < SAME_GAMMA:
        return None
    nearest = min(range(len(scale.gamma)), key=lambda index: abs(scale.gamma[index] - gamma))
    rate = scale.learning_rate[nearest]
    confirmed = _confirmed(plan, now.trials, name)
    if confirmed and abs(confirmed[-1][0] - gamma) <= CONFIRMED_WITHIN:
        gamma, rate = confirmed[-1]
    round_ = confirmed.index((gamma, rate)) if (gamma, rate) in confirmed else len(confirmed)
    return Confirmation(name, gamma, rate, now.best_rates.get(name), round_)


def next_confirmation(
    plan: Plan, now: Situation, confirmations: Sequence[Confirmation]
) -> Intent | Signal:
    """Return the next run of the confirmation pairs on fresh seeds.

    Args:
        plan: Of the search.
        now: What has been run.
        confirmations: One of each of the settings that have something to confirm; each has its
            first pair before any has its second.
    """
    waiting = False
    for pair, one in product(range(plan.pairs), confirmations):
        arm = plan.arm(one.arm)
        seed = plan.seeds[0] + CONFIRMATION_SEEDS + one.round_ * plan.pairs + pair
        sides = (
            (plan.reference_gamma, one.reference_learning_rate),
            (one.gamma, one.learning_rate),
        )
        for gamma, rate in sides:
            ran = _of(now.trials, arm, Role.CONFIRMATION, seed)
            found = [trial for trial in ran if trial.gamma == gamma]
            # Half a pair confirms nothing: none is begun that could not be ended.
            if _due(found) and _pays(arm, now, times=1 if ran else 2):
                return Intent(arm, Role.CONFIRMATION, seed, gamma, rate)
            waiting |= any(trial.state in OPEN for trial in found)
    return Signal.WAIT if waiting else Signal.DONE


def ladder_ended(plan: Plan, arm: Arm, trials: Sequence[TrialRecord]) -> bool:
    """Whether the reference has run, or been given up, at every rung for the first seed."""
    return all(
        any(t.state in EVIDENCE for t in found) or _given_up(found)
        for rate in plan.rungs
        for found in [_matching(trials, arm, Role.REFERENCE, plan.seeds[0], rate)]
    )


def confirmation_cost(plan: Plan, costs: Mapping[str, float | None]) -> float:
    """Return what the confirmation pairs will cost, in the budget's unit."""
    return 2 * plan.pairs * sum(costs[arm.name] or 0.0 for arm in plan.widest)


def _confirmed(
    plan: Plan, trials: Sequence[TrialRecord], arm: str
) -> list[tuple[float, float | None]]:
    """Every (γ, learning rate) that an arm ran beside the reference to confirm it, in order."""
    found: dict[tuple[float, float | None], None] = {}
    for trial in trials:
        confirms = trial.role is Role.CONFIRMATION and trial.arm == arm
        if confirms and trial.gamma != plan.reference_gamma:
            found[trial.gamma, trial.learning_rate] = None
    return list(found)


def _references(
    plan: Plan, arm: Arm, best_rates: Mapping[str, float | None]
) -> Iterator[tuple[int, float | None]]:
    for rate in plan.rungs:
        yield plan.seeds[0], rate
    if arm.name in best_rates:
        for seed in plan.seeds[1:]:
            yield seed, best_rates[arm.name]


def had(arm: Arm, now: Situation) -> float:
    """Return what an arm's search trials have cost or will, at its present cost of one."""
    own = [t for t in now.trials if t.arm == arm.name and t.role is Role.SEARCH]
    each = now.costs[arm.name] or 1.0
    return len(own) * each


def _of(trials: Sequence[TrialRecord], arm: Arm, role: Role, seed: int) -> list[TrialRecord]:
    return [t for t in trials if t.arm == arm.name and t.role is role and t.seed == seed]


def _matching(
    trials: Sequence[TrialRecord], arm: Arm, role: Role, seed: int, rate: float | None
) -> list[TrialRecord]:
    return [t for t in _of(trials, arm, role, seed) if t.learning_rate == rate]


def _due(found: Sequence[TrialRecord]) -> bool:
    busy = any(t.state in OPEN or t.state in EVIDENCE for t in found)
    return not busy and not _given_up(found)


def _given_up(found: Sequence[TrialRecord]) -> bool:
    return sum(t.state is TrialState.FAILED for t in found) >= ATTEMPTS


def _pays(arm: Arm, now: Situation, times: int = 1) -> bool:
    return now.remaining > 0 and times * (now.costs[arm.name] or 0.0) <= now.remaining
