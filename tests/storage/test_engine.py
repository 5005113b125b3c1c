"""What a database refuses, in one sentence each."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from critical.storage import engine
from critical.storage.errors import StoreError
from critical.storage.records import NewStudy
from critical.storage.store import Store


def test_a_file_that_is_not_a_database_is_said(tmp_path: Path) -> None:
    """The file is named and left as it is."""
    file = tmp_path / "notes.txt"
    file.write_text("not a database, " * 100)
    with pytest.raises(StoreError, match=r"notes\.txt is not a SQLite database: name another"):
        Store.open(f"sqlite:///{file}")
    assert file.read_text().startswith("not a database")


def test_a_store_that_cannot_be_written_is_said(sqlite_url: str, new_study: NewStudy) -> None:
    """A store that is only readable opens for reading; the first write says what to do."""
    Store.open(sqlite_url).close()
    file = sqlite_url.removeprefix("sqlite:///")
    with Store.open(f"sqlite:///file:{file}?mode=ro&uri=true") as store:
        assert store.studies() == []
        with pytest.raises(StoreError, match="is read-only: run this as a user who may write"):
            store.create_study(new_study)


def test_a_lock_that_is_never_let_go_is_said(
    sqlite_url: str, new_study: NewStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer waits its time, then says that another process is writing."""
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.1)
    with Store.open(sqlite_url) as store:
        other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked for 0 s by another process: let it finish"):
            store.create_study(new_study)
        assert store.studies() == []
        other.close()
        store.create_study(new_study)


def test_a_server_that_is_not_there_is_said_without_the_password() -> None:
    """The driver's first line is quoted; the password is not."""
    with pytest.raises(StoreError, match=r"user:\*\*\*@127\.0\.0\.1:1/base failed \(") as caught:
        Store.open("postgresql://user:s3cret@127.0.0.1:1/base")
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://user@127.0.0.1:1/base?password=a&s3cret=x", "a password with '&' for %26"),
        ("postgresql://user@127.0.0.1:1/base?port=s3cret", r"options behind the '\?' that cannot"),
        (
            "postgresql://user@127.0.0.1:1/base?plugin=s3cret",
            r"options behind the '\?' that cannot",
        ),
        (f"postgresql://user:s3cret@{'h' * 300}/base", "cannot be looked up: write its name"),
    ],
)
def test_a_url_that_no_driver_takes_is_said_in_our_own_words(url: str, words: str) -> None:
    """Theirs quote what they do not understand, and that may be a password's end."""
    with pytest.raises(StoreError, match=words) as caught:
        Store.open(url)
    assert "s3cret" not in str(caught.value)


def test_a_missing_driver_is_answered_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL's driver is an extra; the message is the line that installs it."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"needs psycopg: .*pip install 'critical\[postgres\]'"):
        Store.open("postgresql://user@host/base")


def test_sqlite_is_durable_and_lets_readers_read(sqlite_url: str) -> None:
    """Every connection has the settings that a power cut and a dashboard call for."""
    with Store.open(sqlite_url) as store, store._engine.connect() as connection:
        for name, expected in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
            assert connection.scalar(text(f"PRAGMA {name}")) == expected


def test_a_printed_store_has_no_password(store: Store) -> None:
    """What is printed is the place; the URL that opens it again is a property."""
    assert repr(store) == f"Store({store.place!r})"
