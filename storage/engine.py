"""Connections: what each database needs to be told, and its failures in one sentence."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    ProgrammingError,
    StatementError,
)
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from critical.storage.documents import dumps
from critical.storage.errors import StoreError, StoreFull
from critical.storage.url import POSTGRESQL_EXAMPLE, place

BUSY_SECONDS = 30.0
"""How long a SQLite connection waits for another process's write."""
CONNECT_SECONDS = 10
"""How long to wait for a PostgreSQL server that does not answer."""

_WRITES = "critical_writes"
_MIGRATES = "critical_migrates"
# These say that a statement of ours is wrong, so they stay tracebacks.
_OUR_FAULT = (IntegrityError, DataError, ProgrammingError)


def make_engine(url: URL) -> Engine:
    """Make an engine from a parsed URL; nothing is opened yet.

    Raises:
        StoreError: The database's driver is not installed.
    """
    if url.drivername == "sqlite":
        engine = _create(url, connect_args={"timeout": BUSY_SECONDS})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    # Hours may pass between two trials' writes: a connection that died meanwhile is replaced.
    timeout = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_SECONDS}
    return _create(url, connect_args=timeout, pool_pre_ping=True)


def writing(engine: Engine) -> Engine:
    """Return the same engine, its transactions taking SQLite's write lock when they begin."""
    return engine.execution_options(**{_WRITES: True})


@contextmanager
def migrating(engine: Engine) -> Iterator[Connection]:
    """Write in one transaction on a connection of its own, in SQLite without foreign keys.

    There a table is changed by dropping it for a copy, and with foreign keys its rows would take
    with them all that refers to them. They cannot be switched off within a transaction.
    """
    with writing(engine).execution_options(**{_MIGRATES: True}).connect() as connection:
        try:
            with connection.begin():
                yield connection
        finally:
            connection.invalidate()


@contextmanager
def transaction(sessions: sessionmaker[Session], url: URL) -> Iterator[Session]:
    """Run one transaction: committed at the end, rolled back on any exception.

    Raises:
        StoreError: The database cannot be reached, read or written.
    """
    try:
        with sessions.begin() as session:
            yield session
    except _OUR_FAULT:
        raise
    except DBAPIError as error:
        raise in_one_sentence(error, url) from error
    except StatementError as error:
        if isinstance(error.orig, StoreError):  # from dumps, while the statement was prepared
            raise error.orig from None
        raise


def in_one_sentence(error: DBAPIError, url: URL) -> StoreError:
    """Say what a database refused, where, and in its own first line, why."""
    where = place(url)
    why = (str(error.orig).strip() or type(error.orig).__name__).splitlines()[0]
    if why.startswith("invalid connection option"):
        # It is quoted, and what stands behind an '&' in a password looks like one.
        why = "the URL has an option that libpq does not know, or a password with '&' for %26"
    if "file is not a database" in why:
        return StoreError(f"storage {where} is not a SQLite database: name another file")
    if "locked" in why:
        return StoreError(
            f"the store {where} was locked for {BUSY_SECONDS:.0f} s by another process: "
            "let it finish, or stop it, and run this again"
        )
    if "disk is full" in why or "No space left" in why:
        return StoreFull(
            f"the disk of {where} is full: make room there; what was stored is safe, and the "
            "same command goes on"
        )
    if "readonly" in why or "read-only" in why:
        return StoreError(
            f"the store {where} is read-only: run this as a user who may write there, "
            "or name another with --storage"
        )
    return StoreError(
        f"the store {where} failed ({why}): check that it can be read and written, "
        "or name another with --storage"
    )


@contextmanager
def opening(url: URL) -> Iterator[None]:
    """Turn every failure of a database into one sentence, a lack of permission included."""
    try:
        yield
    except DBAPIError as error:
        raise in_one_sentence(error, url) from error
    except UnicodeError as error:  # a part of the host's name is longer than any name can be
        raise StoreError(
            f"the host of the store {place(url)} cannot be looked up: write its name as in "
            f"{POSTGRESQL_EXAMPLE}"
        ) from error


def _create(url: URL, **options: Any) -> Engine:  # noqa: ANN401 - SQLAlchemy's own keywords
    try:
        return create_engine(url, json_serializer=dumps, **options)
    except ModuleNotFoundError as error:
        raise StoreError(
            f"storage {place(url)} needs {error.name}: "
            "install it with `pip install 'critical[postgres]'`"
        ) from None
    except ArgumentError:  # its message quotes values, and one may be a password
        raise StoreError(
            f"storage {place(url)} has options behind the '?' that cannot be used: "
            "write those of libpq, as ?sslmode=require"
        ) from None


def _prepare_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)
    # sqlite3 would begin transactions itself, and only before the first write; see _begin_sqlite.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    # Readers (the dashboard) never wait for the driver, nor it for them.
    connection.execute("PRAGMA journal_mode = WAL")
    # In WAL, NORMAL keeps the file whole after a power cut but may lose the last commits; FULL
    # syncs at each, and a completed trial, minutes of a device, is worth the milliseconds.
    connection.execute("PRAGMA synchronous = FULL")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads and then writes cannot wait for a lock that another process took in
    # between: SQLite fails it at once. So writers take the lock first, where they can wait.
    options = connection.get_execution_options()
    writes = options.get(_WRITES, False)
    if options.get(_MIGRATES, False):
        connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
