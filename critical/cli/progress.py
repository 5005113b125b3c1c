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
from critical.running.search import Search
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
    stars = _headlines(search)
    if stars:
        parts.append("γ* " + ", ".join(stars))
    return " · ".join(parts)


def _headlines(search: Search) -> list[str]:
    """γ* at the target, else at the widest scale, of each of the settings that has one."""
    answers = () if search.posterior is None else search.posterior.answers
    found = []
    for own in answers:
        widest = search.belief.widest_scale(own.settings)
        star = own.target or widest
        if star is not None:
            told = star.gamma_star
            name = f"{own.settings} " if len(answers) > 1 else ""
            found.append(f"{name}{told.median:.3f} [{told.low:.2f}, {told.high:.2f}]")
    return found


def _strips(search: Search) -> Table:
    """One line a scale: the interval of γ* as a strip over the search interval."""
    table = Table.grid(padding=(0, 2))
    posterior = search.posterior
    if posterior is None:
        return table
    several = len(posterior.answers) > 1

    def add(place: str, settings: str, star: GammaStar, note: str) -> None:
        name = f"{place} {settings}" if several else place
        drawn = strip(star, search.belief.spec.interval)
        table.add_row(name, drawn, f"{star.median:.2f}", star.verdict, note)

    for scale in posterior.scales:
        note = "" if scale.learned else "exploratory"
        add(f"width {scale.width}", scale.settings, scale.gamma_star, note)
    for own in posterior.answers:
        if own.target is not None:
            add(f"at {own.target.width}", own.settings, own.target.gamma_star, "")
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
