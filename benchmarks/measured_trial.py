"""A trial in closed form that measures as much as the built-in one, for store_scale.py."""

from __future__ import annotations

import math
from collections.abc import Iterator

from critical.trials import Measurement, ProxyRun

MEASUREMENTS = 50
SOURCES = ("reasoning", "memory", "text", "held_out")
FAILS_ABOVE = 1.14
"""γ, the widest few of the search interval: such a trial ends by an exception."""


def train(run: ProxyRun) -> Iterator[Measurement]:
    """Yield the measurements of one run, or fail before the last one."""
    speed = math.exp(-(((run.gamma - 0.68) / 0.35) ** 2)) * (1 + 0.1 * math.sin(run.seed))
    ceiling = math.exp(-(((run.gamma - 0.92) / 0.35) ** 2))
    for number in range(1, MEASUREMENTS + 1):
        part = 100 ** (number / MEASUREMENTS - 1)
        progress = 1 - math.exp(-8 * part * speed)
        if number == MEASUREMENTS and run.gamma > FAILS_ABOVE:
            raise ValueError(f"no memory left for a width of {run.scale.width}")
        loss = 4.4 * (1 + 60 * part * speed) ** -1.2
        extras = {f"loss_{source}": loss for source in SOURCES}
        extras |= {f"accuracy_{source}": progress * ceiling for source in SOURCES}
        extras |= {"mean_probability": progress, "trained_accuracy": progress}
        yield Measurement(round(part * run.scale.tokens), loss, ceiling * progress, extras)
