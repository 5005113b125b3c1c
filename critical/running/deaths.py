"""What Ray's workers die of, and the end of those that cannot end themselves.

A worker that hangs ends itself (``critical.trials.watchdog``), but not one that is stopped or that
waits within the kernel. Such a one is ended from here, if it is on this machine.
"""

from __future__ import annotations

import os
import platform
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.schedulers import FIFOScheduler

from critical.errors import RunError
from critical.running.ray_processes import dead_process
from critical.running.searcher import Attempt, TuneSearcher
from critical.trials.watchdog import waiting_limit

_SLACK_SECONDS = 5.0
"""What the watchdog in the worker has for itself before it is helped."""
_KILLED_FOR_MEMORY = ("OutOfMemory", "out of memory", "memory pressure", "memory usage threshold")


class DeathNotes(FIFOScheduler):  # type: ignore[misc]  # ray ships no types
    """Starts trials in order, and hands the searcher what Ray says of a worker's death."""

    def __init__(self, searcher: TuneSearcher) -> None:
        super().__init__()
        self._searcher = searcher

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:  # noqa: ANN401 - Tune's own
        """Read the text that Tune keeps of the error; it asks this before it tells the searcher."""
        attempt = self._searcher.attempts.get(trial.trial_id)
        if attempt is not None and attempt.death is None and trial.error_file:
            attempt.death = cause_of_death(Path(trial.error_file).read_text(errors="replace"))

    def __getstate__(self) -> dict[str, Any]:
        """Pickle as empty: Tune saves its parts, of which nothing is ever restored."""
        return {}


class Undertaker(Callback):  # type: ignore[misc]  # ray ships no types
    """Ends workers of this machine from which nothing has come for long, and a run without Ray."""

    def __init__(self, searcher: TuneSearcher) -> None:
        self._searcher = searcher

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:  # noqa: ANN401
        """Look at Ray and at every attempt, as often as Tune looks for events.

        Raises:
            RunError: A process of the local Ray has died. Ray would end this process shortly.
        """
        dead = dead_process()
        if dead is not None:
            raise RunError(f"Ray's {dead} has died: all is stored, and the same command goes on")
        for attempt in self._searcher.attempts.values():
            waits = () if attempt.longest_wait is None else (attempt.longest_wait,)
            limit = waiting_limit(self._searcher.patience, waits)
            waited = attempt.waited()
            if waited > max(2 * limit, limit + _SLACK_SECONDS):
                end_worker(attempt, f"no measurement for {waited:.0f} s, and it did not answer")

    def __getstate__(self) -> dict[str, Any]:
        """Pickle as empty: Tune saves its parts, of which nothing is ever restored."""
        return {}


def cause_of_death(text: str) -> str:
    """Say in a few words what Ray says at length."""
    if any(words in text for words in _KILLED_FOR_MEMORY):
        return "its worker process was killed for want of memory"
    if "died" in text and "actor's node" in text:
        return "the machine of its worker died"
    return "its worker process died"


def end_worker(attempt: Attempt, reason: str) -> None:
    """Kill an attempt's worker, if it has been heard of and is on this machine."""
    if attempt.pid is None or attempt.host != platform.node():
        return
    attempt.death = reason
    with suppress(ProcessLookupError):
        os.kill(attempt.pid, signal.SIGKILL)
    attempt.pid = None
