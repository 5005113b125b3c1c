"""Small WSGI pieces: an answer as a value, and calling an application for one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """A status line, headers and body."""

    status: str
    headers: Headers
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the value of a header, or None."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def send(self, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request with it."""
        start_response(self.status, list(self.headers))
        return [self.body] if self.body else []


def answer(
    status: HTTPStatus,
    text: str | bytes,
    kind: str = "text/html; charset=utf-8",
    *extra: tuple[str, str],
) -> Answer:
    """Return an answer with its length and kind told."""
    body = text.encode() if isinstance(text, str) else text
    headers = (("Content-Type", kind), ("Content-Length", str(len(body))), *extra)
    return Answer(f"{status.value} {status.phrase}", headers, body)


def sentence(status: HTTPStatus, text: str, *extra: tuple[str, str]) -> Answer:
    """Return a plain sentence."""
    return answer(status, text + "\n", "text/plain; charset=utf-8", *extra)


def ask(app: WSGIApplication, environ: WSGIEnvironment) -> Answer:
    """Call an application and collect all of its answer."""
    started: list[tuple[str, Headers]] = []
    written: list[bytes] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], _: object = None
    ) -> Callable[[bytes], object]:
        started.append((status, tuple(headers)))
        return written.append

    chunks = app(environ, start_response)
    try:
        written.extend(chunks)
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    status, headers = started[-1]
    return Answer(status, headers, b"".join(written))
