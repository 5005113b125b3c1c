"""Pre-flight: before any budget is spent, whether runs can start at both ends of the γ interval.

Every arm is looked at, and what lies beyond an end is cut where one of them can hardly start. All
arms keep one interval, so that their γ* are comparable. What the verdicts rest on, see
``critical.trials.preflight``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from critical.errors import OptionError
from critical.plan import Arm, Plan
from critical.trials import ProxyRun
from critical.trials.preflight import Vitals, inspect, judge, remark
from critical.trials.training import TrainingRecipe

STEP = 0.05
"""Of γ, in which an end is moved inward."""
NARROWEST = 0.1
"""Of γ, the least that is searched."""


def checked(
    recipe: TrainingRecipe, plan: Plan, interval: tuple[float, float]
) -> tuple[Plan, float]:
    """Cut from an interval the ends at which the built-in trial can hardly start.

    Each arm is looked at with the plan's first seed and its greatest learning rate: what cannot
    start with that one cannot start with a smaller one. Badness is taken to grow towards an end.

    Args:
        recipe: Of the built-in trial.
        plan: Whose arms, ladder, seeds and device are taken.
        interval: γ that the user wants to search.

    Returns:
        The plan with its interval and, among its notes, what was found; and the device-seconds that
        this took.

    Raises:
        OptionError: Less than ``NARROWEST`` of the interval is left.
    """
    started = time.perf_counter()
    inspector = _Inspector(recipe, plan)
    try:
        low = _moved(inspector, plan.arms, interval[0], interval[1])
        high = _moved(inspector, plan.arms, interval[1], low.gamma)
    except _NothingLeft as error:
        raise OptionError(
            f"--interval {interval[0]:g},{interval[1]:g} has no {NARROWEST:g} of γ in which a run "
            f"can start, for at {error}: write other γ, as in --interval 0.3,1.2, or more --tokens"
        ) from None
    findings = (
        *(f"γ below {low.gamma:g} is cut: at {reason}" for reason in low.reasons),
        *(f"γ above {high.gamma:g} is cut: at {reason}" for reason in high.reasons),
        *_outside(plan, low, high),
        *_remarks(inspector, plan, (low.gamma, high.gamma)),
    )
    found = replace(
        plan,
        interval=(low.gamma, high.gamma),
        findings=findings,
        notes=(*plan.notes, *findings),
    )
    return found, time.perf_counter() - started


@dataclass(frozen=True, slots=True)
class _End:
    """An end of the interval that is left, and why what lies beyond it is not; at most one."""

    gamma: float
    reasons: tuple[str, ...] = ()


class _NothingLeft(Exception):  # noqa: N818  # its text is why
    """No γ of the interval lets one of the arms start."""


class _Inspector:
    """Looks at an arm at a γ, once."""

    def __init__(self, recipe: TrainingRecipe, plan: Plan) -> None:
        self._recipe, self._plan = recipe, plan
        self._found: dict[tuple[str, float], Vitals] = {}

    def vitals(self, arm: Arm, gamma: float) -> Vitals:
        """Return what one pass tells."""
        if (arm.name, gamma) not in self._found:
            plan = self._plan
            rate = max(plan.ladder, default=None)
            run = ProxyRun(gamma, rate, arm.scale, plan.seeds[0], arm.settings, plan.device)
            self._found[arm.name, gamma] = inspect(self._recipe, run)
        return self._found[arm.name, gamma]

    def reason(self, arm: Arm, gamma: float) -> str | None:
        """Return where a run can hardly start and why, None where it can."""
        why = judge(self.vitals(arm, gamma))
        return None if why is None else f"{_place(arm, gamma)}, {why}"


def _moved(inspector: _Inspector, arms: Sequence[Arm], end: float, other: float) -> _End:
    """Move an end towards the other one until every arm can start there.

    Raises:
        _NothingLeft: It would come too close to the other one.
    """
    found = _End(end)
    for arm in arms:
        reason = inspector.reason(arm, found.gamma)
        if reason is not None:
            found = _first_good(inspector, arm, (found.gamma, other), reason)
    return found


def _first_good(
    inspector: _Inspector, arm: Arm, interval: tuple[float, float], reason: str
) -> _End:
    """Bisect the steps from an end at which an arm cannot start to the other end.

    Args:
        inspector: Tells where the arm can start.
        arm: That cannot start at the first γ of the interval.
        interval: γ of the end and of the other one, in either order.
        reason: Why it cannot.

    Raises:
        _NothingLeft: As ``_moved``.
    """
    end, other = interval
    inward = STEP if other > end else -STEP
    bad, good = 0, int((abs(other - end) - NARROWEST) / STEP + 1e-9)

    def at(step: int) -> float:
        return round(end + step * inward, 10)

    if good < 1:
        raise _NothingLeft(reason)
    furthest = inspector.reason(arm, at(good))
    if furthest is not None:
        raise _NothingLeft(furthest)
    while good - bad > 1:
        middle = (bad + good) // 2
        why = inspector.reason(arm, at(middle))
        if why is None:
            good = middle
        else:
            bad, reason = middle, why
    return _End(at(good), (reason,))


def _outside(plan: Plan, low: _End, high: _End) -> tuple[str, ...]:
    """Say that the reference lies where runs can hardly start."""
    gamma = plan.reference_gamma
    below, above = low.reasons and gamma < low.gamma, high.reasons and gamma > high.gamma
    if not (below or above):
        return ()
    return (f"the reference γ {gamma:.3f} lies in what is cut: it is run all the same",)


def _remarks(inspector: _Inspector, plan: Plan, ends: Sequence[float]) -> tuple[str, ...]:
    """Say at each end, of each settings' arm with the most saturated norms, what is to be known."""
    said = []
    for gamma, settings in product(ends, plan.settings):
        arms = (arm for arm in plan.arms if arm.settings == settings)
        found, worst = min(
            ((inspector.vitals(arm, gamma), arm) for arm in arms),
            key=lambda pair: pair[0].saturation,
        )
        sentence = remark(found)
        if sentence is not None:
            said.append(f"at {_place(worst, gamma)}, {sentence}")
    return tuple(said)


def _place(arm: Arm, gamma: float) -> str:
    return f"γ {gamma:g}, width {arm.scale.width} and settings {arm.settings}"
