"""The frame of every page: head, style sheet, scripts, and the policy that binds them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from critical.dashboards.markup import Html, join, tag


@dataclass(frozen=True, slots=True)
class Frame:
    """What surrounds a page's content."""

    links: tuple[tuple[str, str], ...] = ()
    """Navigation: text and address."""
    plotly_address: str | None = None
    """Where plotly.js is served; None writes it into the page."""
    version: str | None = None
    """What the server calls this state of the page, asked for while the page is open."""


STANDALONE = Frame()


@cache
def asset(name: str) -> str:
    """Return the text of a file that is part of the package."""
    return files("critical.dashboards").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def plotly_source() -> str:
    """Return plotly.js."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def policy(frame: Frame) -> str:
    """Return the content security policy of a page: its own scripts, and no request elsewhere."""
    scripts = [_digest(asset("report.js"))]
    if frame.plotly_address is None:
        scripts.append(_digest(plotly_source()))
    else:
        scripts.append("'self'")
    served = "connect-src 'self'; form-action 'self'" if frame.version else "form-action 'none'"
    return (
        f"default-src 'none'; script-src {' '.join(scripts)}; style-src 'unsafe-inline'; "
        f"img-src data: blob:; base-uri 'none'; {served}"
    )


@cache
def _digest(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def document(title: str, frame: Frame, *content: Html, figures: bool = False) -> str:
    """Return a whole page; its scripts stand last, so that the text shows at once."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy(frame)),
        tag("title", title),
        tag("style", Html(asset("report.css"))),
    )
    body = tag(
        "body",
        _navigation(frame.links),
        *content,
        *(_scripts(frame) if figures else ()),
        data_version=frame.version,
    )
    return "<!doctype html>\n" + tag("html", head, body, lang="en")


def _navigation(links: Sequence[tuple[str, str]]) -> Html | None:
    if not links:
        return None
    return tag("nav", *(tag("a", text, href=to) for text, to in links), aria_label="Pages")


def _scripts(frame: Frame) -> list[Html]:
    if frame.plotly_address is None:
        library = tag("script", Html(plotly_source()))
    else:
        library = tag("script", src=frame.plotly_address)
    return [library, tag("script", Html(asset("report.js")))]


def data_block(name: str, json_text: str) -> Html:
    """Return JSON that a script reads: no ``<`` in it, so that nothing in it ends the block."""
    return tag("script", Html(json_text.replace("<", "\\u003c")), type="application/json", id=name)


def failure(title: str, sentence: str, frame: Frame) -> str:
    """Return a page that says what went wrong."""
    return document(title, frame, tag("main", join(tag("h1", title), tag("p", sentence))))
