"""Student's t for whole degrees of freedom, without SciPy, which takes long to import.

Abramowitz & Stegun, *Handbook of Mathematical Functions*, 26.7.3 and 26.7.4, with
θ = arctan(t / √ν), radians, and ν degrees of freedom.
"""

from __future__ import annotations

import math

_BISECTIONS = 60
"""As many as the digits of θ are worth."""


def central_quantile(probability: float, freedom: int) -> float:
    """Return the t with P(|T| ≤ t) = probability.

    Args:
        probability: In [0, 1).
        freedom: ν, 1 or more.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _within(middle, freedom) < probability:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan(low)


def _within(angle: float, freedom: int) -> float:
    """P(|T| ≤ √ν tan θ)."""
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for place in range(2 + odd, freedom + 1 + odd, 2):
        total += term
        term *= (place - 1) / place * math.cos(angle) ** 2
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total
