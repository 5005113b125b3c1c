"""Storage URLs: which are understood, and how one is shown without its password."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from critical.storage.errors import StoreError, StoreNotFound

DEFAULT_URL = "sqlite:///critical.db"
POSTGRESQL_EXAMPLE = "postgresql://user@host/database"

# What a user may write, and the driver that it means here. A bare ``postgresql`` is psycopg2 to
# SQLAlchemy 2.0 and psycopg to 2.1; naming it keeps both on the one driver that is tested.
_DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}


def parse_url(text: str) -> URL:
    """Read a storage URL; a SQLite file becomes absolute, so that a later chdir moves nothing.

    Raises:
        StoreError: The text is not a URL, or of a database that is not supported.
    """
    url = _split(text)
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        raise StoreError(
            f"storage {place(url)} is of a kind that is not supported, {url.drivername!r}: "
            f"write {DEFAULT_URL} or {POSTGRESQL_EXAMPLE}"
        )
    url = url.set(drivername=driver)
    return _absolute(url) if driver == "sqlite" else url


def place(url: URL) -> str:
    """Return where a store is, to be printed: a file's path, or a URL without its secrets."""
    if url.drivername == "sqlite" and url.database:
        return url.database
    # The query may hold a password too, as libpq's ?password=.
    return url.set(query={}).render_as_string(hide_password=True)


def sqlite_file(url: URL) -> Path | None:
    """Return the file that a URL names, or None for another database or a ``file:`` URI."""
    if url.drivername != "sqlite" or url.database is None or url.database.startswith("file:"):
        return None
    return Path(url.database)


def check_place(url: URL, *, create: bool) -> None:
    """Refuse a SQLite file that cannot be opened, before SQLite says so in fewer words.

    Raises:
        StoreNotFound: The file is missing and is not to be created.
        StoreError: Its folder is missing, or it is itself a folder.
    """
    file = sqlite_file(url)
    if file is None:
        return
    if file.is_dir():
        raise StoreError(f"storage {file} is a folder: write a file, sqlite:///{file}/critical.db")
    if not file.exists() and not create:
        raise StoreNotFound(str(file))
    if not file.parent.is_dir():
        raise StoreError(
            f"storage {file} is in a folder that does not exist: create {file.parent}, "
            f"or write {DEFAULT_URL}"
        )


def _split(text: str) -> URL:
    try:
        return make_url(text)
    except (ArgumentError, ValueError):
        is_path = text and not set(text) & set(":?@")
        hint = f"sqlite:///{text}" if is_path else DEFAULT_URL
        raise StoreError(f"storage {_masked(text)!r} is not a URL: write {hint}") from None


def _masked(text: str) -> str:
    """Hide all that could be a password in text that could not be parsed."""
    return re.sub(r"\?.*", "?***", re.sub(r"//.*@", "//***@", text))


def _absolute(url: URL) -> URL:
    if url.database in (None, "", ":memory:"):
        raise StoreError(f"storage {url} keeps nothing: name a file, {DEFAULT_URL}")
    file = sqlite_file(url)
    return url if file is None else url.set(database=str(file.expanduser().absolute()))
