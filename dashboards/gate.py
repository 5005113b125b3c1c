"""The gate before every page: reading only, from this machine only, framed by nobody.

Optuna's dashboard has no authentication, deletes studies on request and answers any Host, so a
page of another site could reach it through a name that it lets resolve to 127.0.0.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from ipaddress import ip_address
from typing import TYPE_CHECKING

from critical.dashboards.wsgi import Answer, ask, sentence

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

READING = ("GET", "HEAD")
SECURITY = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
STRICT = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
"""The content security policy of an answer that brings none."""

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?", re.ASCII)


def is_loopback(host: str) -> bool:
    """Return whether a name or address is of this machine and cannot be made another's."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Gate:
    """WSGI middleware: what does not pass never reaches the application."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Refuse a request, or pass it on as a GET; a HEAD is answered without the body."""
        method = environ["REQUEST_METHOD"]
        found = _refusal(environ) or ask(self._app, {**environ, "REQUEST_METHOD": "GET"})
        body = b"" if method == "HEAD" else found.body
        return Answer(found.status, _secured(found), body).send(start_response)


def _refusal(environ: WSGIEnvironment) -> Answer | None:
    if environ["REQUEST_METHOD"] not in READING:
        return sentence(
            HTTPStatus.METHOD_NOT_ALLOWED,
            "this page only reads: write GET or HEAD",
            ("Allow", ", ".join(READING)),
        )
    if not _is_own_host(environ):
        port = environ["SERVER_PORT"]
        return sentence(
            HTTPStatus.FORBIDDEN,
            f"this page answers only this machine: open http://localhost:{port}/, or from afar "
            f"forward the same port with ssh -L {port}:localhost:{port}",
        )
    segments = re.split(r"[/\\]", environ.get("PATH_INFO", ""))
    if ".." in segments or "\0" in environ.get("PATH_INFO", ""):
        return sentence(HTTPStatus.BAD_REQUEST, "a path may not climb: leave out '..'")
    return None


def _is_own_host(environ: WSGIEnvironment) -> bool:
    parts = _HOST.fullmatch(environ.get("HTTP_HOST", ""))
    if parts is None:
        return False
    name, port = parts.groups(default="80")
    return is_loopback(name) and int(port) == int(environ["SERVER_PORT"])


def _secured(found: Answer) -> tuple[tuple[str, str], ...]:
    policy = found.header("Content-Security-Policy")
    extra = SECURITY if policy else (*SECURITY, ("Content-Security-Policy", STRICT))
    added = {name for name, _ in extra}
    return (*((name, value) for name, value in found.headers if name not in added), *extra)
