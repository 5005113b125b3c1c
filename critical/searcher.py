"""Ray Tune's searcher over a ``Search``: a thin adapter, called by the driver alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.tune.search import Searcher

from critical.agenda import Signal
from critical.search import Search
from critical.trials.watch import Watched


class TuneSearcher(Searcher):  # type: ignore[misc]  # ray ships no types
    """Hands Tune the search's trials and the search Tune's results.

    An exception of the search's own is kept in ``error`` and ends the run: Tune would bury it.
    """

    def __init__(self, search: Search) -> None:
        super().__init__(metric=None, mode=None)
        self._search = search
        self._numbers: dict[str, int] = {}
        self._started: dict[str, float] = {}
        self._last: dict[str, Watched] = {}
        self.error: Exception | None = None

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next trial's config, None to wait, or FINISHED."""
        if self.error is not None:
            return str(Searcher.FINISHED)
        try:
            found = self._search.next()
        except Exception as error:
            self.error = error
            return str(Searcher.FINISHED)
        if found is Signal.WAIT:
            return None
        if isinstance(found, Signal):
            return str(Searcher.FINISHED)
        self._numbers[trial_id] = found.number
        self._started[trial_id] = time.monotonic()
        return {"members": [found.run]}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Store a measurement."""
        if "watched" in result:
            watched: Watched = result["watched"]
            self._last[trial_id] = watched
            with self._keeping_its_error():
                self._search.record(self._numbers[trial_id], watched)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Settle a trial that ended, or whose worker died."""
        number = self._numbers.pop(trial_id, None)
        if number is None:
            return
        held = time.monotonic() - self._started.pop(trial_id)
        last = self._last.pop(trial_id, None)
        failure = "its worker process died" if error else (result or {}).get("failure")
        with self._keeping_its_error():
            self._search.finish(
                number,
                last.device_seconds if last is not None and not error else held,
                diverged=last is not None and last.diverged,
                failure=failure,
            )

    def stop_running(self, reason: str) -> None:
        """Settle what still runs as stopped, charged to its last measurement."""
        for trial_id, number in self._numbers.items():
            last = self._last.get(trial_id)
            seconds = last.device_seconds if last is not None else 0.0
            self._search.finish(number, seconds, stopped=reason)
        self._numbers.clear()

    def __getstate__(self) -> dict[str, Any]:
        """Pickle as empty: Tune saves its tuner, of which nothing is ever restored."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the store is the only truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the store is the only truth."""

    @contextmanager
    def _keeping_its_error(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.error = self.error or error
