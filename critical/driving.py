"""Running a search's trials one after another in this process, without Ray."""

from __future__ import annotations

import time
from collections.abc import Iterator

from critical.agenda import Signal
from critical.search import INTERRUPTED, Assignment, Search
from critical.storage.errors import StoreError
from critical.trials import Interrupted, Trainable
from critical.trials.failure import describe, kind_of
from critical.trials.watch import Watched, watch
from critical.trials.watchdog import Hanging, Watchdog

_POLL_SECONDS = 0.05


def run_in_process(search: Search, trainable: Trainable) -> None:
    """Run trials until the search has nothing left to do, or is told to stop.

    Raises:
        RunError: One trial after another has failed.
        KeyboardInterrupt: The user does not wait; the running trial is stored as interrupted.
    """
    while (found := search.next()) is not Signal.DONE:
        if isinstance(found, Assignment):
            _run(search, trainable, found)
        else:
            time.sleep(_POLL_SECONDS)  # a trial waits for its next attempt


def _run(search: Search, trainable: Trainable, assignment: Assignment) -> None:
    number = assignment.number
    last: Watched | None = None
    started = time.perf_counter()

    def held() -> float:
        return last.device_seconds if last is not None else time.perf_counter() - started

    try:
        for last in _watched(search, trainable, assignment):
            search.record(number, last)
    except (Interrupted, KeyboardInterrupt) as error:
        search.interrupt(number, held(), INTERRUPTED)
        if isinstance(error, KeyboardInterrupt):
            raise
    except StoreError:
        raise  # not the trial's fault: it goes on once the store can be written
    except Hanging as error:
        search.retry(number, held(), str(error))
    except Exception as error:
        search.fail(number, held(), describe(error), kind_of(error))
    else:
        search.finish(number, held(), diverged=last is not None and last.diverged)


def _watched(search: Search, trainable: Trainable, assignment: Assignment) -> Iterator[Watched]:
    """Run a trial, each wait for a measurement under the watchdog, the store's work not."""
    run, earlier = assignment.run, assignment.earlier
    watchdog = Watchdog(search.retries.patience, assignment.longest_wait, run.checkpoint_dir)
    measurements = watch(trainable, run, earlier)
    while True:
        with watchdog.watching(in_process=True) as wait:
            found = next(measurements, None)
            wait.counts = found is not None and found.measurement.tokens > earlier.tokens
        if found is None:
            return
        yield found
