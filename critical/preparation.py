"""From checked options to a search that can start: target, trial, plan, study, store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from critical.budget import Budget, format_amount, parse_budget
from critical.errors import BudgetError, OptionError
from critical.folders import StudyFolder
from critical.history import History
from critical.identity import check_identity, identity_of, is_algorithmic
from critical.options import SearchOptions
from critical.plan import Plan, Request, extended, make_plan
from critical.posterior import PosteriorSpec
from critical.repetition import Original, next_repetition
from critical.retries import Retries
from critical.rules import parse_rule
from critical.search import Search
from critical.storage.errors import StoreNotFound
from critical.storage.records import NewStudy, StudyRecord
from critical.storage.store import Store
from critical.target import Target, read_target
from critical.trials import ProxyRun, Scale
from critical.trials.corpus import prepare
from critical.trials.loading import NamedTrainable, parse_trainable
from critical.trials.mixture import DEFAULT_MIXTURE, parse_mixture
from critical.trials.training import TrainingRecipe

DEFAULT_REFERENCE_GAMMA = 0.5


@dataclass(frozen=True, slots=True)
class Prepared:
    """Options, resolved against this machine and its files; nothing is stored yet.

    Attributes:
        options: As given.
        name: Of the study.
        budget: The whole budget.
        target: The model to be trained, or None.
        trainable: The trial, picklable.
        identity: What must stay the same when the study goes on, as JSON.
        device: ``cpu`` or ``cuda``.
        workers: Trials at once; 0 runs them in this process.
        original: The study whose trials are run again, or None for a search.
    """

    options: SearchOptions
    name: str
    budget: Budget
    target: Target | None
    trainable: NamedTrainable | TrainingRecipe
    identity: Mapping[str, Any]
    device: str
    workers: int
    original: Original | None = None

    @property
    def reference_gamma(self) -> float:
        """γ of the reference: what the target has now, else the classic 1/√fan_in."""
        return DEFAULT_REFERENCE_GAMMA if self.target is None else self.target.reference_gamma


def prepare_search(options: SearchOptions) -> Prepared:
    """Read every file that the options name and look at this machine.

    Raises:
        CriticalError: A file, a name or a device is not as it must be.
        TrialError: The corpus, the mixture or the trainable is not.
    """
    budget = parse_budget(options.budget)
    parse_rule(options.rule)
    target = read_target(options.target) if options.target is not None else None
    device = _device(budget)
    name = options.study or (
        "default" if target is None else f"{target.model_type}-d{target.width}-L{target.depth}"
    )
    return resolve(options, name, budget, target, device)


def resolve(
    options: SearchOptions,
    name: str,
    budget: Budget,
    target: Target | None,
    device: str,
    original: Original | None = None,
) -> Prepared:
    """Load the trial that the options name, or read what the built-in one trains on.

    Raises:
        OptionError: A corpus is given that the mixture does not use.
        TrialError: The corpus, the mixture or the trainable is not as it must be.
    """
    if options.trainable is not None:
        trainable: NamedTrainable | TrainingRecipe = parse_trainable(options.trainable)
    else:
        trainable = _recipe(options, target)
    return Prepared(
        options=options,
        name=name,
        budget=budget,
        target=target,
        trainable=trainable,
        identity=identity_of(options, budget, target, trainable),
        device=device,
        workers=_workers(device) if options.workers is None else options.workers,
        original=original,
    )


def plan_search(prepared: Prepared) -> tuple[Plan, float]:
    """Plan a new search, timing the built-in trial for a few steps at each scale considered.

    A repeat has its original's plan: nothing is timed or planned.

    Returns:
        The plan, and the device-seconds that timing took.

    Raises:
        BudgetError: The budget is under the minimum.
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
    )
    if not isinstance(prepared.trainable, TrainingRecipe):
        return make_plan(request, None), 0.0
    timer = _Timer(prepared.trainable, prepared.reference_gamma, prepared.device)
    plan = make_plan(request, timer)
    return plan, timer.spent_seconds


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
        _check(study, prepared, store.place)
        plan = _plan_within(study, prepared)
    return replace(plan, workers=prepared.workers, device=prepared.device)


def enter_study(
    store: Store, prepared: Prepared, planned: tuple[Plan, float] | None = None
) -> StudyRecord:
    """Create the study and its plan, or find the one that is to go on.

    Args:
        store: Where the study is, or will be.
        prepared: What is asked for.
        planned: What ``plan_if_new`` returned; a new study without it is planned now.

    Raises:
        OptionError: The study exists with other options, or a greater budget, or one of the two
            is a repeat and the other is not.
        BudgetError: A new study's budget is under the minimum.
    """
    study = store.find_study(prepared.name)
    if study is None:
        made, spent = planned or plan_search(prepared)
        study = store.create_study(_new_study(prepared, made))
        if spent:
            store.charge(study.id, "timing", spent)
        return study
    _check(study, prepared, store.place)
    _plan_within(study, prepared)
    return study


def open_search(
    store: Store,
    prepared: Prepared,
    *,
    planned: tuple[Plan, float] | None = None,
) -> Search:
    """Enter the study and take it up where it stopped. The caller holds its lease, if any does.

    Args:
        store: Where the study is, or will be.
        prepared: What is asked for.
        planned: What ``plan_if_new`` returned; a new study without it is planned now.

    Raises:
        OptionError: The study exists with other options or a greater budget, or the work directory
            cannot be written.
        BudgetError: A new study's budget is under the minimum.
    """
    from critical.proposals import Proposals
    from critical.storage.optuna_storage import optuna_storage

    options = prepared.options
    study = enter_study(store, prepared, planned)
    if prepared.budget.amount > study.budget_total:
        grown = _plan_within(study, prepared)
        store.extend_budget(study.id, prepared.budget.amount)
        study = store.update_plan(study.id, grown.to_document())
    made = replace(Plan.from_document(study.plan), workers=prepared.workers, device=prepared.device)
    proposals = Proposals(
        optuna_storage(store.url), study.name, made, study.interval, options.sampler, options.seed
    )
    search = Search(
        History(store, study, made),
        made,
        proposals,
        _spec(study, made, options),
        StudyFolder(options.work_dir, prepared.name),
        precision=options.precision,
        seed=options.seed,
        retries=Retries(options.retries, options.backoff, options.max_failures, options.patience),
    )
    if prepared.original is not None:
        search.schedule = partial(next_repetition, made, prepared.original.trials)
    return search


def repeated_by(study: StudyRecord) -> str | None:
    """Return the name of the study that this one repeats, None where it is a search."""
    found: str | None = study.options.get("repeats")
    return found


class _Timer:
    """Times the built-in trial at a scale, once, and adds up what that took."""

    def __init__(self, recipe: TrainingRecipe, gamma: float, device: str) -> None:
        self._recipe, self._gamma, self._device = recipe, gamma, device
        self._found: dict[Scale, float] = {}
        self.spent_seconds = 0.0

    def __call__(self, scale: Scale) -> float:
        from critical.trials.timing import trial_seconds

        if scale not in self._found:
            run = ProxyRun(self._gamma, None, scale, seed=0, device=self._device)
            timing = trial_seconds(self._recipe, run)
            self._found[scale] = timing.trial_seconds
            self.spent_seconds += timing.spent_seconds
        return self._found[scale]


def _recipe(options: SearchOptions, target: Target | None) -> TrainingRecipe:
    mixture = parse_mixture(options.mixture) if options.mixture else dict(DEFAULT_MIXTURE)
    corpus = None
    if "text" in mixture:
        corpus = prepare(options.corpus, options.work_dir.absolute() / "corpora")
    elif options.corpus is not None:
        raise OptionError("--corpus is given, but the mixture has no text: add text=0.5 to it")
    recipe = TrainingRecipe(
        corpus=corpus,
        mixture=mixture,
        batch_tokens=options.batch,
        weight_decay=options.weight_decay,
        convention=options.convention,
    )
    if target is None:
        return recipe
    return replace(
        recipe,
        feed_forward_ratio=target.feed_forward / target.width,
        norm_eps=target.norm_eps,
        tied=target.tied,
    )


def _device(budget: Budget) -> str:
    if budget.device == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if budget.device == "gpu":
        cpu = format_amount(budget.amount, budget.unit.replace("gpu", "cpu"))
        raise BudgetError(f"budget {budget} needs a GPU and none was found: write --budget {cpu}")
    return "cpu"


def _workers(device: str) -> int:
    if device == "cuda":
        import torch

        return torch.cuda.device_count()
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _new_study(prepared: Prepared, plan: Plan) -> NewStudy:
    target = prepared.target
    return NewStudy(
        name=prepared.name,
        budget_unit=prepared.budget.unit,
        budget_total=prepared.budget.amount,
        rule=prepared.options.rule,
        interval=prepared.options.interval,
        reference_gamma=prepared.reference_gamma,
        target_width=None if target is None else target.width,
        target_depth=None if target is None else target.depth,
        options={
            "given": prepared.options.model_dump(mode="json", exclude={"storage"}),
            "identity": dict(prepared.identity),
            **({} if prepared.original is None else {"repeats": prepared.original.study.name}),
        },
        plan=plan.to_document(),
        target=None if target is None else target.to_document(),
    )


def _check(study: StudyRecord, prepared: Prepared, place: str) -> None:
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


def _plan_within(study: StudyRecord, prepared: Prepared) -> Plan:
    """Return a study's plan under a budget that may have grown."""
    budget = prepared.budget
    if budget.amount < study.budget_total:
        had = format_amount(study.budget_total, study.budget_unit)
        raise OptionError(
            f"study {study.name!r} has a budget of {had} already: give that or more, "
            "or another name with --study"
        )
    plan = Plan.from_document(study.plan)
    if budget.amount == study.budget_total:
        return plan
    original = prepared.original
    return extended(plan, budget) if original is None else _repeated_plan(original)


def _repeated_plan(original: Original) -> Plan:
    plan = Plan.from_document(original.study.plan)
    note = (
        f"runs the trials of {original.study.name!r} again, each as it was; the budget is that "
        "study's and ends nothing"
    )
    return replace(plan, notes=(*plan.notes, note))


def _spec(study: StudyRecord, plan: Plan, options: SearchOptions) -> PosteriorSpec:
    return PosteriorSpec(
        interval=study.interval,
        reference_gamma=study.reference_gamma,
        rule=parse_rule(study.rule),
        target_width=study.target_width,
        slope_sd=options.slope_sd,
        ladder=plan.ladder,
        algorithmic=is_algorithmic(study),
    )
