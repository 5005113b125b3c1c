"""A trial that hangs, told from a slow one by its own pace, and ended.

In a worker the process ends: faulthandler's timer is a thread in C, which needs not Python's lock
and so ends a loop within C too. It leaves the traceback in the trial's folder. In the driver's own
process the trial gets an exception instead.
"""

from __future__ import annotations

import faulthandler
import os
import re
import signal
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import FrameType

HANGING_FILE = "hanging.txt"
PATIENCE_SECONDS = 300.0
"""No trial hangs that waits less than this for a measurement."""
SLOWER = 10.0
"""A wait this many times the longest one before is no slow step any more."""
_HEADER = re.compile(r"(no measurement for \S+ s) in thread (0x[0-9a-f]+)\n")
_FRAME = re.compile(r'  File "(.*)", line (\S+) in (.*)')


class Hanging(Exception):  # noqa: N818  # says what the trial does
    """No measurement came for long; raised in the trial itself, its sentence says where."""


@dataclass(slots=True)
class Wait:
    """One wait for a measurement.

    Attributes:
        counts: Whether it tells the trial's pace. A measurement of an earlier attempt that is
            yielded again does not: it comes at once.
    """

    counts: bool = True


def waiting_limit(patience: float, waits: Collection[float]) -> float:
    """Return how long to wait for a measurement, seconds, given earlier waits for one."""
    if not waits:
        return SLOWER * patience
    return max(patience, SLOWER * max(waits))


class Watchdog:
    """Watches one trial's waits for measurements.

    Args:
        patience: Seconds that any wait may take.
        longest_wait: The longest wait, seconds, that other trials like this one, or this one's
            earlier attempts, have had; None where there are none.
        folder: See below.

    Attributes:
        folder: Where the traceback goes, as ``hanging.txt``; None for nowhere.
    """

    def __init__(
        self, patience: float, longest_wait: float | None = None, folder: Path | None = None
    ) -> None:
        self._patience = patience
        self._longest = longest_wait
        self.folder = folder

    @property
    def limit(self) -> float:
        """Seconds that the next wait may take."""
        return waiting_limit(self._patience, () if self._longest is None else (self._longest,))

    @contextmanager
    def watching(self, *, in_process: bool = False) -> Iterator[Wait]:
        """Watch one advance to the next measurement, and learn from how long it took.

        Args:
            in_process: Raise ``Hanging`` in the trial instead of ending the process. Needs the
                main thread; in another one nothing is watched.

        Raises:
            Hanging: ``in_process``, and the limit has passed.
        """
        wait = Wait()
        limit = min(self.limit, threading.TIMEOUT_MAX)
        started = time.perf_counter()
        with _raising(limit) if in_process else _ending(limit, self.folder):
            yield wait
        if wait.counts:
            self._longest = max(self._longest or 0.0, time.perf_counter() - started)


def hanging_place(folder: Path) -> str | None:
    """Say where a process hung that its watchdog has ended, from what it left in a folder.

    Returns:
        As in ``no measurement for 312 s (own.py, line 12 in train)``; without a place where there
        is no Python in it; None where no watchdog ended the process.
    """
    try:
        text = (folder / HANGING_FILE).read_text(errors="replace")
    except OSError:
        return None
    header = _HEADER.match(text)
    if header is None or "\nTimeout (" not in text:
        return None
    waited, thread = header.groups()
    frame = _innermost(text, thread)
    return f"{waited} ({frame})" if frame else waited


def _innermost(text: str, thread: str) -> str | None:
    """Return a thread's innermost frame in faulthandler's text, most recent call first."""
    _, _, calls = text.partition(f"hread {thread} ")
    _, _, calls = calls.partition("\n")
    frame = _FRAME.match(calls)
    return _place(*frame.groups()) if frame else None


def _place(file: str, line: object, function: str) -> str:
    return f"{file.rsplit('/', 1)[-1]}, line {line} in {function}"


def _waited(seconds: float) -> str:
    return f"no measurement for {round(seconds, 1):.10g} s"


@contextmanager
def _ending(limit: float, folder: Path | None) -> Iterator[None]:
    with _traceback_file(
        folder, f"{_waited(limit)} in thread {threading.get_ident():#018x}\n"
    ) as file:
        faulthandler.dump_traceback_later(limit, exit=True, file=file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def _traceback_file(folder: Path | None, header: str) -> FileIO:
    """Open the traceback's file anew; a folder that cannot be written to ends no watching."""
    if folder is not None:
        with suppress(OSError):
            file = FileIO(folder / HANGING_FILE, "w")
            with suppress(OSError):
                file.write(header.encode())
            return file
    return FileIO(os.devnull, "w")


@contextmanager
def _raising(limit: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def raise_hanging(_signal: int, frame: FrameType | None) -> None:
        place = ""
        if frame is not None:
            code = frame.f_code
            place = f" ({_place(code.co_filename, frame.f_lineno, code.co_name)})"
        raise Hanging(f"{_waited(limit)}{place}")

    handler = signal.signal(signal.SIGALRM, raise_hanging)
    # Again after each limit, for a trial that swallows it or hangs while it cleans up.
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, limit, limit)
    started = time.monotonic()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if handler is not None:  # one that was not installed from Python cannot be put back
            signal.signal(signal.SIGALRM, handler)
        if remaining:  # somebody else's timer goes on as if there had been no other
            passed = time.monotonic() - started
            signal.setitimer(signal.ITIMER_REAL, max(remaining - passed, 1e-3), interval)
