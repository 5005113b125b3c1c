"""When a built-in trial is evaluated, and how its model is scored.

Quantities:
    ℓ    in-distribution validation loss, nats per token: the mean over sources, weighted by the
         mixture's fractions (the answer's token for tasks, every token for text)
    R    geometric-mean probability of the right answer on held-out compositions, exp(−mean loss)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from critical.trials.mixture import VOCABULARY, Group
from critical.trials.run import Measurement

EXPLODED_LOSS = 4 * math.log(VOCABULARY)
"""Nats per token; no initialization starts there, and a trial whose loss is above has diverged."""


@torch.no_grad()
def evaluate(
    model: nn.Module, groups: Sequence[Group], fractions: Mapping[str, float], tokens: int
) -> Measurement:
    """Score the model on the validation items of every source and on the held-out ones.

    Extras: ``loss_SOURCE`` and ``accuracy_SOURCE`` for each source and ``held_out``;
    ``trained_accuracy``, that of trained compositions; ``mean_probability`` of held-out answers.
    A loss far above that of a uniform guess has exploded, and is given as infinite.
    """
    logits = model([g.tokens for g in groups], [g.targets.shape[1] for g in groups])
    extras: dict[str, float] = {}
    for group, part in zip(groups, logits, strict=True):
        scores, targets = part.flatten(0, 1).float(), group.targets.flatten()
        losses = F.cross_entropy(scores, targets, reduction="none")
        extras[f"loss_{group.source}"] = float(losses.mean())
        extras[f"accuracy_{group.source}"] = float((scores.argmax(-1) == targets).float().mean())
        if group.source == "held_out":
            extras["mean_probability"] = float((-losses).exp().mean())
    extras["trained_accuracy"] = extras["accuracy_reasoning"]
    loss = sum(share * extras[f"loss_{source}"] for source, share in fractions.items())
    held_out = extras["loss_held_out"]
    return Measurement(
        tokens,
        loss if loss <= EXPLODED_LOSS else math.inf,
        math.exp(-held_out) if math.isfinite(held_out) else 0.0,
        extras,
    )


def evaluation_steps(steps: int, evaluations: int) -> frozenset[int]:
    """Return the steps after which to evaluate: log-spaced from 1% of the run to its end.

    Where whole steps are too coarse for that many distinct ones, the next free steps are taken, so
    that there are always min(steps, evaluations).
    """
    count = min(steps, evaluations)
    first = max(1, steps // 100)
    chosen: list[int] = []
    for index in range(count):
        to_the_end = (count - 1 - index) / max(1, count - 1)
        wanted = round(steps * (first / steps) ** to_the_end)
        lowest = chosen[-1] + 1 if chosen else 1
        chosen.append(min(max(wanted, lowest), steps - (count - 1 - index)))
    return frozenset(chosen)
