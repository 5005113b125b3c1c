"""What is done with a trial whose attempt was lost: try again after a while, or give it up."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

FIRST_FAILURES = 3
"""Failures in a row that end a search of which no trial has ended otherwise."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how soon a trial goes on after its worker died, hung or ran out of memory.

    Attributes:
        most: Attempts beyond the first; 0 gives up at once.
        backoff: Seconds before the first of them; each later one waits twice as long.
        failures: Trials in a row that may fail before the search ends.
        patience: Seconds without a measurement from which a trial may be taken for hanging.
    """

    most: int = 2
    backoff: float = 1.0
    failures: int = 10
    patience: float = 300.0

    def wait(self, lost: int) -> float | None:
        """Return the seconds to wait after ``lost`` attempts, ≥ 1; None gives the trial up."""
        return None if lost > self.most else self.backoff * 2.0 ** (lost - 1)


class Setbacks:
    """The attempts that one driver has lost, and the trials that have failed in a row.

    Attributes:
        last: What the last trial failed of; empty where none has failed since one ended well.
    """

    def __init__(self, retries: Retries) -> None:
        self.last = ""
        self._retries = retries
        self._failed = 0
        self._lost: dict[int, int] = {}
        self._not_before: dict[int, float] = {}

    def lose(self, number: int) -> int | None:
        """Count a lost attempt at a trial, which waits; return how many where it is given up."""
        lost = self._lost[number] = self._lost.get(number, 0) + 1
        wait = self._retries.wait(lost)
        if wait is None:
            return lost
        self._not_before[number] = time.monotonic() + wait
        return None

    def leave(self, number: int) -> None:
        """Leave an interrupted trial to the next driver."""
        self._not_before[number] = math.inf

    def waits(self, number: int) -> bool:
        """Whether an interrupted trial may not go on yet."""
        return time.monotonic() < self._not_before.get(number, 0.0)

    def lost(self, number: int) -> bool:
        """Whether an attempt at a trial was lost."""
        return number in self._lost

    def fail(self, reason: str) -> None:
        """Count a trial that has failed."""
        self._failed += 1
        self.last = reason

    def over(self) -> None:
        """Begin to count anew: a trial has ended well."""
        self._failed = 0
        self.last = ""

    def too_many(self, *, any_worked: bool) -> int | None:
        """Return how many trials in a row have failed if that ends the search, else None."""
        most = self._retries.failures
        most = most if any_worked else min(FIRST_FAILURES, most)
        return self._failed if self._failed >= most else None
