"""Optuna's storage shares the store's database."""

from __future__ import annotations

import optuna
import pytest
from sqlalchemy import text

from critical.storage.errors import StoreError
from critical.storage.optuna_storage import optuna_storage
from critical.storage.records import NewStudy
from critical.storage.store import Store


def test_both_live_in_one_database(
    store: Store, new_study: NewStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    """Optuna asks and tells beside our tables, and says nothing on standard error."""
    storage = optuna_storage(store.url)
    asked = optuna.create_study(
        storage=storage, study_name="s/w64/target", directions=["maximize", "maximize"]
    )
    trial = asked.ask({"gamma": optuna.distributions.FloatDistribution(0.3, 1.2)})
    store.create_study(new_study)
    asked.tell(trial, [0.5, 0.1])
    assert [each.values for each in asked.trials] == [[0.5, 0.1]]
    assert storage.get_heartbeat_interval() is None
    assert store.study(new_study.name).name == new_study.name
    storage.remove_session()
    storage.engine.dispose()
    assert capsys.readouterr().err == ""


def test_tables_of_another_optuna_are_said(store: Store) -> None:
    """The message names Optuna's version and the place, not a traceback."""
    optuna_storage(store.url).engine.dispose()
    with store._engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'v99'"))
    with pytest.raises(StoreError, match=rf"Optuna {optuna.__version__} cannot use its tables in"):
        optuna_storage(store.url)


def test_a_folder_that_is_missing_is_said() -> None:
    """The same sentences as the store's."""
    with pytest.raises(StoreError, match="folder that does not exist"):
        optuna_storage("sqlite:////no/such/folder/x.db")
