"""A trial that hangs is told from a slow one, and ended with the place where it hung."""

from __future__ import annotations

import multiprocessing
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from critical.trials.watchdog import (
    HANGING_FILE,
    Hanging,
    Watchdog,
    hanging_place,
    waiting_limit,
)

SHORT = 0.02
"""Seconds of patience; ten times as much before anything is known."""
SLEEP = "time.sleep(60)"
LOCKED = "re.match(r'(a+)+$', 'a' * 40 + 'b')"
"""Endless, in C, and never giving up Python's lock."""
OWN = """
import re, sys, time
from pathlib import Path
from critical.trials.watchdog import Watchdog

def train():
    {line}

with Watchdog({patience}, folder=Path(sys.argv[1])).watching():
    train()
"""

waits = st.lists(st.floats(0, 1e9), max_size=5)
patiences = st.floats(1e-3, 1e9)


@given(patiences, waits)
def test_the_limit_is_never_under_the_patience(patience: float, seen: list[float]) -> None:
    """Whatever was waited before."""
    assert waiting_limit(patience, seen) >= patience


@given(patiences, waits.filter(bool), st.data())
def test_longer_waits_allow_longer_ones(
    patience: float, seen: list[float], data: st.DataObject
) -> None:
    """The limit grows with each wait, with more of them, and with the patience."""
    limit = waiting_limit(patience, seen)
    more = data.draw(st.floats(0, 1e9), "more")
    place = data.draw(st.integers(0, len(seen) - 1), "place")
    longer = [wait + more * (place == n) for n, wait in enumerate(seen)]
    assert waiting_limit(patience, longer) >= limit
    assert waiting_limit(patience, [*seen, more]) >= limit
    assert waiting_limit(patience + more, seen) >= limit


def test_the_limit_of_a_known_and_of_an_unknown_pace() -> None:
    """Ten times the longest wait, and a long patience before anything is known."""
    assert waiting_limit(30, []) == 300
    assert waiting_limit(30, [1, 2]) == 30
    assert waiting_limit(30, [1, 20, 2]) == 200


def test_it_learns_the_pace() -> None:
    """From waits that count, and from other trials; one that fails teaches nothing."""
    watchdog = Watchdog(0.5)
    assert watchdog.limit == 5
    with watchdog.watching() as wait:
        wait.counts = False
    with pytest.raises(ZeroDivisionError), watchdog.watching():
        raise ZeroDivisionError
    assert watchdog.limit == 5
    with watchdog.watching():
        pass
    assert watchdog.limit == 0.5
    with watchdog.watching(in_process=True):
        time.sleep(0.06)
    assert 0.6 <= watchdog.limit < 5
    assert Watchdog(0.5, 2.0).limit == 20


def hang(line: str, folder: Path, patience: float = SHORT) -> int:
    """Run a line under a watchdog in a process of its own; its exit status."""
    own = folder / "own.py"
    own.write_text(OWN.format(line=line, patience=patience))
    return subprocess.run([sys.executable, own, folder], check=False, timeout=30).returncode


@pytest.mark.parametrize(
    ("line", "place"),
    [(SLEEP, "own.py, line 7 in train"), (LOCKED, r"__init__.py, line \d+ in match")],
)
def test_a_process_that_hangs_is_ended(line: str, place: str, tmp_path: Path) -> None:
    """In a sleep, and in C that keeps Python's lock; the place is that of the innermost call."""
    (tmp_path / HANGING_FILE).write_text("of an earlier attempt " * 1000)
    assert hang(line, tmp_path) == 1
    sentence = hanging_place(tmp_path)
    assert sentence is not None
    assert re.fullmatch(rf"no measurement for 0\.2 s \({place}\)", sentence)


def test_a_process_that_is_done_has_not_hung(tmp_path: Path) -> None:
    """The watchdog lets it be, also afterwards."""
    assert hang("pass", tmp_path, patience=60) == 0
    assert hanging_place(tmp_path) is None


def test_a_folder_that_is_gone_does_not_end_the_watching(tmp_path: Path) -> None:
    """There is no place to tell then."""
    code = OWN.format(line=SLEEP, patience=SHORT)
    command = [sys.executable, "-c", code, str(tmp_path / "gone")]
    assert subprocess.run(command, check=False, timeout=30).returncode == 1
    assert hanging_place(tmp_path / "gone") is None


def test_the_innermost_call_is_of_the_thread_that_waits(tmp_path: Path) -> None:
    """Other threads stand in the file too, before it or after it."""
    header = "no measurement for 312 s in thread 0x00007f0000000002\n"
    (tmp_path / HANGING_FILE).write_text(
        f"{header}Timeout (0:05:12)!\n"
        "Thread 0x00007f0000000001 (most recent call first):\n"
        '  File "/lib/threading.py", line 3 in wait\n\n'
        "Thread 0x00007f0000000002 [python] (most recent call first):\n"
        '  File "/home/user/own.py", line 12 in train\n'
        '  File "/lib/watch.py", line 9 in _supervised\n'
    )
    assert hanging_place(tmp_path) == "no measurement for 312 s (own.py, line 12 in train)"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", None),
        ("no measurement for 312 s in thr", None),
        ("no measurement for 312 s in thread 0x0a\n", None),
        ("Timeout (0:05:12)!\n", None),
        ("no measurement for 312 s in thread 0x0a\nTimeout (0:05", "no measurement for 312 s"),
        (
            "no measurement for 3000 s in thread 0x0a\nTimeout (0:50:00)!\n"
            "Thread 0x0a (most recent call first):\n  <no Python frame>\n",
            "no measurement for 3000 s",
        ),
    ],
)
def test_what_is_left_of_a_traceback(text: str, sentence: str | None, tmp_path: Path) -> None:
    """A process may be killed while it waits, or while it writes where it hangs."""
    (tmp_path / HANGING_FILE).write_text(text)
    assert hanging_place(tmp_path) == sentence


def test_nothing_was_left() -> None:
    """No watchdog has been there."""
    assert hanging_place(Path("nowhere")) is None


def test_waiting_without_end_is_allowed() -> None:
    """An endless patience is as long as the system can wait."""
    for in_process in (True, False):
        with Watchdog(float("inf")).watching(in_process=in_process):
            pass


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_process_of_a_watched_one_lives_and_ends() -> None:
    """As the workers of a data loader do."""
    child = multiprocessing.get_context("fork").Process(target=sys.exit, args=(3,))
    with Watchdog(60).watching():
        child.start()
        child.join(30)
    assert child.exitcode == 3


def spin() -> None:
    """Hang in Python."""
    while True:
        time.sleep(0.001)


def test_in_this_process_the_trial_gets_an_exception() -> None:
    """It says where; what was there before to handle the signal is there again."""
    handler = signal.getsignal(signal.SIGALRM)
    with (
        pytest.raises(
            Hanging, match=r"^no measurement for 0.2 s \(test_watchdog.py, line \d+ in spin\)$"
        ),
        Watchdog(SHORT).watching(in_process=True),
    ):
        spin()
    assert signal.getsignal(signal.SIGALRM) is handler


def test_a_trial_that_swallows_the_exception_gets_another() -> None:
    """Or hangs while it cleans up."""
    with pytest.raises(Hanging), Watchdog(SHORT).watching(in_process=True):
        try:
            spin()
        finally:
            spin()


def test_nothing_is_raised_after_the_wait() -> None:
    """The timer is off."""
    with Watchdog(SHORT).watching(in_process=True):
        pass
    time.sleep(0.3)


def test_another_timer_goes_on() -> None:
    """It belongs to whoever runs the trial, as the time limit of this test does."""
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, 1_000, 7)
    try:
        with Watchdog(60).watching(in_process=True):
            assert signal.getitimer(signal.ITIMER_REAL)[0] <= 600
            time.sleep(0.01)
        assert signal.getitimer(signal.ITIMER_REAL) == pytest.approx((1_000, 7), abs=5)
    finally:
        signal.setitimer(signal.ITIMER_REAL, remaining, interval)


def test_in_another_thread_nothing_is_watched() -> None:
    """Signals are the main thread's."""
    done = []

    def wait() -> None:
        with Watchdog(1e-3).watching(in_process=True):
            time.sleep(0.05)
        done.append(True)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    assert done == [True]
