"""A trial of one's own, in closed form, with a known critical γ: a file to copy and to test with.

    critical search --budget 60trials --trainable examples/analytic_trial.py:train

A trial is one function: it is given a ``ProxyRun`` (γ, width, seed and so on) and yields a
``Measurement`` at every evaluation. A real one would draw each weight matrix with
std = fan_in^−γ and train; this one computes what such runs look like:

- the loss falls as a power of (speed · tokens), so that ρ(γ) is speed(γ) / speed(reference);
- reasoning saturates at a ceiling, which is highest at a larger γ than the speed: a tradeoff;
- runs of one seed share an offset, whatever their γ, so that comparisons are paired;
- the optimum drifts slowly with the width.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from critical.trials import Measurement, ProxyRun

EVALUATIONS = 48
"""Measurements of one run, log-spaced; a search needs 20 at least."""
FIRST_EVALUATION = 0.002
"""Part of the tokens at the first measurement."""
NOISE = 0.03
"""Standard deviation of one run's log speed and reasoning around its seed's."""
SEED_NOISE = 0.15
"""Standard deviation of what the runs of one seed share."""
INITIAL_LOSS, FINAL_LOSS = 4.4, 0.05
"""Nats per token, before the first token and after endlessly many."""


def speed(gamma: float, width: int) -> float:
    """How fast a run learns, relative to the fastest γ of its width."""
    fastest = 0.68 + 0.01 * np.log2(width / 64)
    return float(np.exp(-(((gamma - fastest) / 0.35) ** 2)))


def ceiling(gamma: float, width: int) -> float:
    """The reasoning score that endless training reaches, in [0, 1]."""
    best = 0.92 + 0.01 * np.log2(width / 64)
    return float(0.05 + 0.8 * np.exp(-(((gamma - best) / 0.35) ** 2)))


def loss_at(progress: float) -> float:
    """Validation loss, nats per token, after speed · tokens / all tokens of progress."""
    remaining = float((1 + 60 * progress) ** -1.2)
    return FINAL_LOSS + (INITIAL_LOSS - FINAL_LOSS) * remaining


def reasoning_at(progress: float, gamma: float, width: int) -> float:
    """Reasoning score, in [0, 1], after that progress."""
    return ceiling(gamma, width) * (1 - float(np.exp(-8 * progress)))


def train(run: ProxyRun) -> Iterator[Measurement]:
    """Yield the evaluations of one run; the last one is its result."""
    width = run.scale.width
    of_seed = np.random.default_rng([run.seed, width])
    of_run = np.random.default_rng([run.seed, width, round(run.gamma * 1e6)])
    slower, better = SEED_NOISE * of_seed.standard_normal(2) + NOISE * of_run.standard_normal(2)
    for part in np.geomspace(FIRST_EVALUATION, 1, EVALUATIONS):
        progress = part * speed(run.gamma, width) * np.exp(-slower)
        reasoning = reasoning_at(progress, run.gamma, width) * np.exp(better / 2)
        yield Measurement(
            tokens=max(1, round(part * run.scale.tokens)),
            loss=loss_at(progress),
            reasoning=float(np.clip(reasoning, 0, 1)),
        )


def final_reasoning(gamma: float, width: int) -> float:
    """What a search calls R without noise: the average of the last measurements."""
    last = np.geomspace(FIRST_EVALUATION, 1, EVALUATIONS)[-3:]
    return float(np.mean([reasoning_at(part * speed(gamma, width), gamma, width) for part in last]))


def critical_gamma(width: int) -> float:
    """The γ with the greatest share min(R / R_max, ρ / ρ_max) where there is no noise."""
    gamma = np.linspace(0.3, 1.2, 1801)
    rho = np.array([speed(g, width) for g in gamma])
    r = np.array([final_reasoning(g, width) for g in gamma])
    return float(gamma[np.argmax(np.minimum(r / r.max(), rho / rho.max()))])
