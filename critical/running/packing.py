"""Which trials are trained together: what may join a pack, and how many of its members may search.

Pure, as the agenda is. A pack has one arm; its members may differ in role and seed. A sampler that
chooses many trials at once learns nothing between them, so only some of an arm's search trials
join a pack, and ever fewer towards the end: so the arms come out even too.
"""

from __future__ import annotations

from critical.plan import Arm, Plan
from critical.running.agenda import (
    Intent,
    Situation,
    confirmation_cost,
    had,
    next_reference,
    next_search,
)

AUTOMATIC = 8
"""Members of a pack on a GPU, where nobody says how many."""
AT_ONCE = 0.25
"""The part of an arm's search trials to come that one pack may have."""


def mean_members(trials: int, most: int) -> float:
    """Return how many members a pack of an arm's search trials has on average.

    Args:
        trials: That the arm is to get.
        most: Members of a pack, at the most.
    """
    packs, left = 0, trials
    while left > 0:
        left -= min(most, _at_once(left))
        packs += 1
    return trials / packs if packs else 1.0


def next_in_arm(plan: Plan, now: Situation, arm: Arm, searching: int) -> Intent | None:
    """Return a trial that may join a pack, if any: a reference that is due, else one that searches.

    Args:
        plan: Of the search.
        now: What has been run, the members of the pack with it.
        arm: Of the pack.
        searching: Members of the pack that search.
    """
    reference = next_reference(plan, now, (arm,))
    if reference is not None:
        return reference
    if searching >= most_searching(plan, now, arm, searching):
        return None
    found = next_search(plan, now, (arm,))
    return found if isinstance(found, Intent) else None


def most_searching(plan: Plan, now: Situation, arm: Arm, searching: int) -> int:
    """Return how many of a pack's members may search, 1 at least.

    Args:
        plan: Of the search.
        now: What has been run, the members of the pack with it.
        arm: Of the pack.
        searching: Members of the pack that search, which were to come when it was begun.
    """
    return _at_once(_to_come(plan, now, arm) + searching)


def _at_once(to_come: float) -> int:
    return max(1, int(AT_ONCE * to_come))


def _to_come(plan: Plan, now: Situation, arm: Arm) -> float:
    """Search trials that an arm will still get by its equal part; 0 where its cost is unknown."""
    cost = now.costs[arm.name]
    if not cost:
        return 0.0
    left = now.remaining - confirmation_cost(plan, now.costs)
    part = (left + sum(had(one, now) for one in plan.arms)) / len(plan.arms)
    return max(0.0, part - had(arm, now)) / cost
