"""Trials in closed form that store as much as the built-in one does."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from critical.trials import Measurement, ProxyRun
from critical.trials.loading import parse_trainable

MEASUREMENTS = 50
SOURCES = ("reasoning", "memory", "text", "held_out")
FAILS_ABOVE = 1.14
"""γ, the widest few of the search interval: such a trial ends by an exception."""
LAYERS = (
    "attention.qkv_proj", "attention.o_proj", "feed_forward.gate_up_proj", "feed_forward.down_proj",
)  # fmt: skip
MATRICES = ("embedding", "head", *(f"{block}.{layer}" for block in (0, 1) for layer in LAYERS))
OF_MATRICES = ("condensation", "stable_rank", "effective_rank")
NORMS = (
    "0.attention_norm",
    "0.feed_forward_norm",
    "1.attention_norm",
    "1.feed_forward_norm",
    "norm",
)
RECORDED = 8
"""Measurements of a run, at the least, at which it is recorded how the model develops."""

_ANALYTIC = parse_trainable(f"{Path(__file__).parents[1] / 'examples' / 'analytic_trial.py'}:train")


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
        measured = Measurement(round(part * run.scale.tokens), loss, ceiling * progress)
        yield replace(measured, extras=extras(measured, number))


def analytic(run: ProxyRun) -> Iterator[Measurement]:
    """Yield what examples/analytic_trial.py does, with extras."""
    for number, measured in enumerate(_ANALYTIC(run), 1):
        yield replace(measured, extras=extras(measured, number))


def extras(measured: Measurement, number: int) -> dict[str, float]:
    """Return as many extras as the built-in trial's measurement of a number has."""
    found = {f"loss_{source}": measured.loss for source in SOURCES}
    found |= {f"accuracy_{source}": measured.reasoning or 0.0 for source in SOURCES}
    found |= {"mean_probability": measured.loss / 5, "trained_accuracy": measured.loss / 6}
    if number % (MEASUREMENTS // RECORDED) == 1:
        of = [f"{kind}/{matrix}" for kind in OF_MATRICES for matrix in MATRICES]
        of += [f"saturation/{norm}" for norm in NORMS] + [f"sink/{block}" for block in (0, 1)]
        found |= {name: measured.loss / (10 + place) for place, name in enumerate(of)}
    return found
