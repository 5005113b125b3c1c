"""Which address shows what. Reads the store, and keeps drawn pages until the store changes."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from critical.dashboards.data import gather
from critical.dashboards.pages.advice import (
    Export,
    Recommend,
    export_form,
    recommend_form,
    recommendation_page,
)
from critical.dashboards.pages.document import Frame, failure, plotly_source, policy
from critical.dashboards.pages.studies import studies_page, study_address
from critical.dashboards.wsgi import Answer, answer, sentence
from critical.storage.errors import StoreError, StudyNotFound
from critical.storage.records import StudySummary, as_held

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

    from critical.storage.store import Store

KEPT_PAGES = 8
FRAME = Frame(links=(("Searches", "/studies"), ("Optuna's dashboard", "/dashboard")))


class App:
    """A WSGI application: the list of studies, a page each, and what is asked of them."""

    def __init__(
        self,
        store: Store,
        study: str | None,
        *,
        optuna_address: Callable[[str], str | None],
        recommend: Recommend | None = None,
        export: Export | None = None,
    ) -> None:
        self._store = store
        self._study = study
        self._optuna_address = optuna_address
        self._recommend = recommend
        self._export = export
        self._drawn: dict[str, tuple[str, bytes]] = {}
        self._drawing = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request; what the store cannot do is told in its own sentence."""
        try:
            found = self._route(environ)
        except StudyNotFound as error:
            found = _failed(HTTPStatus.NOT_FOUND, str(error))
        except StoreError as error:
            found = _failed(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        return found.send(start_response)

    def _route(self, environ: WSGIEnvironment) -> Answer:
        path = environ["PATH_INFO"].encode("latin-1").decode(errors="replace")
        kind, _, name = path.lstrip("/").partition("/")
        query = {key: values[0] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
        if kind == "study" and name:
            return self._study_page(name, environ.get("HTTP_IF_NONE_MATCH"))
        if kind == "recommend" and name and self._recommend:
            return self._recommendation(self._recommend, name, query.get("width", ""))
        if kind == "export" and name and self._export:
            return self._fragment(self._export, name, query.get("to", ""))
        pages: dict[str, Callable[[], Answer]] = {
            "/": self._start,
            "/studies": self._list,
            "/plotly.js": _plotly,
        }
        if path not in pages:
            return _failed(HTTPStatus.NOT_FOUND, f"there is no page {path}: open / instead")
        return pages[path]()

    def _start(self) -> Answer:
        names = [self._study] if self._study else [s.study.name for s in self._store.studies()]
        return _redirect(study_address(names[0])) if len(names) == 1 else self._list()

    def _list(self) -> Answer:
        page = studies_page(self._store.studies(), FRAME)
        return answer(HTTPStatus.OK, page, "text/html; charset=utf-8", _policy(FRAME))

    def _study_page(self, name: str, known: str | None) -> Answer:
        version = self._version(name)
        frame = Frame(FRAME.links, "/plotly.js", version)
        headers = (_policy(frame), ("ETag", f'"{version}"'), ("Cache-Control", "no-cache"))
        if known == f'"{version}"':
            return Answer("304 Not Modified", headers, b"")
        with self._drawing:
            if self._drawn.get(name, ("", b""))[0] != version:
                self._keep(name, version, self._draw(name, frame))
            page = self._drawn[name][1]
        return answer(HTTPStatus.OK, page, "text/html; charset=utf-8", *headers)

    def _keep(self, name: str, version: str, page: bytes) -> None:
        self._drawn.pop(name, None)
        while len(self._drawn) >= KEPT_PAGES:
            del self._drawn[next(iter(self._drawn))]
        self._drawn[name] = (version, page)

    def _version(self, name: str) -> str:
        """Return what changes when a study's page would: its state, spend, counts and posterior."""
        summary = self._summary(name)
        shown = as_held(summary.study, summary.lease)
        advice = self._store.latest_recommendation(summary.study.id)
        # Not the lease itself: the time that it has left changes always.
        told = repr((replace(summary, study=shown, lease=None), advice and advice.created_at))
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def _summary(self, name: str) -> StudySummary:
        for summary in self._store.studies():
            if summary.study.name == name:
                return summary
        self._store.study(name)
        raise StudyNotFound(f"the study {name!r} has just appeared: load the page again")

    def _draw(self, name: str, frame: Frame) -> bytes:
        from critical.dashboards.report import render

        data = gather(self._store, name)
        ordered = sorted(data.trials, key=lambda trial: (trial.width, trial.settings))
        arms = dict.fromkeys(trial.arm for trial in ordered)
        addresses = [(arm, self._optuna_address(f"{name}/{arm}")) for arm in arms]
        links = [(f"Optuna: {arm}", address) for arm, address in addresses if address]
        forms = [recommend_form(data.study)] if self._recommend and data.posterior else []
        forms += [export_form(data.study)] if self._export and data.posterior else []
        whole = Frame((*frame.links, *links), frame.plotly_address, frame.version)
        return render(data, whole, *forms).encode()

    def _recommendation(self, recommend: Recommend, name: str, text: str) -> Answer:
        if not (text.isascii() and text.isdigit() and int(text) > 0):
            return _failed(HTTPStatus.BAD_REQUEST, f"width {text!r} is no width: write 2048")
        try:
            page = recommendation_page(name, int(text), recommend(name, int(text)), FRAME)
        except Exception as error:
            return _refused(error)
        return answer(HTTPStatus.OK, page, "text/html; charset=utf-8", _policy(FRAME))

    def _fragment(self, export: Export, name: str, framework: str) -> Answer:
        try:
            return sentence(HTTPStatus.OK, export(name, framework))
        except Exception as error:
            return _refused(error)


def _refused(error: Exception) -> Answer:
    """Tell a sentence that was written for users; anything else is a defect and goes on."""
    if not hasattr(error, "exit_status"):
        raise error
    return _failed(HTTPStatus.BAD_REQUEST, str(error))


def _failed(status: HTTPStatus, text: str) -> Answer:
    page = failure(status.phrase, text, FRAME)
    return answer(status, page, "text/html; charset=utf-8", _policy(FRAME))


def _policy(frame: Frame) -> tuple[str, str]:
    return "Content-Security-Policy", f"{policy(frame)}; frame-ancestors 'none'"


def _redirect(address: str) -> Answer:
    return answer(HTTPStatus.FOUND, "", "text/plain; charset=utf-8", ("Location", address))


def _plotly() -> Answer:
    kind = "text/javascript; charset=utf-8"
    return answer(HTTPStatus.OK, plotly_source(), kind, ("Cache-Control", "max-age=86400"))
