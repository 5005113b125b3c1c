"""The progress display: one line without a terminal, a picture redrawn with one."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest
from rich.console import Console

from critical.cli.progress import Progress, strip, summary_line
from critical.running.search import Assignment, Search
from critical.storage.records import GammaStar

Begin = Callable[..., Search]
STAR = GammaStar(0.75, 0.6, 0.9, (0.7, 0.8), "resolved", 0.97)


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    """A console that writes into memory."""
    text = io.StringIO()
    return Console(file=text, force_terminal=terminal, width=110, markup=False), text


@pytest.mark.parametrize(
    ("seconds", "clock"), [(0, "0:00"), (59.7, "0:59"), (60, "1:00"), (3725.2, "62:05")]
)
def test_the_summary_is_one_line(finished: Search, seconds: float, clock: str) -> None:
    """Time, trials, budget, and γ* with its interval."""
    line = summary_line(finished, seconds)
    assert re.fullmatch(
        clock + r" · 60 trials completed, 0 running · 60trials of 60trials · "
        r"γ\* 0\.\d{3} \[0\.\d\d, 0\.\d\d\]",
        line,
    )


@pytest.mark.usefixtures("without_posterior")
def test_failures_are_counted_and_an_unknown_gamma_is_left_out(begin: Begin) -> None:
    """Before anything has completed there is only what has happened."""
    search = begin()
    assignment = search.next()
    assert isinstance(assignment, Assignment)
    search.fail(assignment.number, 0.0, "ValueError: x")
    assert summary_line(search, 1) == (
        "0:01 · 0 trials completed, 0 running · 1 failed · 0trials of 7trials"
    )


def test_without_a_terminal_only_the_last_line_is_printed(finished: Search) -> None:
    """A log is not filled with every change."""
    there, text = console(terminal=False)
    with Progress(finished, there) as progress:
        for _ in range(5):
            progress(finished)
    assert len(text.getvalue().splitlines()) == 1


def test_a_line_is_printed_now_and_then(finished: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every twenty seconds, so that a log shows that the search lives."""
    ticks = iter(range(0, 1000, 15))
    monkeypatch.setattr("critical.cli.progress.time.monotonic", lambda: float(next(ticks)))
    there, text = console(terminal=False)
    with Progress(finished, there) as progress:
        for _ in range(4):
            progress(finished)
    clocks = [line.split(" ")[0] for line in text.getvalue().splitlines()]
    assert clocks == ["0:30", "1:00", "1:15"]


def test_with_a_terminal_every_scale_has_its_strip(finished: Search) -> None:
    """The intervals narrow before the user's eyes."""
    there, text = console(terminal=True)
    with Progress(finished, there) as progress:
        progress(finished)
    drawn = text.getvalue()
    for name in ("width 32", "width 64", "width 128", "at 128"):
        assert name in drawn
    assert "●" in drawn


def test_the_strip_spans_the_search_interval() -> None:
    """Interval and median lie where they are, and never outside."""
    line = strip(STAR, (0.3, 1.2))
    assert len(line) == len(strip(STAR, (0.0, 3.0))) == 46
    assert line.index("━") == 15
    assert line.rindex("━") == 30
    assert line.index("●") in (22, 23)
    edge = GammaStar(0.3, 0.1, 1.5, (0.3, 0.3), "one-sided", 1.0)
    assert strip(edge, (0.3, 1.2)) == "●" + "━" * 45
