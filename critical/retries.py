"""What is done with a trial whose attempt was lost: try again after a while, or give it up."""

from __future__ import annotations

from dataclasses import dataclass


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
