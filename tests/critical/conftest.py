"""Searches in process, with the real store, driven by trials in closed form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import optuna
import pytest
import torch

from critical.inference.posterior import Inference
from critical.opening import open_search
from critical.options import SearchOptions
from critical.preparation import Prepared, prepare_search
from critical.running.driving import run_in_process
from critical.running.search import Search
from critical.storage.optuna_storage import optuna_storage
from critical.storage.records import PosteriorRecord, StudyState
from critical.storage.store import Store
from critical.trials import Trainable
from critical.trials.loading import parse_trainable

Prepare = Callable[..., Prepared]
Begin = Callable[..., Search]
OptunaStudy = Callable[[str], optuna.Study]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """As in a search: more threads make the posterior's small matrices slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store in a SQLite file."""
    with Store.open(f"sqlite:///{tmp_path}/critical.db") as opened:
        yield opened


@pytest.fixture
def prepare(tmp_path: Path, analytic: str) -> Prepare:
    """Prepare a search for the analytic trial, in process, from options that may be replaced."""

    def prepared(**options: object) -> Prepared:
        defaults: dict[str, object] = {
            "budget": "7trials",
            "study": "s",
            "trainable": analytic,
            "widths": (32,),
            "workers": 0,
            "sampler": "random",
            "storage": f"sqlite:///{tmp_path}/critical.db",
            "work_dir": tmp_path / "work",
        }
        return prepare_search(SearchOptions.model_validate(defaults | options))

    return prepared


@pytest.fixture
def prepare_built_in(prepare: Prepare) -> Prepare:
    """Prepare a search by the built-in trial at width 16, of about 40 steps a run."""
    defaults: dict[str, object] = {
        "trainable": None,
        "mixture": "reasoning=0.75,memory=0.25",
        "tokens": 6000,
        "batch": 144,
        "widths": (16,),
    }
    return lambda **options: prepare(**(defaults | options))


@pytest.fixture
def begin(store: Store, prepare: Prepare) -> Begin:
    """Open a search in the store, as a new process would."""

    def search(**options: object) -> Search:
        return open_search(store, prepare(**options))

    return search


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, analytic: str) -> Iterator[Search]:
    """A search of 60 trials at three widths, as ``critical search`` would do it."""
    folder = tmp_path_factory.mktemp("finished")
    url = f"sqlite:///{folder}/critical.db"
    options = SearchOptions(
        budget="60trials", trainable=analytic, workers=0, storage=url, work_dir=folder / "work"
    )
    prepared = prepare_search(options)
    with Store.open(url) as store:
        search = open_search(store, prepared)
        run_in_process(search, prepared.trainable)
        store.set_state(search.history.study.id, StudyState.FINISHED)
        yield search


@pytest.fixture
def train(analytic: str) -> Trainable:
    """The analytic trial, every other measurement of it."""
    whole = parse_trainable(analytic).load()
    return lambda run: islice(whole(run), 1, None, 2)


@pytest.fixture
def without_posterior(monkeypatch: pytest.MonkeyPatch) -> None:
    """Infer nothing, which takes most of a search's time, where only its trials matter."""
    nothing = PosteriorRecord(
        trials=0,
        scales=(),
        centre_width=1.0,
        intercept=(),
        slope=(),
        discrepancy_sd=0.02,
        target=None,
        conditional_on_learning_rate=None,
        slope_sd=0.03,
        holdout=None,
    )
    monkeypatch.setattr("critical.running.belief.infer", lambda *_: Inference(nothing, {}))


@pytest.fixture
def optuna_study(store: Store) -> Iterator[OptunaStudy]:
    """Look into Optuna's study of an arm, as in ``s/w32/target``."""
    storage = optuna_storage(store.url)
    yield lambda name: optuna.load_study(study_name=name, storage=storage)
    storage.remove_session()
    storage.engine.dispose()
