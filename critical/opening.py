"""Entering a study, and taking its search up where it stopped."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from critical.identity import is_algorithmic
from critical.inference.posterior import PosteriorSpec
from critical.inference.rules import parse_rule
from critical.options import SearchOptions
from critical.plan import Plan
from critical.planning import check_study, plan_search, plan_within
from critical.preparation import Prepared
from critical.repetition import next_repetition
from critical.running.folders import StudyFolder
from critical.running.history import History
from critical.running.retries import Retries
from critical.running.search import Search
from critical.storage.records import NewStudy, StudyRecord
from critical.storage.store import Store


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
    check_study(study, prepared, store.place)
    plan_within(study, prepared)
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
        OptionError: As ``enter_study``.
        BudgetError: A new study's budget is under the minimum.
    """
    from critical.running.proposals import Proposals
    from critical.storage.optuna_storage import optuna_storage

    options = prepared.options
    study = enter_study(store, prepared, planned)
    if prepared.budget.amount > study.budget_total:
        grown = plan_within(study, prepared)
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
    search.pack = prepared.pack
    if prepared.original is not None:
        search.schedule = partial(next_repetition, made, prepared.original.trials)
    return search


def _new_study(prepared: Prepared, plan: Plan) -> NewStudy:
    target = prepared.target
    return NewStudy(
        name=prepared.name,
        budget_unit=prepared.budget.unit,
        budget_total=prepared.budget.amount,
        rule=prepared.options.rule,
        interval=plan.interval or prepared.options.interval,
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


def _spec(study: StudyRecord, plan: Plan, options: SearchOptions) -> PosteriorSpec:
    return PosteriorSpec(
        interval=study.interval,
        reference_gamma=study.reference_gamma,
        rule=parse_rule(study.rule),
        target_width=study.target_width,
        settings=plan.settings,
        slope_sd=options.slope_sd,
        ladder=plan.ladder,
        algorithmic=is_algorithmic(study),
    )
