"""The tables that migrations make are the tables that the code describes."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import IntegrityError

from critical.storage import migrate
from critical.storage.errors import StoreNotFound, StoreTooNew
from critical.storage.optuna_storage import optuna_storage
from critical.storage.records import TrialState
from critical.storage.schema import Base
from critical.storage.store import Store

CHECKS_AND_INDEXES = text("SELECT name, sql FROM sqlite_master WHERE name LIKE '%critical_%'")


def test_the_migrated_schema_is_the_codes(url: str) -> None:
    """Alembic finds nothing to change, with Optuna's tables in the same database."""
    optuna_storage(url).engine.dispose()
    with Store.open(url) as store, store._engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"version_table": migrate.VERSION_TABLE, "include_object": migrate.is_ours},
        )
        assert compare_metadata(context, Base.metadata) == []


def test_the_migrated_checks_are_the_codes(sqlite_url: str, tmp_path: Path) -> None:
    """Alembic does not compare checks; SQLite keeps every table's text, which does."""
    plain = create_engine(f"sqlite:///{tmp_path}/plain.db")
    Base.metadata.create_all(plain)
    with plain.connect() as connection:
        expected = {name: _clauses(sql) for name, sql in connection.execute(CHECKS_AND_INDEXES)}
    plain.dispose()
    with Store.open(sqlite_url) as store, store._engine.connect() as connection:
        found = {name: _clauses(sql) for name, sql in connection.execute(CHECKS_AND_INDEXES)}
    assert {name: sql for name, sql in found.items() if "alembic" not in name} == expected


def _clauses(sql: str | None) -> list[str]:
    # SQLite quotes a table's name where it was renamed.
    lines = (sql or "").replace('"', "").splitlines()
    return sorted(line.strip().rstrip(",") for line in lines)


def test_every_revision_is_known() -> None:
    """The revisions that opening compares with are those in the folder, in order."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    scripts = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(scripts)) == migrate.REVISIONS


def test_opening_a_store_at_head_needs_no_alembic(sqlite_url: str) -> None:
    """The version is read with a plain query, so that every command starts quickly."""
    Store.open(sqlite_url).close()
    code = (
        "import sys; from critical.storage.store import Store; "
        f"Store.open({sqlite_url!r}).close(); "
        "print({'alembic', 'optuna', 'pydantic', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_a_newer_store_is_refused(url: str) -> None:
    """The message names both versions and the command that upgrades."""
    with Store.open(url) as store, store._engine.begin() as connection:
        connection.execute(text(f"UPDATE {migrate.VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(StoreTooNew, match=r"schema 9999; .* up to 0002\): .*pip install -U"):
        Store.open(url)


def test_a_database_without_our_tables_is_no_store(url: str) -> None:
    """Where nothing is to be created, Optuna's tables alone are not a store, nor made one."""
    optuna_storage(url).engine.dispose()
    with pytest.raises(StoreNotFound, match="there is no store at"):
        Store.open(url, create=False)
    engine = create_engine(url)
    assert not inspect(engine).has_table("critical_study")
    engine.dispose()


def test_a_store_can_be_opened_by_several_at_once(url: str) -> None:
    """One migrates, the others wait and find the tables there."""
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(Store.open, [url] * 4))
    for store in stores:
        assert store.studies() == []
        store.close()


def test_a_failed_migration_leaves_no_table(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables and version are one transaction: a crash between them leaves an empty database."""

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("alembic.runtime.migration.HeadMaintainer.update_to_step", crash)
        with pytest.raises(KeyboardInterrupt):
            Store.open(url)
    with pytest.raises(StoreNotFound):
        Store.open(url, create=False)
    engine = create_engine(url)
    assert inspect(engine).get_table_names() == []
    engine.dispose()
    Store.open(url).close()


def _at_first_revision(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a store as the first revision had it: a study, a trial, its charge and measurement."""
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "HEAD", "0001")
        Store.open(url).close()
    now = "'2026-01-01 00:00:00'"
    rows = (
        f"critical_study VALUES (7, 's', 'running', NULL, 'gpu-h', 9, 'balance', 0.3, 1.2, 0.5, "
        f"NULL, NULL, '{{}}', '{{}}', NULL, {now})",
        f"critical_trial VALUES (8, 7, 0, 'w64/target', NULL, 'search', 0.7, NULL, 64, 2, 2, 9, 0, "
        f"'target', 'running', NULL, NULL, NULL, {now}, NULL)",
        "critical_measurement VALUES (8, 0, 9, 1.5, 0.5, 2.5, '{}')",
        f"critical_charge VALUES (9, 7, 8, 'search', 60, NULL, {now}, NULL)",
    )
    engine = create_engine(url)
    with engine.begin() as connection:
        for row in rows:
            connection.execute(text(f"INSERT INTO {row}"))
    engine.dispose()


def test_a_store_of_the_first_revision_keeps_every_row(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables are rebuilt under their rows, which stay, and are then guarded as before."""
    _at_first_revision(url, monkeypatch)
    with Store.open(url) as store:
        (trial,) = store.trials(7)
        assert (trial.attempts, trial.reserved_seconds, trial.device_seconds) == (1, 60.0, None)
        assert [one.loss for one in store.trial_measurements(8)] == [1.5]
        (orphan,) = store.adopt_trials(7, "its driver died")
        assert (orphan.state, orphan.device_seconds) == (TrialState.INTERRUPTED, 2.5)
        assert store.resume_trial(8, 30.0).attempts == 2
        with pytest.raises(IntegrityError), store._write.begin() as session:
            session.execute(text("UPDATE critical_trial SET state = 'asleep'"))
        with pytest.raises(IntegrityError), store._write.begin() as session:
            session.execute(text("UPDATE critical_charge SET study_id = 99"))
        with store._write.begin() as session:
            session.execute(text("DELETE FROM critical_study"))
        assert store.trials(7) == []
