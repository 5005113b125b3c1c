"""What the optimizer does to matrices that are drawn small."""

from __future__ import annotations

import math
from collections.abc import Iterator

from critical.audit.case import Case
from critical.audit.finding import Finding
from critical.audit.rates import finite, stated, to_write

USUAL_EPS = 1e-8
"""Adam's ε in its paper (arXiv 1412.6980) and in PyTorch."""
_NEGLIGIBLE = 10.0
"""Gradient RMS over ε from which on an update has at least 10/11 of its size."""


def adam_eps(case: Case) -> Iterator[Finding]:
    """Find an Adam ε above the usual 1e-8."""
    optimizer = case.reading.optimizer
    if optimizer is None or optimizer.eps.value <= USUAL_EPS * (1 + 1e-9):
        return
    eps = optimizer.eps.value
    usual = to_write(optimizer.eps.key, USUAL_EPS)
    yield Finding(
        code="adam-eps",
        what=f"{stated(optimizer.eps)} takes over 9% from the update of every weight whose "
        f"gradient's RMS is under {_NEGLIGIBLE * eps:.3g}",
        why="Adam's update is m / (√v + ε), at a steady gradient g a part g / (g + ε) of its size "
        "(arXiv 1412.6980); whether small weights have gradients so small cannot be read from a "
        "configuration",
        instead=f"{usual} or less, or log √v in a first run and compare it with ε",
        certainty="hypothesis",
        numbers={"key": optimizer.eps.key, "eps": eps, "gradient_rms": finite(_NEGLIGIBLE * eps)},
    )


def decayed_embedding(case: Case) -> Iterator[Finding]:
    """Find weight decay that reaches the embedding."""
    optimizer = case.reading.optimizer
    if optimizer is None or not optimizer.decays_embeddings or optimizer.weight_decay.value <= 0:
        return
    decay, times_lr = optimizer.weight_decay.value, optimizer.decay_times_lr
    half = None if case.reading.tied else finite(math.log(2) / decay)
    part = f"lr · {decay:g}" if times_lr else f"{decay:g} · lr / (its greatest)"
    steps = "/ lr steps" if times_lr else "steps at the greatest learning rate"
    rows = (
        "whose rows the output's gradient all reaches, for it is tied"
        if half is None
        else f"and halves a row every {half:.3g} {steps} without its token"
    )
    yield Finding(
        code="decayed-embedding",
        what=f"{stated(optimizer.weight_decay)} reaches the embedding, {rows}",
        why=f"decoupled weight decay multiplies a weight by 1 − {part} a step (arXiv "
        "1711.05101), so rows of rare tokens shrink below the std that they were drawn with; that "
        "this matters at a small initialization is to be tested",
        instead="give the embedding a parameter group with weight decay 0, as OLMo-core's own "
        "scripts do",
        certainty="hypothesis",
        numbers={
            "key": optimizer.weight_decay.key,
            "weight_decay": decay,
            "tied": case.reading.tied,
            "learning_rate_times_steps_to_half": half if times_lr else None,
            "steps_to_half": None if times_lr else half,
        },
    )
