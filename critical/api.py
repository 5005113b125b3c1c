"""A search from Python; the command line calls the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch

from critical.comparison import compare
from critical.compiling import as_planned
from critical.environment import environment
from critical.errors import Interruption, RunError
from critical.opening import enter_study, open_search
from critical.options import load_request
from critical.planning import plan_if_new
from critical.preparation import Prepared
from critical.recommend import recommend
from critical.repeating import prepare_request
from critical.running.driving import run_in_process
from critical.running.folders import StudyFolder
from critical.running.leasing import as_it_is, holding
from critical.running.search import INTERRUPTED, Listener, Search
from critical.running.stopping import stopping_on_signals
from critical.storage.errors import StoreError
from critical.storage.records import StudyRecord, StudyState
from critical.storage.store import Store
from critical.store_url import resolve_storage
from critical.targets.target import read_target

Watch = Callable[[Search], AbstractContextManager[Listener | None]]
"""Given a search that is about to run, who is told of its every change until it has ended."""


def run_search(**options: Any) -> dict[str, Any]:  # noqa: ANN401  # as SearchOptions types them
    """Run a search to its end, or take it up where it stopped.

    Args:
        options: The long options of ``critical search``, as ``budget="10cpu-min"``,
            ``widths=(32, 64)``, ``weight_decay=0.1``; or ``repeat="demo"``.

    Returns:
        The recommendation, see ``critical.recommend.recommend``; of a repeat, with the key
        ``repeat``: how many trials came out the same, see ``critical.comparison.compare``.

    Raises:
        CriticalError: An option or a file that it names is wrong.
        Interruption: The user interrupts.
        RunError: The run itself failed.
    """
    return run_prepared(prepare_request(load_request(options, os.environ, None)))


def recommendation(
    study: str,
    *,
    storage: str | None = None,
    target: Path | str | None = None,
    settings: str | None = None,
) -> dict[str, Any]:
    """Return the recommendation of a study in a store, at its own target or at another.

    Where several settings were searched it is by ``target`` unless ``settings`` names others.

    Raises:
        OptionError: The settings were not searched.
        StoreError: There is no such store or study.
        TargetError: The target's config.json cannot be read.
        RunError: Nothing is known of γ* yet.
    """
    model = read_target(Path(target)) if target is not None else None
    with Store.open(resolve_storage(storage, os.environ), create=False) as store:
        found = store.study(study)
        return recommend(store, as_it_is(found, store.lease(found.id)), model, settings)


def run_prepared(prepared: Prepared, watch: Watch | None = None) -> dict[str, Any]:
    """Run what ``prepare_request`` prepared, store the recommendation, and return it.

    A study that ends by an exception is left ``interrupted`` or ``failed`` with the reason, and
    the same search goes on.

    Raises:
        OptionError: The work directory cannot be written.
        Interruption: The user interrupts; it holds the recommendation so far.
        StudyBusy: Another driver searches this study.
        RunError: The run itself failed.
    """
    # More threads than one make the posterior's small matrices slower while workers are busy.
    torch.set_num_threads(1)
    with StudyFolder(prepared.options.work_dir, prepared.name).opened():
        planned = plan_if_new(prepared)
        with Store.open(prepared.options.storage) as store:
            study = enter_study(store, prepared, planned)
            with (
                holding(store, study, environment()),
                closing(open_search(store, prepared)) as search,
            ):
                _run(search, as_planned(prepared, search.plan), watch or _nobody)
                return _concluded(search, prepared)


def _run(search: Search, prepared: Prepared, watch: Watch) -> None:
    store, study = search.history.store, search.history.study
    try:
        store.set_state(study.id, StudyState.RUNNING)
        with stopping_on_signals(search.stop), watch(search) as search.listener:
            _drive(search, prepared)
    except KeyboardInterrupt:
        search.stopping = True
    except Exception as error:
        with suppress(StoreError):  # where the store itself failed, that is the sentence to read
            store.set_state(study.id, StudyState.FAILED, " ".join(str(error).split())[:500])
        raise


def _concluded(search: Search, prepared: Prepared) -> dict[str, Any]:
    """Store what became of a search that ran to its end or was told to stop."""
    store, study = search.history.store, search.history.study
    if search.stopping:
        study = store.set_state(study.id, StudyState.INTERRUPTED, INTERRUPTED)
        try:
            raise Interruption(_document(store, study, prepared))
        except RunError:
            raise Interruption(None) from None
    study = store.set_state(study.id, StudyState.FINISHED)
    document = _document(store, study, prepared)
    store.add_recommendation(study.id, document)
    return document


def _document(store: Store, study: StudyRecord, prepared: Prepared) -> dict[str, Any]:
    document = recommend(store, study)
    if prepared.original is not None:
        document["repeat"] = compare(store, prepared.original, study)
    return document


def _drive(search: Search, prepared: Prepared) -> None:
    if search.done:
        return
    if prepared.workers == 0:
        run_in_process(search, prepared.trainable)
        return
    # Ray takes seconds to import.
    from critical.running.ray_driving import run_on_ray

    run_on_ray(search, prepared.trainable, prepared.options.ray_address)


def _nobody(search: Search) -> AbstractContextManager[None]:
    return nullcontext()
