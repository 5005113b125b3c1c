"""When a built-in trial is evaluated, and how its model is scored.

Quantities:
    ℓ    in-distribution validation loss, nats per token: the mean over sources, weighted by the
         mixture's fractions (the answer's tokens for tasks, every token for text)
    R    mean over the mixture's reasoning tasks of the geometric-mean probability, per token, of
         the right answers to held-out items, exp(−mean loss), each kind of them with equal weight
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from critical.trials.mixture import Group, reasoning_task
from critical.trials.run import Measurement

Predictor = Callable[[Sequence[Tensor], Sequence[int]], Sequence[Tensor]]
"""From groups of tokens to their logits, as ``Decoder.forward``."""


def exploded_loss(vocabulary: int) -> float:
    """Return the loss above which a trial has diverged, far above a uniform guess.

    Nats per token; none of the default interval starts there.
    """
    return 4 * math.log(vocabulary)


@torch.no_grad()
def evaluate(
    model: Predictor, groups: Sequence[Group], fractions: Mapping[str, float], tokens: int
) -> Measurement:
    """Score the model on the validation items of every source and on the held-out ones.

    Extras: ``loss_GROUP`` and ``accuracy_GROUP`` for each source and each group of held-out items
    (an answer of several tokens is right as a whole, a text's tokens one by one);
    ``reasoning_TASK``, what R is the mean of; ``trained_accuracy``, the least of those of the
    reasoning tasks' trained items; ``mean_probability`` of whole held-out answers, averaged like
    R. A loss far above that of a uniform guess has exploded, and is given as infinite.
    """
    logits = model([g.tokens for g in groups], [g.targets.shape[1] for g in groups])
    scores = [_scores(part, group) for part, group in zip(logits, groups, strict=True)]
    extras: dict[str, float] = {}
    held_out: dict[str, list[tuple[float, float]]] = defaultdict(list)
    # One transfer: the host waits for the device once.
    for group, numbers in zip(groups, torch.stack(scores).tolist(), strict=True):
        loss, accuracy, probability = numbers
        extras[f"loss_{group.source}"] = loss
        extras[f"accuracy_{group.source}"] = accuracy
        task = reasoning_task(group.source)
        if task is not None:
            held_out[task].append((loss, probability))
    by_task = {
        task: _probability(fmean(loss for loss, _ in kinds)) for task, kinds in held_out.items()
    }
    extras |= {f"reasoning_{task}": reasoning for task, reasoning in by_task.items()}
    extras["mean_probability"] = fmean(fmean(p for _, p in kinds) for kinds in held_out.values())
    extras["trained_accuracy"] = min(extras[f"accuracy_{task}"] for task in held_out)
    loss = sum(share * extras[f"loss_{source}"] for source, share in fractions.items())
    exploded = exploded_loss(logits[0].shape[-1])
    return Measurement(
        tokens, loss if loss <= exploded else math.inf, fmean(by_task.values()), extras
    )


def _scores(logits: Tensor, group: Group) -> Tensor:
    """Return mean loss, accuracy and mean probability of whole answers. Shape (3,), float32."""
    scores, targets = logits.flatten(0, 1).float(), group.targets.flatten()
    losses = F.cross_entropy(scores, targets, reduction="none")
    right = (scores.argmax(-1) == targets).view(group.targets.shape)
    whole = right if group.source == "text" else right.all(dim=1)
    answers = losses.view(group.targets.shape).sum(dim=1)
    return torch.stack((losses.mean(), whole.float().mean(), (-answers).exp().mean()))


def _probability(loss: float) -> float:
    return math.exp(-loss) if math.isfinite(loss) else 0.0


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
