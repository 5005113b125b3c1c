"""Budgets: ``64gpu-h``, ``30gpu-min``, ``10cpu-min``, ``200trials``.

Device-time is wall time × devices held, summed over trials.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from critical.errors import BudgetError

_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_FORM = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([a-zA-Z-]*)\s*")
_EXAMPLES = "write 64gpu-h, 30gpu-min, 10cpu-min or 200trials"


@dataclass(frozen=True, slots=True)
class Budget:
    """An amount of one unit.

    Attributes:
        amount: Device-seconds, or a number of trials where the unit is ``trials``.
        unit: As the user wrote it: ``gpu-h``, ``cpu-min``, ``trials``, …
    """

    amount: float
    unit: str

    @property
    def counts_trials(self) -> bool:
        """Whether trials are counted and not device-time."""
        return self.unit == "trials"

    @property
    def device(self) -> str | None:
        """``gpu`` or ``cpu``; None where trials are counted."""
        return None if self.counts_trials else self.unit.partition("-")[0]

    def __str__(self) -> str:
        return format_amount(self.amount, self.unit)


def parse_budget(text: str) -> Budget:
    """Read a budget.

    Raises:
        BudgetError: No number, no unit, an unknown unit, or nothing to spend.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise BudgetError(f"budget {text!r} is not a number and a unit: {_EXAMPLES}")
    number, unit = float(match[1]), match[2].lower()
    if not unit:
        raise BudgetError(f"budget {text!r} has no unit: {_EXAMPLES}")
    if unit in ("trial", "trials"):
        if not math.isinf(number) and number != int(number):
            raise BudgetError(f"budget {text!r} is not a whole number of trials: write 200trials")
        unit = "trials"
    elif not re.fullmatch(r"(gpu|cpu)-(s|min|h)", unit):
        raise BudgetError(f"budget {text!r} has an unknown unit {match[2]!r}: {_EXAMPLES}")
    if not 0 < number < math.inf:
        raise BudgetError(f"budget {text!r} leaves nothing to spend: {_EXAMPLES}")
    return Budget(number * unit_size(unit), unit)


def unit_size(unit: str) -> float:
    """Return how many device-seconds one of a unit is; 1 for ``trials``."""
    return 1.0 if unit == "trials" else _SECONDS[unit.partition("-")[2]]


def format_amount(amount: float, unit: str) -> str:
    """Write device-seconds (or trials) in a unit, as a budget would be written."""
    number = amount / unit_size(unit)
    text = f"{number:.0f}" if number >= 100 or number == int(number) else f"{number:.3g}"
    return f"{text}{unit}"
