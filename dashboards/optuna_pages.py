"""Optuna's own dashboard beside ours: mounted by path, mended, and linked back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from critical.dashboards.wsgi import Answer, ask

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

PATHS = frozenset({"dashboard", "api", "static", "csv", "artifacts", "favicon.ico"})
"""First segments of the addresses that Optuna's dashboard answers."""

_BACK = (
    b'<a href="/" style="position:fixed;right:16px;bottom:16px;z-index:2000;padding:6px 12px;'
    b"border-radius:4px;background:#00578a;color:#fff;font:14px sans-serif;"
    b'text-decoration:none">Critical: \xce\xb3* and report</a>'
)

StudyAddress = Callable[[str], str | None]
"""From the name of an Optuna study to the address of its page, or None."""


class OptunaPages:
    """A WSGI application that wraps Optuna's dashboard."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer with Optuna's page, and on its HTML pages a link back to ours."""
        # Without this header /static/bundle.js answers 500 (optuna-dashboard 0.21).
        mended = {"HTTP_ACCEPT_ENCODING": "identity", **environ}
        return _linked(ask(self._app, mended)).send(start_response)


def _linked(found: Answer) -> Answer:
    if not (found.header("Content-Type") or "").startswith("text/html"):
        return found
    body = found.body.replace(b"</body>", _BACK + b"</body>", 1)
    headers = tuple(
        (name, str(len(body)) if name.lower() == "content-length" else value)
        for name, value in found.headers
    )
    return Answer(found.status, headers, body)


def open_optuna(store_url: str) -> tuple[OptunaPages, StudyAddress]:
    """Open Optuna's dashboard on the store's database."""
    import optuna_dashboard

    from critical.storage.optuna_storage import optuna_storage

    storage = optuna_storage(store_url)

    def address(name: str) -> str | None:
        try:
            return f"/dashboard/studies/{storage.get_study_id_from_name(name)}"
        except KeyError:
            return None

    return OptunaPages(optuna_dashboard.wsgi(storage)), address
