"""Storage URLs: what is understood, and what the user is told otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from critical.storage.engine import make_engine
from critical.storage.errors import StoreError, StoreNotFound
from critical.storage.url import check_place, parse_url, place


def test_a_relative_file_stays_where_it_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A URL is made absolute when it is read, so that a later chdir moves nothing."""
    monkeypatch.chdir(tmp_path)
    url = parse_url("sqlite:///critical.db")
    monkeypatch.chdir("/")
    assert place(url) == str(tmp_path / "critical.db")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgresql_is_always_psycopg(scheme: str) -> None:
    """Every spelling means the one driver that is tested."""
    assert parse_url(f"{scheme}://user@host/base").drivername == "postgresql+psycopg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("critical.db", r"'critical\.db' is not a URL: write sqlite:///critical\.db"),
        ("/tmp/x.db", r"'/tmp/x\.db' is not a URL: write sqlite:////tmp/x\.db"),
        ("", r"'' is not a URL: write sqlite:///critical\.db"),
        ("sqlite:x.db", r"'sqlite:x\.db' is not a URL: write sqlite:///critical\.db"),
        ("sqlite://", r"keeps nothing: name a file, sqlite:///critical\.db"),
        ("sqlite:///:memory:", r"keeps nothing: name a file"),
        ("mysql://host/base", r"'mysql'.*write sqlite:///critical\.db or postgresql://user@host"),
        ("sqlite+aiosqlite:///x.db", r"not supported, 'sqlite\+aiosqlite'"),
    ],
)
def test_what_is_not_a_url_is_answered_with_one(text: str, message: str) -> None:
    """The message quotes what was given and shows what to write."""
    with pytest.raises(StoreError, match=message):
        parse_url(text)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://user:s3cret@host:port/base",
        "postgresql://user:s3/cr@et@host:port/base",
        "postgresql//user@host/base?password=s3cret",
        "oracle://user:s3cret@host/base?password=s3cret",
        "postgresql://user:s3@cr@et@host/base",
        "postgresql:user:s3cret@host/base",
        "postgresql:/user:s3\ncret@host/base",
        "user:s3cret@host/base",
        "postgresql//user@host/base?password=s3@cret",
        "host=localhost user=user password=s3cret",
        "sqlite://user:s3cret@host/critical.db",
        "sqlite://user:s3cret@",
    ],
)
def test_no_message_has_a_password(text: str) -> None:
    """Neither a malformed URL nor an unsupported one is quoted with its secrets."""
    with pytest.raises(StoreError, match="storage") as caught:
        parse_url(text)
    assert "cr" not in str(caught.value).replace("critical.db", "")
    assert "et" not in str(caught.value)


def test_a_password_with_an_unescaped_sign_is_told_how_to_be_written() -> None:
    """SQLAlchemy would take its end for the host."""
    with pytest.raises(StoreError, match=r"'postgresql://\*\*\*' has more than one '@': write %40"):
        parse_url("postgresql://user:s3@cret@host/base")


def test_a_file_is_on_no_host() -> None:
    """SQLAlchemy would quote the URL, password and all, once it connects."""
    with pytest.raises(StoreError, match=r"is a file on no host: write sqlite:///critical\.db"):
        parse_url("sqlite://user:s3cret@host/critical.db")


def test_a_place_has_no_password() -> None:
    """What is printed hides the password wherever the URL has it."""
    url = parse_url("postgresql://user:other@host/base?sslmode=require&password=s3cret")
    assert place(url) == "postgresql+psycopg://user:***@host/base"
    assert url.password == "s3cret"
    assert repr(make_engine(url)) == (
        "Engine(postgresql+psycopg://user:***@host/base?sslmode=require)"
    )


def test_a_folder_is_no_store(tmp_path: Path) -> None:
    """The message names a file in that folder."""
    with pytest.raises(StoreError, match=rf"is a folder: write .*sqlite:///{tmp_path}/critical.db"):
        check_place(parse_url(f"sqlite:///{tmp_path}"), create=True)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """SQLite would say that it is unable to open a file; the message says which folder."""
    url = parse_url(f"sqlite:///{tmp_path}/no/x.db")
    with pytest.raises(StoreError, match=rf"folder that does not exist: create {tmp_path}/no"):
        check_place(url, create=True)


@pytest.mark.parametrize("name", ["x.db", "no/x.db"])
def test_a_missing_store_is_no_error_of_the_url(tmp_path: Path, name: str) -> None:
    """Where nothing is to be created, the message says how a store comes to be."""
    url = parse_url(f"sqlite:///{tmp_path}/{name}")
    with pytest.raises(StoreNotFound, match=r"no store at .*x\.db.*critical search.*--storage"):
        check_place(url, create=False)
    assert not list(tmp_path.iterdir())
