"""The plan of what was prepared: a new one, timed on this machine, or a stored one that grows."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from critical.budget import format_amount
from critical.compiling import check_compiling, compiles
from critical.errors import BudgetError, OptionError
from critical.identity import check_identity, repeated_by
from critical.plan import Clock, Plan, Request, extended, make_plan
from critical.preflight import checked
from critical.preparation import Prepared
from critical.repetition import Original
from critical.running.packing import mean_members
from critical.storage.errors import StoreNotFound
from critical.storage.records import StudyRecord
from critical.storage.store import Store
from critical.trials import ProxyRun, Scale
from critical.trials.training import TrainingRecipe


def plan_search(prepared: Prepared) -> tuple[Plan, float]:
    """Plan a new search, timing the built-in trial for a few steps at each scale considered.

    A repeat has its original's plan: nothing is timed or planned.

    The plan's interval of γ is what pre-flight leaves of the user's.

    Returns:
        The plan, and the device-seconds that timing and pre-flight took.

    Raises:
        BudgetError: The budget is under the minimum.
        OptionError: Nothing of the interval is left.
    """
    if prepared.original is not None:
        return _repeated_plan(prepared.original), 0.0
    options = prepared.options
    request = Request(
        budget=prepared.budget,
        target=prepared.target,
        widths=options.widths,
        ladder=options.lr,
        tokens=options.tokens,
        seed=options.seed,
        reference_gamma=prepared.reference_gamma,
        device=prepared.device,
        workers=prepared.workers,
        own_trainable=options.trainable is not None,
        settings=options.settings,
        notes=prepared.notes,
    )
    if not isinstance(prepared.trainable, TrainingRecipe):
        return make_plan(request, None), 0.0
    timer = _Timer(prepared.trainable, prepared.reference_gamma, prepared.device, prepared.pack)
    made = _planned(prepared, request, timer)
    plan, seconds = checked(prepared.trainable, made, options.interval)
    return plan, timer.spent_seconds + seconds


def _planned(prepared: Prepared, request: Request, timer: Clock) -> Plan:
    """Plan by what compiled trials cost, where the plan that comes of it has them compiled."""
    from critical.trials.compiling import SPEEDUP

    if prepared.device == "cpu":
        with suppress(BudgetError):  # the minimum is told of trials that are not compiled
            faster = make_plan(request, lambda *arm: timer(*arm) / SPEEDUP)
            if compiles(prepared, faster):
                return replace(faster, compiled=True)
    made = make_plan(request, timer)
    return replace(made, compiled=compiles(prepared, made))


def plan_if_new(prepared: Prepared) -> tuple[Plan, float] | None:
    """Plan the search before anything is written; None where its study is in the store already.

    Raises:
        BudgetError: The budget is under the minimum.
        StoreError: The store cannot be used.
    """
    try:
        with Store.open(prepared.options.storage, create=False) as store:
            if store.find_study(prepared.name) is not None:
                return None
    except StoreNotFound:
        pass
    return plan_search(prepared)


def planned_search(prepared: Prepared) -> Plan:
    """Return what a search would do, and write nothing: a new plan, or that of the study there is.

    Raises:
        CriticalError: As ``plan_search`` and ``open_search``.
    """
    made = plan_if_new(prepared)
    if made is not None:
        return made[0]
    with Store.open(prepared.options.storage, create=False) as store:
        study = store.study(prepared.name)
        check_study(study, prepared, store.place)
        plan = plan_within(study, prepared)
    return replace(plan, workers=prepared.workers, device=prepared.device)


def plan_within(study: StudyRecord, prepared: Prepared) -> Plan:
    """Return a study's plan under a budget that may have grown."""
    budget = prepared.budget
    if budget.amount < study.budget_total:
        had = format_amount(study.budget_total, study.budget_unit)
        raise OptionError(
            f"study {study.name!r} has a budget of {had} already: give that or more, "
            "or another name with --study"
        )
    plan = Plan.from_document(study.plan)
    check_compiling(study.name, plan, prepared)
    if budget.amount == study.budget_total:
        return plan
    original = prepared.original
    if original is not None:
        return _repeated_plan(original)
    return extended(plan, budget, prepared.notes)


def check_study(study: StudyRecord, prepared: Prepared, place: str) -> None:
    """Refuse to go on with another study than is asked for."""
    wanted = None if prepared.original is None else prepared.original.study.name
    stored = repeated_by(study)
    if stored != wanted and wanted is not None:
        raise OptionError(
            f"study {study.name!r} in {place} is no repeat of {wanted!r}: name another with --study"
        )
    if stored != wanted:
        raise OptionError(
            f"study {study.name!r} in {place} repeats {stored!r}: write --repeat {stored} to go "
            "on with it, or another name with --study"
        )
    check_identity(study, prepared.identity, place)


def _repeated_plan(original: Original) -> Plan:
    plan = Plan.from_document(original.study.plan)
    note = (
        f"runs the trials of {original.study.name!r} again, each as it was; the budget is that "
        "study's and ends nothing"
    )
    return replace(plan, notes=(*plan.notes, note))


class _Timer:
    """Times the built-in trial at a scale and settings, once, and adds up what that took.

    Where trials are trained together, a whole pack is timed too. A trial's cost is then its share
    of a pack of as many members as the arm's packs will have on average; what a pack takes is
    linear in its members between the two.
    """

    def __init__(self, recipe: TrainingRecipe, gamma: float, device: str, pack: int) -> None:
        self._recipe, self._gamma, self._device, self._pack = recipe, gamma, device, pack
        self._found: dict[tuple[Scale, str, int], float] = {}
        self.spent_seconds = 0.0

    def __call__(self, scale: Scale, settings: str, trials: int) -> float:
        alone = self._timed(scale, settings, 1)
        if self._pack == 1:
            return alone
        more = (self._timed(scale, settings, self._pack) - alone) / (self._pack - 1)
        members = mean_members(trials, self._pack)
        return (alone + (members - 1) * more) / members

    def _timed(self, scale: Scale, settings: str, members: int) -> float:
        """Return the seconds of a run alone, or of a pack."""
        from critical.trials.timing import trial_seconds

        if (scale, settings, members) not in self._found:
            run = ProxyRun(self._gamma, None, scale, seed=0, settings=settings, device=self._device)
            timing = trial_seconds(self._recipe, run, members)
            self._found[scale, settings, members] = timing.trial_seconds
            self.spent_seconds += timing.spent_seconds
        return self._found[scale, settings, members]
