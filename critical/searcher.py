"""Ray Tune's searcher over a ``Search``: a thin adapter, called by the driver alone."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from ray.tune.search import Searcher

from critical.agenda import Signal
from critical.search import INTERRUPTED, Assignment, Search
from critical.storage.errors import StoreError
from critical.trials.watch import Watched
from critical.trials.watchdog import hanging_place


@dataclass(slots=True)
class Attempt:
    """One of Tune's trials: an attempt at one of ours."""

    assignment: Assignment
    started: float = field(default_factory=time.monotonic)
    last: Watched | None = None
    heard: float | None = None
    """When the last measurement came."""
    longest_wait: float | None = None
    """For a measurement, in this attempt or in others like it, seconds."""
    host: str | None = None
    pid: int | None = None
    """Of the worker, once it has been heard of."""
    death: str | None = None
    """What its worker process died of, if somebody knows."""

    def hear(self, result: Mapping[str, Any]) -> Watched:
        """Take in a measurement that the worker reports."""
        if self.heard is not None:
            self.longest_wait = max(self.waited(), self.longest_wait or 0.0)
        self.host, self.pid = result.get("hostname"), result.get("pid")
        self.heard = time.monotonic()
        watched: Watched = result["watched"]
        self.last = watched
        return watched

    def waited(self) -> float:
        """Seconds since the last measurement came, or since it was begun."""
        return time.monotonic() - (self.started if self.heard is None else self.heard)

    def measured(self) -> float:
        """Device-seconds up to its last measurement, by the worker's clock; 0 before the first."""
        return self.last.device_seconds if self.last is not None else 0.0

    def held(self) -> float:
        """Device-seconds up to now, for a worker that died just now."""
        return self.measured() + self.waited()


class TuneSearcher(Searcher):  # type: ignore[misc]  # ray ships no types
    """Hands Tune the search's trials and the search Tune's results.

    An exception of the search's own is kept in ``error`` and ends the run: Tune would bury it.
    """

    def __init__(self, search: Search) -> None:
        super().__init__(metric=None, mode=None)
        self._search = search
        self.attempts: dict[str, Attempt] = {}
        self.error: Exception | None = None

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next trial's config, None to wait, or FINISHED."""
        if self.error is not None:
            return str(Searcher.FINISHED)
        try:
            found = self._search.next()
        except Exception as error:
            self._fail(error)
            return str(Searcher.FINISHED)
        if found is Signal.WAIT:
            return None
        if isinstance(found, Signal):
            return str(Searcher.FINISHED)
        self.attempts[trial_id] = Attempt(found, longest_wait=found.longest_wait)
        return {
            "members": [found.run],
            "earlier": found.earlier,
            "patience": self.patience,
            "longest_wait": found.longest_wait,
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Store a measurement."""
        if "watched" in result:
            attempt = self.attempts[trial_id]
            watched = attempt.hear(result)
            with self._keeping_its_error():
                self._search.record(attempt.assignment.number, watched)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Settle a trial that ended, stopped or failed, or whose worker died."""
        if self.error is not None or trial_id not in self.attempts:
            return
        attempt, found = self.attempts.pop(trial_id), result or {}
        number, last = attempt.assignment.number, attempt.last
        with self._keeping_its_error():
            if error:
                self._search.retry(number, attempt.held(), _death(attempt))
            elif found.get("interrupted"):
                self._search.interrupt(number, attempt.held(), INTERRUPTED)
            elif failure := found.get("failure"):
                self._search.fail(number, attempt.held(), failure, found.get("kind", "error"))
            else:
                diverged = last is not None and last.diverged
                self._search.finish(number, attempt.measured(), diverged=diverged)

    def stop_running(self) -> None:
        """Settle what has not ended as interrupted, charged to its last measurement."""
        reason = INTERRUPTED if self.error is None else "the search ended by an error"
        with suppress(StoreError):  # what cannot be settled now is when the search goes on
            for attempt in self.attempts.values():
                self._search.interrupt(attempt.assignment.number, attempt.measured(), reason)
        self.attempts.clear()

    def __getstate__(self) -> dict[str, Any]:
        """Pickle as empty: Tune saves its tuner, of which nothing is ever restored."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the store is the only truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the store is the only truth."""

    @property
    def patience(self) -> float:
        """Seconds that any wait for a measurement may take."""
        return self._search.retries.patience

    @contextmanager
    def _keeping_its_error(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Keep the first error, and let what runs save its state, for the run ends here."""
        if self.error is None:
            self.error = error
            self._search.stop()


def _death(attempt: Attempt) -> str:
    folder = attempt.assignment.run.checkpoint_dir
    hanging = hanging_place(folder) if folder is not None else None
    return hanging or attempt.death or "its worker process died"
