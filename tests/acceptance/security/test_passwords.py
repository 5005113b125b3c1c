"""A password in a storage URL is told to the database and to nobody else."""

from __future__ import annotations

import io
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, inspect, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, Pool

from critical.cli.application import _status
from critical.dashboards.server import build
from critical.dashboards.wsgi import ask
from critical.options import load_request
from critical.storage.store import Store

STORAGE = "CRITICAL_STORAGE"
SECRET = "s3cret-b41f0c2e"
PATHS = (
    "/nope", "/study/nope", "/dashboard", "/dashboard/studies/1", "/api/meta", "/api/studies/1",
    "/api/studies", "/", "/study/default", "/studies",
)  # fmt: skip


@pytest.fixture
def secret_url(postgresql_url: str) -> str:
    """A database's URL with a password in both places; the server asks for none."""
    assert "//critical@" in postgresql_url
    return postgresql_url.replace("//critical@", f"//critical:{SECRET}@") + f"&password={SECRET}"


@pytest.mark.ray
def test_a_password_does_not_reach_ray(
    secret_url: str,
    hold: Callable[..., Any],
    tmp_path: Path,
    files_with: Callable[..., list[Path]],
    parent_of: Callable[[int], int],
) -> None:
    """Neither its processes nor what it and Tune write, though the search fails and leaves it."""
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    held = hold(cwd, CRITICAL_STORAGE=secret_url, FAIL="1")
    worker, _, _ = held.wait()
    for pid in (worker, parent_of(worker)):
        assert SECRET.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
    assert not files_with(SECRET, held.ray, cwd)
    assert held.go() == 1
    assert "told to fail" in held.err.read_text()
    assert len(list(held.ray.rglob("*.log"))) > 3
    assert not files_with(SECRET, held.ray, cwd, tmp_path)
    assert SECRET not in _dump(secret_url)


def _dump(url: str) -> str:
    """Every row of every table of a database."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    rows: list[str] = []
    with engine.connect() as connection:
        for table in inspect(connection).get_table_names():
            found = connection.execute(text(f"SELECT CAST(t AS text) FROM {table} AS t"))
            rows += [f"{table}: {row}" for (row,) in found]
    engine.dispose()
    assert any(row.startswith("critical_") for row in rows)
    assert any("trial" in row for row in rows)
    return "\n".join(rows)


@pytest.fixture
def say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run a command in process, and return all that it says, of a defect the traceback too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CRITICAL_STORAGE", raising=False)

    def run(*arguments: str) -> str:
        try:
            _status(list(arguments))
        except Exception:
            traceback.print_exc()
        printed = capfd.readouterr()
        assert printed.out + printed.err, arguments
        return printed.out + printed.err

    return run


@pytest.fixture
def connections(postgresql_url: str) -> Iterator[None]:
    """Close what a command leaves open, as the end of its process does."""
    opened: list[DBAPIConnection] = []

    def keep(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        opened.append(connection)

    event.listen(Pool, "connect", keep)
    yield
    event.remove(Pool, "connect", keep)
    for connection in opened:
        connection.close()


@pytest.mark.usefixtures("connections")
def test_a_password_is_never_told(
    secret_url: str,
    say: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    analytic: str,
    llama_config: Path,
    short: tuple[str, ...],
    files_with: Callable[..., list[Path]],
) -> None:
    """By no command, page, file or row, whatever goes well or wrong with the database."""
    search = (*short, "--workers", "0", "--trainable", analytic)
    with monkeypatch.context() as patch:
        patch.setenv(STORAGE, secret_url)
        said = [
            say(*search, "--dry-run"), say(*search), say(*search, "--json"),
            say(*search, "--seed", "1"), say("studies"), say("studies", "--json"),
            say("show", "default"), say("show", "default", "--json"), say("show", "nope"),
            say("trials", "default", "--csv"), say("trials", "default", "--json"),
            say("recommend", "default", "--json"), say("report", "default"),
            say("export", "default", "--to", "hf", "--config", str(llama_config)),
            say("search", "--repeat", "default", "--dry-run"),
        ]  # fmt: skip
    assert "γ*" in said[1]
    assert '"completed": 8' in said[2]
    assert (tmp_path / "report.html").exists()
    with Store.open(secret_url) as opened:
        said += [
            repr(opened),
            repr(load_request({"budget": "1trials"}, {STORAGE: secret_url}, None)),
        ]
    said += _pages(secret_url)
    assert "default" in said[-1]
    said += [say("studies", "--storage", url) for url in _wrong(secret_url)]
    said += [say("show", secret_url), say("studies", secret_url)]  # by mistake
    (tmp_path / "critical.toml").write_text(f"budget = '1trials'\nstorage = ['{secret_url}']\n")
    said += [say("search", "--config", "critical.toml")]
    assert SECRET not in _dump(secret_url)
    said += _broken(secret_url, say, search)
    for each in said:
        assert SECRET not in each
    assert files_with(SECRET, tmp_path) == [tmp_path / "critical.toml"]


def _pages(url: str) -> list[str]:
    """What the dashboard serves, Optuna's pages too."""
    app = build(url)
    request = {
        "REQUEST_METHOD": "GET", "QUERY_STRING": "", "SERVER_NAME": "localhost",
        "SERVER_PORT": "80", "HTTP_HOST": "localhost", "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr,
    }  # fmt: skip
    answers = [ask(app, {**request, "PATH_INFO": path}) for path in PATHS]
    return [repr(each.headers) + each.body.decode(errors="replace") for each in answers]


def _wrong(url: str) -> list[str]:
    """URLs that lead nowhere, each for another reason."""
    base, _, query = url.partition("?")
    return [
        base.replace("/test", "/nope") + "?" + query,
        f"{base}?host=/nowhere&password={SECRET}",
        url.replace("@/", "@127.0.0.1:1/").partition("?")[0] + f"?password={SECRET}",
        url.replace("@/", "@127.0.0.1:port/"),
        url.replace(f":{SECRET}@", f":a@{SECRET}@"),
        url.replace("postgresql+psycopg", "postgresql+asyncpg"),
        url.replace("postgresql+psycopg", "mysql"),
        url.replace("postgresql+psycopg:", "postgresql"),
        f"{url}&options=-c%20lock_timeout%3Dx",
    ]


def _broken(url: str, say: Callable[..., str], search: tuple[str, ...]) -> list[str]:
    """What is said while the database is locked, read-only, too new, and without its tables."""
    engine = create_engine(url)
    store = ("--storage", url)
    said = []
    with engine.connect() as connection:
        connection.execute(text("LOCK TABLE critical_study IN ACCESS EXCLUSIVE MODE"))
        said.append(say("studies", "--storage", f"{url}&options=-c%20lock_timeout%3D200"))
        connection.rollback()
        for change, command in (
            ("UPDATE alembic_version SET version_num = 'x'", search),
            ("UPDATE critical_alembic_version SET version_num = '9999'", ("studies",)),
            ("DROP TABLE critical_alembic_version", ("studies",)),
        ):
            connection.execute(text(change))
            connection.commit()
            said.append(say(*command, *store))
    engine.dispose()
    read_only = f"{url}&options=-c%20default_transaction_read_only%3Don"
    said.append(say(*search, "--storage", read_only))
    return said
