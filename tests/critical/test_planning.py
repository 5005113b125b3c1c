"""What a trial is expected to cost, alone and as a member of a pack."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from critical.planning import plan_search
from critical.preparation import Prepared
from critical.running.packing import mean_members
from critical.tiers import SIZES
from critical.trials import ProxyRun
from critical.trials.timing import Timing
from critical.trials.training import TrainingRecipe

Prepare = Callable[..., Prepared]
LAUNCHING, EACH = 10.0, 1.5
"""Seconds of the launches that a pack's members share, and what each of them adds."""


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A device on which launches take most of the time; what is timed, by its members."""
    asked: list[int] = []

    def trial_seconds(recipe: TrainingRecipe, run: ProxyRun, members: int = 1) -> Timing:
        asked.append(members)
        return Timing(LAUNCHING + EACH * members, 0.5)

    monkeypatch.setattr("critical.trials.timing.trial_seconds", trial_seconds)
    return asked


def test_a_trial_costs_its_share_of_a_pack(prepare_built_in: Prepare, timed: list[int]) -> None:
    """Of one as large as the arm's are on average: what is timed is one trial and a whole pack."""
    plan, seconds = plan_search(prepare_built_in(compile="off", budget="1cpu-h", pack=8))
    members = mean_members(SIZES[-1][2], 8)
    assert plan.arms[0].trial_cost == pytest.approx(LAUNCHING / members + EACH)
    assert timed == [1, 8]
    assert seconds > 1.0


def test_alone_it_costs_what_it_takes(prepare_built_in: Prepare, timed: list[int]) -> None:
    """No pack is timed where none is wanted."""
    plan, _ = plan_search(prepare_built_in(compile="off", budget="1cpu-h"))
    assert plan.arms[0].trial_cost == LAUNCHING + EACH
    assert timed == [1]


def test_packs_buy_wider_scales(prepare_built_in: Prepare, timed: list[int]) -> None:
    """For the same budget: the plan knows that trials get cheaper together."""
    own = {"compile": "off", "widths": None, "tokens": None, "budget": "15cpu-min"}
    alone, packed = (plan_search(prepare_built_in(**own, pack=pack))[0] for pack in (1, 8))
    assert packed.arms[-1].scale.width > alone.arms[-1].scale.width
