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
    _check_host(url, text)
    return _absolute(url) if driver == "sqlite" else _with_password_in_its_place(url)


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
        shown = _masked(text)
        is_path = text and not set(text) & set(":?@") and shown == text
        hint = f"sqlite:///{text}" if is_path else DEFAULT_URL
        raise StoreError(f"storage {shown!r} is not a URL: write {hint}") from None


def _masked(text: str) -> str:
    """Hide all that could be a password in text that is no URL, or not the one that was meant."""
    found = re.match(r"[A-Za-z0-9+]+:?/{0,2}(?=.*[@?])", text, re.DOTALL)
    scheme = found[0] if found else ""
    if "?" not in text and text.count("@") == 1:
        return f"{scheme}***@{text.partition('@')[2]}"
    if set("@?") & set(text) or re.search(r"pass\w*\s*=", text, re.IGNORECASE):
        return f"{scheme}***"
    return text


def _check_host(url: URL, text: str) -> None:
    """Refuse what SQLAlchemy takes for a host, and what would be said of it, in our own words."""
    if "@" in (url.host or ""):
        raise StoreError(
            f"storage {_masked(text)!r} has more than one '@': write %40 for one in a password"
        )
    if url.drivername == "sqlite" and (url.host or url.username or url.password):
        raise StoreError(f"storage {_masked(text)!r} is a file on no host: write {DEFAULT_URL}")


def _with_password_in_its_place(url: URL) -> URL:
    """Move ``?password=`` to where SQLAlchemy hides it whenever it prints a URL or an engine."""
    password = url.query.get("password")
    if not isinstance(password, str):
        return url
    return url.difference_update_query(["password"]).set(password=password)


def _absolute(url: URL) -> URL:
    if url.database in (None, "", ":memory:"):
        raise StoreError(f"storage {place(url)} keeps nothing: name a file, {DEFAULT_URL}")
    file = sqlite_file(url)
    return url if file is None else url.set(database=str(file.expanduser().absolute()))
