"""The served page: what it shows, what it refuses, and Optuna's pages beside it."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import cast
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from critical.dashboards import server
from critical.dashboards.data import gather
from critical.dashboards.errors import DashboardError
from critical.dashboards.gate import is_loopback
from critical.storage.errors import StoreError, StudyNotFound
from critical.storage.records import NewStudy, TrialCounts
from critical.storage.store import Store

STUDY = "llama-d2048-L24"


class Reply:
    """Status, headers and body of an answer."""

    def __init__(self, status: int, headers: http.client.HTTPMessage, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body


def ask(address: str, path: str, method: str = "GET", **headers: str) -> Reply:
    """Send one request exactly as written: neither redirected nor tidied."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        reply = connection.getresponse()
        return Reply(reply.status, reply.headers, reply.read())
    finally:
        connection.close()


def test_the_only_study_is_where_the_page_opens(site: str) -> None:
    """``/`` leads to the study, whose page shows γ* and both ways on."""
    with urlopen(f"{site}/", timeout=30) as reply:
        page = reply.read().decode()
        assert reply.url == f"{site}/study/{STUDY}"
    assert "<strong>0.71</strong>" in page
    assert 'href="/dashboard"' in page
    assert "/dashboard/studies/" not in page  # no Optuna study of this search exists yet


def test_the_list_names_every_study(site: str) -> None:
    """``/studies`` links to each with its interval."""
    page = ask(site, "/studies").body.decode()
    assert f'href="/study/{STUDY}"' in page


def test_head_answers_as_get_without_a_body(site: str) -> None:
    """The open page asks by HEAD whether there is news."""
    head, get = ask(site, f"/study/{STUDY}", "HEAD"), ask(site, f"/study/{STUDY}")
    assert head.status == get.status == 200
    assert head.headers["ETag"] == get.headers["ETag"]
    assert head.body == b""


def test_an_unchanged_page_is_not_sent_again(site: str) -> None:
    """A browser that has the page is told so."""
    known = ask(site, f"/study/{STUDY}", "HEAD").headers["ETag"]
    assert ask(site, f"/study/{STUDY}", If_None_Match=known).status == 304


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize(
    "path", ["/", "/api/studies", "/api/studies/1", "/incompatible-rdb-schema"]
)
def test_only_reading_passes(site: str, method: str, path: str) -> None:
    """Nothing can be changed or deleted, on Optuna's addresses least of all."""
    reply = ask(site, path, method, Content_Length="0")
    assert reply.status == 405
    assert reply.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "localhost:1",
        "localhost",
        "127.0.0.1.nip.io:{port}",
        "a@localhost:{port}",
        "",
    ],
)
def test_a_foreign_host_is_refused(site: str, host: str) -> None:
    """A name that another site lets resolve to this machine opens nothing."""
    port = urlsplit(site).port
    reply = ask(site, "/api/studies", Host=host.format(port=port))
    assert reply.status == 403
    assert f"ssh -L {port}:localhost:{port}".encode() in reply.body


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "[::1]"])
def test_names_of_this_machine_pass(site: str, host: str) -> None:
    """Every loopback name is good with the right port."""
    assert ask(site, "/studies", Host=f"{host}:{urlsplit(site).port}").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/../../index.html",
        "/static/%2e%2e/%2e%2e/_app.py",
        "/study/..%2f..%2fetc",
        "/static/..%5c_app.py",
        "/csv/%00",
    ],
)
def test_a_path_cannot_climb(site: str, path: str) -> None:
    """Dots, encoded or not, leave no folder."""
    reply = ask(site, path)
    assert reply.status in (400, 404)
    assert b"import" not in reply.body


@pytest.mark.parametrize(
    "path", ["/studies", "/dashboard", "/api/studies", "/no", "/static/bundle.js"]
)
def test_every_answer_carries_the_security_headers(site: str, path: str) -> None:
    """Ours, Optuna's and refusals alike; nothing may frame them."""
    headers = ask(site, path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert (
        "'self'" in headers["Content-Security-Policy"]
        or "'none'" in headers["Content-Security-Policy"]
    )


def test_our_pages_run_only_their_own_scripts(site: str) -> None:
    """The policy allows scripts by digest and from this server, never inline at large."""
    policy = ask(site, f"/study/{STUDY}").headers["Content-Security-Policy"]
    scripts = next(part for part in policy.split("; ") if part.startswith("script-src"))
    assert "'unsafe-inline'" not in scripts
    assert "'sha256-" in scripts
    assert "frame-ancestors 'none'" in policy


def test_optunas_dashboard_answers_and_links_back(site: str) -> None:
    """Its page, its data and its script are served, the last without Accept-Encoding too."""
    page = ask(site, "/dashboard")
    assert page.status == 200
    assert b'<a href="/"' in page.body
    assert int(page.headers["Content-Length"]) == len(page.body)
    assert "study_summaries" in json.loads(ask(site, "/api/studies").body)
    script = ask(site, "/static/bundle.js")
    assert script.status == 200
    assert len(script.body) > 1_000_000
    assert ask(site, "/favicon.ico").status == 200


def test_plotly_is_served_once_for_all_pages(site: str) -> None:
    """Pages of the server stay small and share one script."""
    assert len(ask(site, f"/study/{STUDY}").body) < 600_000
    reply = ask(site, "/plotly.js")
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("text/javascript")


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/study/absent", 404, "llama-d2048-L24"),
        ("/study/%3Cscript%3E", 404, "&lt;script&gt;"),
        ("/nowhere", 404, "there is no page /nowhere"),
        (f"/recommend/{STUDY}?width=wide", 400, "write 2048"),
        (f"/recommend/{STUDY}?width=%C2%B2", 400, "write 2048"),
        (f"/recommend/{STUDY}?width=200000", 400, "too far from the proxies"),
        (f"/recommend/{STUDY}?width=4096", 200, "at width 4096"),
        (f"/export/{STUDY}?to=nanochat", 200, "init_std"),
    ],
)
def test_addresses_answer_in_sentences(site: str, path: str, status: int, words: str) -> None:
    """What is not there, or cannot be, is told, and what was handed in is asked."""
    reply = ask(site, path)
    assert reply.status == status
    assert words in reply.body.decode()


def test_a_page_follows_the_store(tmp_path: Path) -> None:
    """What is drawn is kept until the store changes, and a new study appears."""
    url = f"sqlite:///{tmp_path / 'critical.db'}"
    with Store.open(url, create=True) as store:
        app = server.build(url)
        assert b"holds no search yet" in call(app, "/")
        study = store.create_study(new_study("a/b ü"))
        first = call(app, "/study/a/b ü")
        assert call(app, "/study/a/b ü") is first
        store.charge(study.id, "timing", 12.0)
        assert call(app, "/study/a/b ü") is not first


def new_study(name: str) -> NewStudy:
    """Return a search with no target."""
    return NewStudy(
        name=name,
        budget_unit="cpu-min",
        budget_total=600.0,
        rule="balance",
        interval=(0.3, 1.2),
        reference_gamma=0.5,
        target_width=None,
        target_depth=None,
        options={},
        plan={},
        target=None,
    )


def call(app: object, path: str) -> bytes:
    """Call a WSGI application without a server."""
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path.encode().decode("latin-1"),
        "QUERY_STRING": "",
        "SERVER_PORT": "8050",
        "HTTP_HOST": "localhost:8050",
    }
    return cast("bytes", next(iter(app(environ, lambda *_: None))))  # type: ignore[operator]


def test_a_stored_study_is_gathered(store_url: str) -> None:
    """What the store holds is what the report is drawn from."""
    with Store.open(store_url, create=False) as store:
        found = gather(store, STUDY)
        assert found.counts == TrialCounts(completed=8, stopped=1, diverged=1)
        assert found.counts == store.counts(found.study.id)
        assert found.posterior == store.latest_posterior(found.study.id)
    assert found.narrowing[-1].median == 0.71


def test_a_missing_store_or_study_is_told_at_once(store_url: str, tmp_path: Path) -> None:
    """The sentence comes before anything is served."""
    with pytest.raises(StoreError, match="critical search"):
        server.build(f"sqlite:///{tmp_path / 'none.db'}")
    with pytest.raises(StudyNotFound, match="absent"):
        server.build(store_url, "absent")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org", ""])
def test_a_host_that_others_reach_is_refused(host: str) -> None:
    """The message says what to write and how to reach the page from afar."""
    with pytest.raises(DashboardError, match=r"--host 127\.0\.0\.1.*ssh -L 8050") as caught:
        server.serve(lambda *_: [], host, 8050)
    assert caught.value.exit_status == 2


def test_a_port_in_use_is_told() -> None:
    """The message names another port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            DashboardError, match=rf"port {port} is in use: write --port {port + 1}"
        ):
            server.serve(lambda *_: [], "127.0.0.1", port)


def test_a_port_that_is_none_is_told() -> None:
    """Ports end at 65535."""
    with pytest.raises(DashboardError, match="--port 70000 is no port"):
        server.serve(lambda *_: [], "127.0.0.1", 70000)


def test_serving_announces_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """With port 0 the announced address has the port that was taken; Ctrl-C ends quietly closed."""
    told: list[str] = []
    monkeypatch.setattr(
        "waitress.server.TcpWSGIServer.run", lambda self: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        server.serve(lambda *_: [], "127.0.0.1", 0, told.append)
    port = urlsplit(told[0]).port
    assert port
    with socket.socket() as free:
        free.bind(("127.0.0.1", port))


def test_loopback_names_are_known() -> None:
    """Only names that cannot be made another machine's."""
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.8.8.8", "::1", "[::1]")))
    assert not any(map(is_loopback, ("localhost.evil.example", "0.0.0.0", "::", "10.0.0.1", "")))


def test_urllib_is_refused_like_any_other(site: str) -> None:
    """A plain client that posts gets the sentence."""
    with pytest.raises(HTTPError) as caught:
        urlopen(Request(f"{site}/api/studies", data=b"{}", method="POST"), timeout=10)
    assert caught.value.code == 405
    caught.value.close()
