"""How much narrower draws are than they say when a normal is cut on both sides.

Quantities:
    cut    where a normal is cut, in its own std: draws lie within ±cut · std
    kept   std of a standard normal cut at ±cut: √(1 − 2 c φ(c) / (2 Φ(c) − 1))
"""

from __future__ import annotations

import math

_UNIFORM_BELOW = 0.02
"""Cuts under which the density is flat within 10⁻⁴, and the formula loses its digits."""


def kept(cut: float | None) -> float:
    """Return the std that draws have for a nominal std of 1.

    Args:
        cut: Above 0; None for a normal that is not cut.
    """
    if cut is None:
        return 1.0
    if cut < _UNIFORM_BELOW:
        return cut / math.sqrt(3)
    density = math.exp(-(cut**2) / 2) / math.sqrt(2 * math.pi)
    return math.sqrt(1 - 2 * cut * density / math.erf(cut / math.sqrt(2)))


TRUNCATED_AT_3 = kept(3.0)
"""0.98658: what several frameworks draw that cut at ±3 std."""
