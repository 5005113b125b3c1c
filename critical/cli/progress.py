"""The progress display: trials, budget, and the interval of γ* narrowing. On standard error."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from critical.budget import format_amount
from critical.search import Search
from critical.storage.records import GammaStar, TrialState

_LINE_SECONDS = 20.0
"""Without a terminal, a line is printed this often and no display is redrawn."""
_STRIP = 46


class Progress:
    """Draws a search as it goes; the search calls it whenever something changed."""

    def __init__(self, search: Search, console: Console) -> None:
        self._console = console
        self._search = search
        self._live: Live | None = None
        self._started = self._printed = time.monotonic()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(
                self._view(self._search), console=self._console, auto_refresh=False, transient=True
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
        self._console.print(summary_line(self._search, time.monotonic() - self._started))

    def __call__(self, search: Search, /) -> None:
        """Redraw, or print a line if the last one is old enough."""
        now = time.monotonic()
        if self._live is not None:
            self._live.update(self._view(search), refresh=True)
        elif now - self._printed >= _LINE_SECONDS:
            self._printed = now
            self._console.print(summary_line(search, now - self._started))

    def _view(self, search: Search) -> RenderableType:
        history = search.history
        bar = ProgressBar(total=history.budget.amount, completed=history.spent, width=_STRIP)
        head = Text(summary_line(search, time.monotonic() - self._started))
        return Group(head, bar, _strips(search))


def summary_line(search: Search, seconds: float) -> str:
    """Return the state of a search in one line."""
    history = search.history
    ended = sum(t.state is TrialState.COMPLETED for t in history.trials)
    spent = format_amount(history.spent, history.budget.unit)
    parts = [
        f"{int(seconds) // 60}:{int(seconds) % 60:02}",
        f"{ended} trials completed, {len(history.running)} running",
        f"{spent} of {history.budget}",
    ]
    for state in (TrialState.INTERRUPTED, TrialState.DIVERGED, TrialState.FAILED):
        count = sum(t.state is state for t in history.trials)
        if count:
            parts.insert(2, f"{count} {state.value}")
    star = _headline(search)
    if star is not None:
        parts.append(f"γ* {star.median:.3f} [{star.low:.2f}, {star.high:.2f}]")
    return " · ".join(parts)


def _headline(search: Search) -> GammaStar | None:
    posterior = search.posterior
    if posterior is not None and posterior.target is not None:
        return posterior.target.gamma_star
    widest = search.belief.widest_scale()
    return None if widest is None else widest.gamma_star


def _strips(search: Search) -> Table:
    """One line a scale: the interval of γ* as a strip over the search interval."""
    table = Table.grid(padding=(0, 2))
    posterior = search.posterior
    if posterior is None:
        return table
    interval = search.belief.spec.interval
    for scale in posterior.scales:
        star = scale.gamma_star
        note = "" if scale.learned else "exploratory"
        table.add_row(
            f"width {scale.width}", strip(star, interval), f"{star.median:.2f}", star.verdict, note
        )
    if posterior.target is not None:
        star = posterior.target.gamma_star
        table.add_row(
            f"at {posterior.target.width}", strip(star, interval), f"{star.median:.2f}",
            star.verdict, "",
        )  # fmt: skip
    return table


def strip(star: GammaStar, interval: tuple[float, float]) -> str:
    """Draw γ*'s 90% interval as ━ and its median as ● on a line over the search interval."""
    low, high = interval

    def place(gamma: float) -> int:
        return min(_STRIP - 1, max(0, round((gamma - low) / (high - low) * (_STRIP - 1))))

    cells = ["·"] * _STRIP
    for index in range(place(star.low), place(star.high) + 1):
        cells[index] = "━"
    cells[place(star.median)] = "●"
    return "".join(cells)
