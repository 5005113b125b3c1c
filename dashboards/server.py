"""The web page: our pages and Optuna's behind one gate, served on this machine only."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol, cast

from critical.dashboards.app import App
from critical.dashboards.errors import DashboardError
from critical.dashboards.gate import Gate, is_loopback
from critical.dashboards.optuna_pages import PATHS, open_optuna
from critical.dashboards.pages.advice import Export, Recommend

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8050
MAX_PORT = 65535
THREADS = 4
WHOLE_PAGE_BYTES = 64 * 2**20
"""A page with plotly.js in it is sent from memory: waitress would put it in a temporary file, and
leave that open where the browser goes away."""


class Server(Protocol):
    """A server that listens: waitress's, which has no types."""

    effective_port: int

    def run(self) -> None:
        """Serve until interrupted."""

    def close(self) -> None:
        """Stop listening."""


def build(
    store_url: str,
    study: str | None = None,
    recommend: Recommend | None = None,
    export: Export | None = None,
) -> WSGIApplication:
    """Return the whole page as one WSGI application.

    Args:
        store_url: The store, which must exist.
        study: What ``/`` opens; without it the only study, or a list.
        recommend: Gives a recommendation for a study's name and a width.
        export: Gives the fragment of an export for a study's name and a framework.

    Raises:
        StoreError: The store is missing or cannot be used, or has no such study.
    """
    from critical.storage.store import Store

    store = Store.open(store_url, create=False)
    if study is not None:
        store.study(study)
    optuna = open_optuna(store_url)
    ours = App(store, study, optuna_address=optuna.address, recommend=recommend, export=export)

    def by_path(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        first = environ["PATH_INFO"].lstrip("/").partition("/")[0]
        return (optuna if first in PATHS else ours)(environ, start_response)

    return Gate(by_path)


def bind(app: WSGIApplication, host: str, port: int) -> Server:
    """Return a waitress server that listens.

    Raises:
        DashboardError: The host is not this machine's, or the port cannot be had.
    """
    if not is_loopback(host):
        raise DashboardError(
            f"--host {host} would show the page to others, and it asks for no password: write "
            f"--host {DEFAULT_HOST}, and reach it from afar with "
            f"ssh -L {port}:localhost:{port}"
        )
    if not 0 <= port <= MAX_PORT:
        raise DashboardError(f"--port {port} is no port: write one of 1024 to {MAX_PORT}")
    from waitress import create_server

    # Browsers try 127.0.0.1 for localhost; two sockets would be on two ports where 0 is asked.
    address = DEFAULT_HOST if host.lower() == "localhost" else host.strip("[]")
    listening = _listen(address, port)
    server = create_server(
        app, sockets=[listening], threads=THREADS, ident="", outbuf_overflow=WHOLE_PAGE_BYTES
    )
    return cast("Server", server)


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family)
    except OSError as error:
        raise _not_bound(error, address, port) from error


def _not_bound(error: OSError, host: str, port: int) -> DashboardError:
    if error.errno == errno.EADDRINUSE:
        return DashboardError(f"port {port} is in use: write --port {port + 1}, or another")
    if error.errno == errno.EACCES:
        return DashboardError(f"port {port} is not for users: write --port {DEFAULT_PORT}")
    return DashboardError(f"cannot listen on {host} port {port}: {error.strerror or error}")


def serve(
    app: WSGIApplication,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serve until interrupted.

    Args:
        app: From `build`.
        host: A name or address of this machine.
        port: 0 takes a free one.
        announce: Told the address once the page answers.

    Raises:
        DashboardError: The host is not this machine's, or the port cannot be had.
    """
    server = bind(app, host, port)
    try:
        if announce is not None:
            name = f"[{host}]" if host.count(":") > 1 and "[" not in host else host
            announce(f"http://{name}:{server.effective_port}/")
        server.run()
    finally:
        server.close()
