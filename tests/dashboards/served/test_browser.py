"""Chromium opens the pages: figures are drawn, nothing is fetched, nothing is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from critical.dashboards.data import ReportData
from critical.dashboards.report import render

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytestmark = pytest.mark.browser

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDTHS = (1280, 420)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """Return a browser with a profile of its own."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("profile")),
            executable_path=program,
            args=list(ARGUMENTS),
            headless=True,
        )
        yield browser
        browser.close()


class Watched:
    """A page, and everything that it asked for or complained of."""

    def __init__(self, chromium: BrowserContext, width: int) -> None:
        self.page: Page = chromium.new_page()
        self.page.set_viewport_size({"width": width, "height": 900})
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def open(self, address: str) -> Page:
        """Open a page and wait until its figures are drawn."""
        self.page.goto(address)
        self.page.wait_for_selector("body[data-drawn]", timeout=30_000)
        return self.page


@pytest.mark.parametrize("width", WIDTHS)
def test_the_report_opens_offline(
    chromium: BrowserContext, data: Callable[..., ReportData], tmp_path: Path, width: int
) -> None:
    """The one file draws every figure, asks for nothing else, and fits the window."""
    file = tmp_path / "report.html"
    file.write_text(render(data()), encoding="utf-8")
    chromium.set_offline(True)
    watched = Watched(chromium, width)
    page = watched.open(file.as_uri())
    assert page.locator(".plot .main-svg").count() >= 6
    assert watched.requests == [file.as_uri()]
    assert watched.complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.screenshot(path=tmp_path / f"report-{width}.png", full_page=True)
    chromium.set_offline(False)
    page.close()


def test_what_is_cut_off_fades_until_it_is_scrolled_to(
    chromium: BrowserContext, data: Callable[..., ReportData], tmp_path: Path
) -> None:
    """Panels beyond the right edge are hinted at, and nothing is once the last one is seen."""
    file = tmp_path / "report.html"
    file.write_text(render(data()), encoding="utf-8")
    page = Watched(chromium, 420).open(file.as_uri())
    box = page.locator(".scroll:has(#figure-curves)")
    fades = "e => getComputedStyle(e).maskImage !== 'none'"
    assert box.evaluate(fades)
    assert not page.locator(".scroll:has(#figure-gamma-star)").evaluate(fades)
    box.evaluate("e => { e.scrollLeft = e.scrollWidth; }")
    page.wait_for_selector(".scroll:not(.more):has(#figure-curves)", timeout=5_000)
    assert not box.evaluate(fades)
    page.close()


def test_a_hostile_name_runs_nothing(
    chromium: BrowserContext, data: Callable[..., ReportData], tmp_path: Path
) -> None:
    """A name of markup is read as text, and the policy would stop its script."""
    hostile = "<img src=x onerror=document.title='owned'></script><script>document.title=1</script>"
    study = replace(data().study, name=hostile)
    file = tmp_path / "report.html"
    file.write_text(render(data(study=study)), encoding="utf-8")
    watched = Watched(chromium, 800)
    page = watched.open(file.as_uri())
    assert page.locator("h1").inner_text() == hostile
    assert page.title().endswith("– Critical")
    assert watched.complaints == []
    page.close()


def test_the_served_page_is_drawn_under_its_policy(chromium: BrowserContext, site: str) -> None:
    """Plotly and the page's own script run, and nothing leaves this machine."""
    watched = Watched(chromium, 1280)
    page = watched.open(f"{site}/")
    assert page.locator(".plot .main-svg").count() >= 6
    assert all(request.startswith(site) for request in watched.requests)
    assert watched.complaints == []
    page.close()


def test_optunas_page_is_drawn_behind_the_gate(chromium: BrowserContext, site: str) -> None:
    """Its script runs under its own policy, and the way back leads to the report."""
    watched = Watched(chromium, 1280)
    watched.page.goto(f"{site}/dashboard")
    watched.page.get_by_text("Critical: γ* and report").click(timeout=20_000)
    watched.page.wait_for_selector("body[data-drawn]", timeout=30_000)
    assert all(request.startswith(site) for request in watched.requests)
    watched.page.close()
