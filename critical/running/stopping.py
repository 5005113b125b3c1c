"""Ctrl-C and SIGTERM: the first lets a search save its trials, the second ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

GRACE_SECONDS = 30.0
"""How long running trials have to save what they need; then the second signal comes from here."""


@contextmanager
def stopping_on_signals(
    stop: Callable[[], None], grace_seconds: float = GRACE_SECONDS
) -> Iterator[None]:
    """Call ``stop`` at the first signal; raise KeyboardInterrupt at the next, or after the grace.

    Outside the main thread, which alone gets signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    timer = threading.Timer(grace_seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.daemon = True
    asked = False

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        timer.start()
        stop()

    kept: dict[signal.Signals, Any] = {
        each: signal.signal(each, handle) for each in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        timer.cancel()
        for each, handler in kept.items():
            signal.signal(each, handler)
