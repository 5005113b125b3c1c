"""The γ at which a posterior is stored."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STEP = 0.01
"""Largest step of a stored γ grid; rules are applied at half of it."""


def grid(bracket: tuple[float, float], step: float = STEP) -> NDArray[np.float64]:
    """Ascending γ from end to end, in equal steps of ``step`` at most. Shape (g,)."""
    low, high = bracket
    return np.linspace(low, high, int(np.ceil((high - low) / step - 1e-9)) + 1)
