"""Ray Tune's searcher over a ``Search``: a thin adapter, called by the driver alone."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from ray.tune.search import Searcher

from critical.running.agenda import Signal
from critical.running.pack_attempt import PackAttempt
from critical.running.search import INTERRUPTED, Search
from critical.storage.errors import StoreError
from critical.trials.watch import Watched
from critical.trials.watchdog import hanging_place


@dataclass(slots=True)
class Attempt:
    """One of Tune's trials: an attempt at one of ours, or at several that are a pack."""

    pack: PackAttempt
    started: float = field(default_factory=time.monotonic)
    heard: float | None = None
    """When the last measurement came."""
    longest_wait: float | None = None
    """For a measurement, in this attempt or in others like it, seconds."""
    host: str | None = None
    pid: int | None = None
    """Of the worker, once it has been heard of."""
    death: str | None = None
    """What its worker process died of, if somebody knows."""

    def hear(self, result: Mapping[str, Any]) -> Sequence[Watched | None]:
        """Take in the measurements that the worker reports, one a member."""
        if self.heard is not None:
            self.longest_wait = max(self.waited(), self.longest_wait or 0.0)
        self.host, self.pid = result.get("hostname"), result.get("pid")
        self.heard = time.monotonic()
        row: Sequence[Watched | None] = result["watched"]
        return row

    def waited(self) -> float:
        """Seconds since the last measurement came, or since it was begun."""
        return time.monotonic() - (self.started if self.heard is None else self.heard)


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
        """Return the next pack's config, None to wait, or FINISHED."""
        if self.error is not None:
            return str(Searcher.FINISHED)
        try:
            found = self._search.next_pack()
        except Exception as error:
            self._fail(error)
            return str(Searcher.FINISHED)
        if found is Signal.WAIT:
            return None
        if isinstance(found, Signal):
            return str(Searcher.FINISHED)
        pack = PackAttempt(self._search, found)
        self.attempts[trial_id] = Attempt(pack, longest_wait=pack.longest_wait)
        return {
            "members": [one.run for one in found],
            "earlier": [one.earlier for one in found],
            "patience": self.patience,
            "longest_wait": pack.longest_wait,
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Store the measurements of a pack, and settle those of its members that have ended."""
        if "watched" in result:
            attempt = self.attempts[trial_id]
            row = attempt.hear(result)
            with self._keeping_its_error():
                attempt.pack.record(row)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Settle what is left of a pack that ended, stopped or failed, or whose worker died."""
        if self.error is not None or trial_id not in self.attempts:
            return
        attempt, found = self.attempts.pop(trial_id), result or {}
        pack, waited = attempt.pack, attempt.waited()
        with self._keeping_its_error():
            if error:
                pack.retry(waited, _death(attempt))
            elif found.get("interrupted"):
                pack.interrupt(waited, INTERRUPTED)
            elif failure := found.get("failure"):
                pack.fail(waited, failure, found.get("kind", "error"))
            else:
                pack.finish()

    def drop(self, number: int, reason: str) -> bool:
        """Tell a trial to end before its time, and leave those that are trained with it.

        Args:
            number: The trial's number in the study.
            reason: Why, for the store.

        Returns:
            Whether it is running.
        """
        return any(attempt.pack.drop(number, reason) for attempt in self.attempts.values())

    def stop_running(self) -> None:
        """Settle what has not ended as interrupted, charged to its last measurement."""
        reason = INTERRUPTED if self.error is None else "the search ended by an error"
        with suppress(StoreError):  # what cannot be settled now is when the search goes on
            for attempt in self.attempts.values():
                attempt.pack.interrupt(0.0, reason)
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
    folders = (one.run.checkpoint_dir for one in attempt.pack.going)
    places = (hanging_place(folder) for folder in folders if folder is not None)
    hanging = next((place for place in places if place is not None), None)
    return hanging or attempt.death or "its worker process died"
