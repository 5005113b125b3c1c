"""Brings a database's tables to this version's; quick, and without Alembic, where they are."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.schema import SchemaItem

from critical.storage.engine import migrating, opening
from critical.storage.errors import StoreNotFound, StoreTooNew
from critical.storage.schema import TABLE_PREFIX
from critical.storage.url import place

VERSION_TABLE = "critical_alembic_version"
REVISIONS = ("0001", "0002")
"""Every revision that this version knows, oldest first: the names in migrations/versions."""
HEAD = REVISIONS[-1]

_SCRIPTS = Path(__file__).parent / "migrations"
_LOCK_KEY = 0x637269746963616C  # "critical"


def bring_to_head(engine: Engine, *, create: bool) -> None:
    """Create the tables, or migrate those of an older version.

    Raises:
        StoreNotFound: There are none, and they are not to be created.
        StoreTooNew: A newer version wrote them.
        StoreError: The database cannot be reached, read or written.
    """
    with opening(engine.url):
        with engine.connect() as connection:
            if not _is_behind(connection, create=create):
                return
        with migrating(engine) as connection:
            _wait_for_other_migrations(connection)
            if _is_behind(connection, create=create):
                _upgrade(connection)


def current_revision(connection: Connection) -> str | None:
    """Return the schema's revision, or None where our tables are not there."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    query = text(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 - a constant
    revision: str | None = connection.scalar(query)
    return revision


def is_ours(
    _item: SchemaItem, name: str | None, kind: str, _reflected: bool, _other: SchemaItem | None
) -> bool:
    """Tell Alembic which objects to compare: not Optuna's tables."""
    return kind != "table" or (name is not None and name.startswith(TABLE_PREFIX))


def _is_behind(connection: Connection, *, create: bool) -> bool:
    revision = current_revision(connection)
    if revision is None and not create:
        raise StoreNotFound(place(connection.engine.url))
    if revision is not None and revision not in REVISIONS:
        raise StoreTooNew(place(connection.engine.url), revision, HEAD)
    return revision != HEAD


def _wait_for_other_migrations(connection: Connection) -> None:
    """Let one process migrate at a time; on SQLite the write lock does so already."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)
