"""Numbers as people read them: device-time in the budget's own unit, factors, intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}

TRIALS = "trials"
"""The budget unit that counts trials rather than device-time."""

MISSING = "–"


@dataclass(frozen=True, slots=True)
class DeviceTime:
    """A unit of device-time: its label and how many device-seconds it holds."""

    label: str
    seconds: float

    def of(self, device_seconds: float) -> float:
        """Convert device-seconds to this unit."""
        return device_seconds / self.seconds

    def text(self, device_seconds: float) -> str:
        """Write device-seconds in this unit, as in ``12.5 cpu-min``."""
        return f"{quantity(self.of(device_seconds))} {self.label}"


def device_time(budget_unit: str, largest_seconds: float = 0.0) -> DeviceTime:
    """Return the unit of a budget, or one that suits the size where the budget counts trials."""
    device, _, suffix = budget_unit.rpartition("-")
    if device and suffix in _SECONDS:
        return DeviceTime(budget_unit, _SECONDS[suffix])
    suffix = next((s for s in ("h", "min") if largest_seconds >= 2 * _SECONDS[s]), "s")
    return DeviceTime(f"device-{suffix}", _SECONDS[suffix])


def quantity(value: float) -> str:
    """Write a number with three significant digits and no exponent for everyday sizes."""
    if not math.isfinite(value):
        return MISSING
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def gamma(value: float | None) -> str:
    """Write a γ with two decimals: its interval is never narrower than that."""
    return MISSING if value is None or not math.isfinite(value) else f"{value:.2f}"


def interval(low: float, high: float) -> str:
    """Write an interval of γ with an en dash."""
    return f"{gamma(low)}–{gamma(high)}"


def factor(log2_value: float | None) -> str:
    """Write octaves as a factor: −1 is ``×0.50``; beyond 64 octaves it is no measurement."""
    if log2_value is None or not -64.0 <= log2_value <= 64.0:
        return MISSING
    value = 2.0**log2_value
    return f"×{value:.2f}" if value >= 0.1 else f"×{value:.2g}"
