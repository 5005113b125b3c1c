"""Running a search's trials one after another in this process, without Ray."""

from __future__ import annotations

import time

from critical.agenda import Signal
from critical.search import Assignment, Search
from critical.storage.errors import StoreError
from critical.trials import Trainable
from critical.trials.failure import describe
from critical.trials.watch import Watched, watch


def run_in_process(search: Search, trainable: Trainable) -> None:
    """Run trials until the search has nothing left to do.

    Raises:
        RunError: One trial after another has failed.
        KeyboardInterrupt: The user interrupts; the running trial is stored as stopped.
    """
    while not isinstance(assignment := search.next(), Signal):
        _run(search, trainable, assignment)


def _run(search: Search, trainable: Trainable, assignment: Assignment) -> None:
    last: Watched | None = None
    started = time.perf_counter()
    stopped = failure = None
    try:
        for last in watch(trainable, assignment.run):
            search.record(assignment.number, last)
    except KeyboardInterrupt:
        stopped = "interrupted"
        raise
    except StoreError:
        stopped = "the store could not be written"  # not the trial's fault
        raise
    except Exception as error:
        failure = describe(error)
    finally:
        search.finish(
            assignment.number,
            last.device_seconds if last else time.perf_counter() - started,
            diverged=last is not None and last.diverged,
            stopped=stopped,
            failure=failure,
        )
