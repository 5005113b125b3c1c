"""R and ρ of proxy runs, from their curves, as docs/quantities.md defines them.

Symbols and shapes: e evaluations of one run.
    t   tokens       (e,)  tokens seen, > 0, strictly growing
    ℓ   loss         (e,)  validation loss, nats per token; its running minimum counts
    R   reasoning    (e,)  held-out score, in [0, 1]
    L°  common loss  ()    max(final ℓ_ref, final ℓ_γ, floor), nats per token
    ρ   efficiency   ()    t_ref(L°) / t_γ(L°); log₂ ρ in octaves, within [-6, 6]

An *arm* is the set of runs of one width and settings.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LOG2_EFFICIENCY_LIMIT = 6.0
"""log₂ ρ is clipped to ± this many octaves; a diverged run has the negative of it."""
RESOLVED_FRACTION = 0.9
"""ρ is unresolved where L° is above this part of the smaller initial loss."""
LEARNED_ACCURACY = 0.9
"""Trained-item accuracy from which a reference counts as having learned."""
SOLVED_ACCURACY = 0.99
"""Trained-item accuracy from which a purely algorithmic mixture counts as solved."""
_LEAST_LOSS = 1e-12


@dataclass(frozen=True, slots=True)
class Curve:
    """The evaluations of one run in token order.

    Attributes:
        tokens: Tokens seen, > 0, strictly growing. Shape (e,).
        loss: Validation loss, nats per token. Shape (e,).
        reasoning: R, in [0, 1]. Shape (e,).
        trained_accuracy: Accuracy on trained items, in [0, 1], shape (e,), or None.
    """

    tokens: Array
    loss: Array
    reasoning: Array
    trained_accuracy: Array | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One finished proxy run and what it was given. A diverged one may have an empty curve."""

    gamma: float
    learning_rate: float | None
    width: int
    settings: str
    seed: int
    reference: bool
    curve: Curve
    diverged: bool = False


@dataclass(frozen=True, slots=True)
class Observation:
    """What one run says about the objectives at its γ.

    Attributes:
        reasoning: R, in [0, 1].
        log2_efficiency: log₂ ρ, octaves, in [-6, 6].
        log_loss: Natural log of the final loss, nats per token.
        baseline: The run is what its seed is measured against: its log₂ ρ is 0 by definition.
        censored: A loss was crossed before the first evaluation; ρ is only a bound.
        unresolved: L° is so near the initial loss that ρ says little.
    """

    gamma: float
    learning_rate: float | None
    width: int
    settings: str
    seed: int
    reference: bool
    reasoning: float
    log2_efficiency: float
    log_loss: float
    baseline: bool = False
    censored: bool = False
    unresolved: bool = False
    diverged: bool = False


@dataclass(frozen=True, slots=True)
class Efficiency:
    """log₂ ρ of one pair of runs, octaves, and how far it can be trusted."""

    log2: float
    censored: bool
    unresolved: bool


def reasoning_score(curve: Curve) -> float:
    """Average R over the evaluations in the last fifth of the tokens, the last 3 at least."""
    recent = curve.tokens.size - int(np.searchsorted(curve.tokens, 0.8 * curve.tokens[-1]))
    return min(max(float(curve.reasoning[-max(recent, 3) :].mean()), 0.0), 1.0)


def running_minimum(curve: Curve) -> Array:
    """The least loss up to each evaluation, nats per token, > 0. Shape (e,)."""
    return np.minimum.accumulate(np.maximum(curve.loss, _LEAST_LOSS))


def final_loss(curve: Curve) -> float:
    """The least loss of the whole run, nats per token."""
    return float(running_minimum(curve)[-1])


def crossing_time(curve: Curve, loss: float) -> tuple[float, bool]:
    """Find t(L), the first tokens at which the running minimum reaches a loss.

    Args:
        curve: At least one evaluation.
        loss: L, nats per token.

    Returns:
        Tokens, linear in log ℓ between evaluations, or infinity where L is never reached; and
        whether L was reached by the first evaluation already, so that t(L) is an upper bound.
    """
    return _crossing(curve.tokens, running_minimum(curve), loss)


def efficiency(curve: Curve, reference: Curve, floor: float | None = None) -> Efficiency:
    """Compare the tokens that two runs need for the same loss, ρ = t_ref(L°) / t_γ(L°).

    Args:
        curve: The run at γ, at least one evaluation.
        reference: The reference run, at least one evaluation.
        floor: Loss where the mixture counts as solved, nats per token, or None.
    """
    minimum, least = running_minimum(curve), running_minimum(reference)
    common = max(float(minimum[-1]), float(least[-1]), floor or 0.0)
    own, own_censored = _crossing(curve.tokens, minimum, common)
    other, other_censored = _crossing(reference.tokens, least, common)
    octaves = math.log2(other / own)
    log2 = min(max(octaves, -LOG2_EFFICIENCY_LIMIT), LOG2_EFFICIENCY_LIMIT)
    initial = min(float(curve.loss[0]), float(reference.loss[0]))
    return Efficiency(log2, own_censored or other_censored, common > RESOLVED_FRACTION * initial)


def best_references(runs: Sequence[Run]) -> list[Run]:
    """Choose the references of one arm at the learning rate with the least final loss.

    Rungs are compared by the mean log final loss over the seeds that all of them have run, where
    there are any: losses differ more between seeds than between rungs. A diverged seed rules
    its rung out.

    Returns:
        The finished references at that rate, in seed order, one a seed; empty where none is.
    """
    rungs: dict[float | None, dict[int, Run]] = defaultdict(dict)
    for run in runs:
        if run.reference:
            rungs[run.learning_rate][run.seed] = run
    if not rungs:
        return []
    shared = set.intersection(*(set(rung) for rung in rungs.values()))
    best = min(rungs.values(), key=lambda rung: _mean_log_loss(rung, shared or set(rung)))
    return [best[seed] for seed in sorted(best) if not best[seed].diverged]


def learned(runs: Sequence[Run], learned_loss: float | None = None) -> bool:
    """Whether the reference of one arm, at its best learning rate, has learned.

    It has where its trained-item accuracy, or, if stated, its final loss has reached the mark in
    the mean over seeds. Curves without a trained accuracy (a user's own trial) always count.
    """
    references = best_references(runs)
    if not references:
        return False
    if learned_loss is not None:
        return bool(np.mean([final_loss(run.curve) for run in references]) <= learned_loss)
    last = [
        run.curve.trained_accuracy[-1]
        for run in references
        if run.curve.trained_accuracy is not None
    ]
    return not last or bool(np.mean(last) >= LEARNED_ACCURACY)


def solved_loss(runs: Sequence[Run]) -> float | None:
    """Return ℓ_floor, the loss at which the best references solve their trained items.

    Below it the losses of a purely algorithmic mixture only tell how confident a run is. It is the
    mean over seeds of the loss at the first evaluation with an accuracy of 99%, nats per token, or
    None where no seed has come so far.
    """
    found = []
    for run in best_references(runs):
        accuracy = run.curve.trained_accuracy
        if accuracy is not None and (accuracy >= SOLVED_ACCURACY).any():
            found.append(float(running_minimum(run.curve)[np.argmax(accuracy >= SOLVED_ACCURACY)]))
    return float(np.mean(found)) if found else None


def observe(runs: Sequence[Run], floor: float | None = None) -> list[Observation]:
    """Turn the runs of one arm into what they say about R, ρ and the loss.

    A run is paired with the reference of its own seed at the reference's best learning rate. A
    seed that has none is compared with every reference seed, and the log₂ ρ are averaged: a
    geometric mean of crossing times, each at a loss that both runs reached.

    Args:
        runs: Of one width and settings, in any order.
        floor: Loss where the mixture counts as solved, nats per token, or None.

    Returns:
        One observation a run, in the same order; empty where no reference has finished.
    """
    references = {run.seed: run for run in best_references(runs)}
    if not references:
        return []
    worst = _worst_log_loss(runs)
    return [_observe_one(run, references, floor, worst) for run in runs]


def _crossing(tokens: Array, minimum: Array, loss: float) -> tuple[float, bool]:
    """``crossing_time``, given the running minimum."""
    loss = max(loss, _LEAST_LOSS)
    if minimum[-1] > loss:
        return math.inf, False
    after = int(np.argmax(minimum <= loss))
    if after == 0:
        return float(tokens[0]), True
    above, below = float(minimum[after - 1]), float(minimum[after])
    # log1p, since the logarithms of neighbouring floats may be equal.
    part = math.log1p((above - loss) / loss) / math.log1p((above - below) / below)
    start, end = float(tokens[after - 1]), float(tokens[after])
    return start + part * (end - start), False


def _observe_one(
    run: Run, references: Mapping[int, Run], floor: float | None, worst: float
) -> Observation:
    paired = references.get(run.seed)
    if run.diverged:
        score, log_loss = 0.0, worst
        found = Efficiency(-LOG2_EFFICIENCY_LIMIT, censored=False, unresolved=False)
    else:
        score, log_loss = reasoning_score(run.curve), math.log(final_loss(run.curve))
        partners = [paired] if paired is not None else references.values()
        found = _mean([efficiency(run.curve, other.curve, floor) for other in partners])
    return Observation(
        gamma=run.gamma,
        learning_rate=run.learning_rate,
        width=run.width,
        settings=run.settings,
        seed=run.seed,
        reference=run.reference,
        reasoning=score,
        log2_efficiency=found.log2,
        log_loss=log_loss,
        baseline=paired is run,
        censored=found.censored,
        unresolved=found.unresolved,
        diverged=run.diverged,
    )


def _mean(found: Sequence[Efficiency]) -> Efficiency:
    return Efficiency(
        sum(one.log2 for one in found) / len(found),
        any(one.censored for one in found),
        any(one.unresolved for one in found),
    )


def _mean_log_loss(rung: Mapping[int, Run], seeds: set[int]) -> float:
    losses = [np.inf if rung[s].diverged else final_loss(rung[s].curve) for s in sorted(seeds)]
    return float(np.mean(np.log(losses)))


def _worst_log_loss(runs: Sequence[Run]) -> float:
    # A diverged run has no final loss; it must be worse than what it started from.
    initial = [run.curve.loss[0] for run in runs if run.curve.loss.size]
    finite = [loss for loss in initial if np.isfinite(loss)]
    return float(np.log(max(finite)))
