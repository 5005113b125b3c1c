"""The plan of a search: scales, tokens, learning rates, seeds, confirmation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import exp, log
from statistics import fmean
from typing import Any

from pydantic import TypeAdapter

from critical.budget import Budget, format_amount
from critical.errors import BudgetError
from critical.targets.target import Target, proxy_shape
from critical.tiers import SIZES, TIERS, UNTIMED, Tier, TrialCost
from critical.trials import Scale

BASE_TOKENS = 1_024_000
"""Tokens within which the reference learns the default mixture's trained items at every width and
seed of data/main: at four fifths of them it is only just so at width 32."""
BASE_WIDTH, BASE_RATE = 32, 4e-3
"""A learning rate that does well at a width; the best one falls about as 1/width (measured)."""
TRAINABLE_WIDTHS = (32, 64, 128)


@dataclass(frozen=True, slots=True)
class Arm:
    """One scale × settings of a search.

    Attributes:
        scale: Of the arm's proxies.
        settings: Under which they train, as ``target``.
        trial_cost: Predicted device-seconds of one trial, or None before any has run.
    """

    scale: Scale
    settings: str
    trial_cost: float | None

    @property
    def name(self) -> str:
        """As in ``w64/target``."""
        return f"w{self.scale.width}/{self.settings}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a search is going to do.

    Attributes:
        arms: From the narrowest to the widest scale, at each the settings in their order.
        ladder: Learning rates that are searched; empty where the trial chooses its own.
        seeds: Seeds that search trials take in turn.
        pairs: Confirmation pairs on the widest scale, on fresh seeds, under each settings.
        reference_gamma: γ of the reference at every scale.
        device: ``cpu`` or ``cuda``.
        workers: Trials that run at once; 0 runs them in this process, without Ray.
        cost: Expected device-seconds, or trials, of the least that the plan does.
        notes: What the user should know about it, a sentence each.
        interval: γ that is searched: what pre-flight left of the user's; None where nothing was
            looked into, and all of the user's is searched.
        findings: Of pre-flight, those of the notes that stay when the budget grows.
        compiled: Whether the built-in trial compiles its training steps. One choice for a whole
            study, for a compiled trial comes to other bits.
    """

    arms: tuple[Arm, ...]
    ladder: tuple[float, ...]
    seeds: tuple[int, ...]
    pairs: int
    reference_gamma: float
    device: str
    workers: int
    cost: float
    notes: tuple[str, ...]
    interval: tuple[float, float] | None = None
    findings: tuple[str, ...] = ()
    compiled: bool = False

    @property
    def rungs(self) -> tuple[float | None, ...]:
        """The ladder, or a single None where nothing is tuned."""
        return self.ladder or (None,)

    @property
    def settings(self) -> tuple[str, ...]:
        """Those that are searched side by side; the first is the headline's."""
        return tuple(dict.fromkeys(arm.settings for arm in self.arms))

    @property
    def widest(self) -> tuple[Arm, ...]:
        """The arms of the widest scale, one of each of the settings."""
        return tuple(arm for arm in self.arms if arm.scale.width == self.arms[-1].scale.width)

    def arm(self, name: str) -> Arm:
        """Return the arm of a name."""
        return next(arm for arm in self.arms if arm.name == name)

    def to_document(self) -> dict[str, Any]:
        """Return the plan as JSON."""
        return asdict(self)

    @staticmethod
    def from_document(document: Mapping[str, Any]) -> Plan:
        """Read what ``to_document`` wrote."""
        return TypeAdapter(Plan).validate_python(dict(document))


@dataclass(frozen=True, slots=True)
class Request:
    """What a plan is made from: the options that matter to it, resolved.

    ``notes`` stand before the plan's own.
    """

    budget: Budget
    target: Target | None
    widths: tuple[int, ...] | None
    ladder: tuple[float, ...] | None
    tokens: int | None
    seed: int
    reference_gamma: float
    device: str
    workers: int
    own_trainable: bool
    settings: tuple[str, ...] = ("target",)
    notes: tuple[str, ...] = ()


Clock = Callable[[Scale, str, int], float]
"""Device-seconds of a trial at a scale under some settings, one of so many search trials there."""


def make_plan(request: Request, trial_seconds: Clock | None) -> Plan:
    """Plan a search.

    Args:
        request: What the user wants.
        trial_seconds: What a trial takes, timed; None for a user's own trial, whose cost is
            learned from its first runs.

    Raises:
        BudgetError: The budget is under the least that can be searched; the message names it.
    """

    def cost(width: int, factor: float, trials: int) -> float:
        """One trial under each of the settings, for all of them share the budget."""
        if request.budget.counts_trials or trial_seconds is None:
            return float(len(request.settings))
        scale = scale_at(width, factor, request)
        return sum(trial_seconds(scale, settings, trials) for settings in request.settings)

    widths = request.widths or (TRAINABLE_WIDTHS if request.own_trainable else None)
    tiers = _tiers(request) if widths is None else _tiers_at(widths, request)
    if trial_seconds is None and not request.budget.counts_trials:
        # Nobody knows what a trial costs: plan for some, and let the search see how far it gets.
        return _plan_of(tiers[UNTIMED], request, None, 0.0)
    tier = _affordable(tiers, cost, request.budget)
    return _plan_of(tier, request, trial_seconds, tier.cost(cost))


def extended(plan: Plan, budget: Budget, notes: Sequence[str] = ()) -> Plan:
    """Return the plan of a study whose budget has grown: more seeds and confirmation pairs.

    Scales, tokens and learning rates stay, for the trials that have been run must still count.

    Args:
        plan: As it was.
        budget: As it is now.
        notes: That stand before the plan's own.
    """
    widths = tuple(dict.fromkeys(arm.scale.width for arm in plan.arms))

    def cost(width: int, *_: float) -> float:
        own = [arm for arm in plan.arms if arm.scale.width == width]
        return sum(1.0 if budget.counts_trials else arm.trial_cost or 0.0 for arm in own)

    tiers = [Tier(widths, 1, len(plan.rungs), *rest) for _, *rest in SIZES]
    tier = [one for one in tiers if one.cost(cost) <= budget.amount or one is tiers[0]][-1]
    return replace(
        plan,
        seeds=tuple(range(plan.seeds[0], plan.seeds[0] + max(tier.seeds, len(plan.seeds)))),
        pairs=max(tier.pairs, plan.pairs),
        notes=(
            *notes,
            *_notes(plan.ladder, max(tier.seeds, len(plan.seeds)), tier.pairs),
            *plan.findings,
            "widths, tokens and rates stay as planned: a new --study may have richer ones",
        ),
    )


def expected_trials(plan: Plan, budget: Budget) -> dict[str, int | None]:
    """Return about how many trials each arm will get by its equal part; None where unknown."""
    costs = [1.0 if budget.counts_trials else arm.trial_cost for arm in plan.arms]
    if any(cost is None for cost in costs):
        return dict.fromkeys((arm.name for arm in plan.arms), None)
    known = [cost for cost in costs if cost]
    confirmation = 2 * plan.pairs * sum(known[-len(plan.widest) :])
    part = (budget.amount - confirmation) / len(known)
    return {arm.name: round(part / cost) for arm, cost in zip(plan.arms, known, strict=True)}


def scale_at(width: int, factor: float, request: Request) -> Scale:
    """Return the proxy of a width: its shape in the target's proportions, its tokens."""
    if request.target is not None:
        depth, heads, _ = proxy_shape(request.target, width)
    else:
        depth, heads = _default_shape(width)
    tokens = request.tokens or round(BASE_TOKENS * factor * max(1.0, width / 64))
    return Scale(width, depth, heads, tokens)


def _default_shape(width: int) -> tuple[int, int]:
    """Return (depth, heads) where there is no target: head dimension 16, up to 4 blocks."""
    depth = 2 if width <= 64 else 3 if width <= 128 else 4
    heads = next(n for n in range(max(1, width // 16), 0, -1) if width % (2 * n) == 0)
    return depth, heads


def _tiers(request: Request) -> list[Tier]:
    most = request.target.width if request.target is not None else TIERS[-1].widths[-1]
    allowed = [tier for tier in TIERS if tier.widths[-1] <= most]
    return [_bounded(tier, request) for tier in allowed or TIERS[:1]]


def _tiers_at(widths: tuple[int, ...], request: Request) -> list[Tier]:
    return [_bounded(Tier(widths, 1, *size), request) for size in SIZES]


def _bounded(tier: Tier, request: Request) -> Tier:
    """Let the user's own ladder, or a trial that has no rate to tune, decide the rungs."""
    rungs = tier.rungs
    if request.own_trainable and request.ladder is None:
        rungs = 1
    elif request.ladder is not None:
        rungs = len(request.ladder)
    return Tier(tier.widths, tier.factor, rungs, tier.seeds, tier.search, tier.pairs)


def _affordable(tiers: Sequence[Tier], cost: TrialCost, budget: Budget) -> Tier:
    """Climb while the next tier can be paid, so that no wide scale is timed in vain."""
    least = tiers[0].cost(cost)
    if least > budget.amount:
        minimum = _round_up(least, budget.unit)
        raise BudgetError(
            f"budget {budget} is under the minimum of this search: write --budget {minimum}"
        )
    chosen = tiers[0]
    for tier in tiers[1:]:
        if tier.cost(cost) > budget.amount:
            break
        chosen = tier
    return chosen


def _round_up(amount: float, unit: str) -> str:
    if unit == "trials":
        return format_amount(float(-(-amount // 1)), unit)
    return format_amount(float(-(-amount * 1.1 // 6) * 6), f"{unit.partition('-')[0]}-min")


def _plan_of(
    tier: Tier,
    request: Request,
    trial_seconds: Clock | None,
    cost: float,
) -> Plan:
    def timed(scale: Scale, settings: str) -> float | None:
        return None if trial_seconds is None else trial_seconds(scale, settings, tier.search)

    scales = [scale_at(width, tier.factor, request) for width in tier.widths]
    arms = tuple(
        Arm(scale, settings, timed(scale, settings))
        for scale in scales
        for settings in request.settings
    )
    ladder = request.ladder or (() if request.own_trainable else _ladder(tier))
    return Plan(
        arms=arms,
        ladder=ladder,
        seeds=tuple(range(request.seed, request.seed + tier.seeds)),
        pairs=tier.pairs,
        reference_gamma=request.reference_gamma,
        device=request.device,
        workers=request.workers,
        cost=cost,
        notes=(*request.notes, *_notes(ladder, tier.seeds, tier.pairs)),
    )


def _ladder(tier: Tier) -> tuple[float, ...]:
    """Return rates a factor 2 apart around the one that suits the middle of the widths."""
    middle = exp(fmean(log(width) for width in tier.widths))
    centre = BASE_RATE * BASE_WIDTH / max(middle, BASE_WIDTH)
    lowest = centre / 2 ** (tier.rungs // 2)
    return tuple(float(f"{lowest * 2**rung:.2g}") for rung in range(tier.rungs))


def _notes(ladder: tuple[float, ...], seeds: int, pairs: int) -> list[str]:
    notes = []
    if len(ladder) == 1:
        notes.append(f"γ* will be conditional on learning rate {ladder[0]:g}")
    if seeds == 1:
        notes.append("one seed only: the interval of γ* will be wide")
    if not pairs:
        notes.append("the budget leaves no confirmation on fresh seeds")
    return notes
