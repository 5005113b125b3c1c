"""Running a search's trials in this process, one pack after another, without Ray."""

from __future__ import annotations

import time
from collections.abc import Iterator

from critical.running.agenda import Signal
from critical.running.pack_attempt import PackAttempt
from critical.running.search import INTERRUPTED, Search
from critical.storage.errors import StoreError
from critical.trials import Interrupted, Trainable
from critical.trials.failure import describe, kind_of
from critical.trials.watch import Watched
from critical.trials.watch_pack import is_news, watch_members
from critical.trials.watchdog import Hanging, Watchdog

_POLL_SECONDS = 0.05


def run_in_process(search: Search, trainable: Trainable) -> None:
    """Run trials until the search has nothing left to do, or is told to stop.

    Raises:
        RunError: One trial after another has failed.
        KeyboardInterrupt: The user does not wait; running trials are stored as interrupted.
    """
    while (found := search.next_pack()) is not Signal.DONE:
        if isinstance(found, Signal):
            time.sleep(_POLL_SECONDS)  # a trial waits for its next attempt
        else:
            _run(search, trainable, PackAttempt(search, found))


def _run(search: Search, trainable: Trainable, attempt: PackAttempt) -> None:
    measured = False
    started = time.perf_counter()

    def waited() -> float:
        return 0.0 if measured else time.perf_counter() - started

    try:
        for row in _watched(search, trainable, attempt):
            measured = True
            attempt.record(row)
    except (Interrupted, KeyboardInterrupt) as error:
        attempt.interrupt(waited(), INTERRUPTED)
        if isinstance(error, KeyboardInterrupt):
            raise
    except StoreError:
        raise  # not the trial's fault: it goes on once the store can be written
    except Hanging as error:
        attempt.retry(waited(), str(error))
    except Exception as error:
        attempt.fail(waited(), describe(error), kind_of(error))
    else:
        attempt.finish()


def _watched(
    search: Search, trainable: Trainable, attempt: PackAttempt
) -> Iterator[list[Watched | None]]:
    """Run a pack, each wait for a measurement under the watchdog, the store's work not."""
    runs = [one.run for one in attempt.going]
    earlier = [one.earlier for one in attempt.going]
    folder = runs[0].checkpoint_dir
    watchdog = Watchdog(search.retries.patience, attempt.longest_wait, folder)
    rows = watch_members(trainable, runs, earlier)
    while True:
        with watchdog.watching(in_process=True) as wait:
            row = next(rows, None)
            wait.counts = row is not None and is_news(row, earlier)
        if row is None:
            return
        yield row
