"""A believable study in a real store, served by waitress on a free loopback port."""

from __future__ import annotations

import dataclasses
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from waitress.wasyncore import close_all

from critical.dashboards.data import ReportData
from critical.dashboards.server import bind, build
from critical.storage.records import Document, NewStudy, NewTrial, TrialOutcome
from critical.storage.store import Store

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication


def fill(store: Store, whole: ReportData) -> None:
    """Write the believable study to a store, as a search would."""
    wanted = {field.name for field in dataclasses.fields(NewStudy)}
    known = {key: getattr(whole.study, key) for key in wanted}
    study = store.create_study(NewStudy(**known))
    new_fields = [field.name for field in dataclasses.fields(NewTrial)]
    for trial in whole.trials[::4]:
        stored = store.add_trial(study.id, NewTrial(**{k: getattr(trial, k) for k in new_fields}))
        finite = [m for m in whole.curves[trial.id] if math.isfinite(m.loss)]
        store.add_measurements(stored.id, 0, finite)
        outcome = TrialOutcome(
            trial.state,
            trial.device_seconds or 0.0,
            trial.reason,
            trial.reasoning,
            trial.log2_efficiency,
        )
        store.finish_trial(stored.id, outcome)
    if whole.posterior is not None:
        store.add_posterior(study.id, whole.posterior, spent_seconds=900.0)
    if whole.recommendation is not None:
        store.add_recommendation(study.id, whole.recommendation.document)


@pytest.fixture(scope="module")
def store_url(tmp_path_factory: pytest.TempPathFactory, data: Callable[..., ReportData]) -> str:
    """Return the URL of a store that holds one study."""
    url = f"sqlite:///{tmp_path_factory.mktemp('store') / 'critical.db'}"
    with Store.open(url, create=True) as store:
        fill(store, data())
    return url


@contextmanager
def serving(app: WSGIApplication) -> Iterator[str]:
    """Serve an application on a free loopback port while the block runs."""
    server: Any = bind(app, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.effective_port}"
    finally:
        # Its loop ends when nothing is left to listen to, and is told so in its own thread.
        server.trigger.pull_trigger(lambda: close_all(server._map))
        thread.join(timeout=10)
        server.task_dispatcher.shutdown()


class RefusedError(Exception):
    """A user's error, as the critical package raises it."""

    exit_status = 2


@pytest.fixture(scope="module")
def site(store_url: str, records: SimpleNamespace) -> Iterator[str]:
    """Return the address of the whole page, served by waitress."""

    def recommend(_: str, width: int) -> Document:
        if width > 100_000:
            raise RefusedError(f"width {width} is too far from the proxies")
        return cast("Document", records.recommendation().document)

    with warnings.catch_warnings():
        # Optuna's dashboard imports BoTorch, and with it what PyTorch deprecates.
        warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
        import optuna_dashboard  # noqa: F401
    with serving(build(store_url, recommend=recommend, export=_export)) as address:
        yield address


def _export(name: str, framework: str) -> str:
    return f"# {name} for {framework}\ninit_std: 0.0044"
