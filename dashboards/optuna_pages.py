"""Optuna's own dashboard beside ours: mounted by path, mended, and linked back."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from critical.dashboards.wsgi import Answer, ask

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from optuna.storages import RDBStorage

PATHS = frozenset({"dashboard", "api", "static", "csv", "artifacts", "favicon.ico"})
"""First segments of the addresses that Optuna's dashboard answers."""

_BACK = (
    b'<a href="/" style="position:fixed;right:16px;bottom:16px;z-index:2000;padding:6px 12px;'
    b"border-radius:4px;background:#00578a;color:#fff;font:14px sans-serif;"
    b'text-decoration:none">Critical: \xce\xb3* and report</a>'
)


class OptunaPages:
    """A WSGI application that wraps Optuna's dashboard, loaded when it is first asked for.

    It imports BoTorch, which takes seconds that a look at the report need not wait for.
    """

    def __init__(self, storage: RDBStorage) -> None:
        self._storage = storage
        self._app: WSGIApplication | None = None
        self._loading = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer with Optuna's page, and on its HTML pages a link back to ours."""
        # Without this header /static/bundle.js answers 500 (optuna-dashboard 0.21).
        mended = {"HTTP_ACCEPT_ENCODING": "identity", **environ}
        return _linked(ask(self._loaded(), mended)).send(start_response)

    def address(self, study: str) -> str | None:
        """Return the address of an Optuna study's page, or None where there is no such study."""
        try:
            return f"/dashboard/studies/{self._storage.get_study_id_from_name(study)}"
        except KeyError:
            return None

    def _loaded(self) -> WSGIApplication:
        with self._loading:
            if self._app is None:
                import optuna_dashboard

                self._app = optuna_dashboard.wsgi(self._storage)
            return self._app


def _linked(found: Answer) -> Answer:
    if not (found.header("Content-Type") or "").startswith("text/html"):
        return found
    body = found.body.replace(b"</body>", _BACK + b"</body>", 1)
    headers = tuple(
        (name, str(len(body)) if name.lower() == "content-length" else value)
        for name, value in found.headers
    )
    return Answer(found.status, headers, body)


def open_optuna(store_url: str) -> OptunaPages:
    """Open Optuna's dashboard on the store's database. Raises StoreError where that fails."""
    from critical.storage.optuna_storage import optuna_storage

    return OptunaPages(optuna_storage(store_url))
