"""The built-in trial: one proxy trained from scratch, measured as it goes.

    ℓ    in-distribution validation loss, nats per token: the mean over sources, weighted by the
         mixture's fractions (the answer's token for tasks, every token for text)
    R    geometric-mean probability of the right answer on held-out compositions, exp(−mean loss)

A constant rate after a short warmup, and evaluation on an averaged copy of the weights, make the
middle of one curve comparable with the end of another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from critical.trials.averaging import WeightAverage
from critical.trials.corpus import Corpus
from critical.trials.initialization import Convention, initialize
from critical.trials.mixture import DEFAULT_MIXTURE, TEXT_LENGTH, VOCABULARY, Group, Mixture
from critical.trials.model import Decoder, ModelShape
from critical.trials.run import Measurement, ProxyRun

DEFAULT_LEARNING_RATE = 4e-3


@dataclass(frozen=True, slots=True)
class TrainingRecipe:
    """What every built-in trial of a study shares. Picklable: it travels to the workers.

    Attributes:
        corpus: The text's token file, None for a mixture without text.
        mixture: Fractions by source, summing to 1.
        batch_tokens: Tokens per optimizer step, before rounding to whole sequences.
        feed_forward_ratio: Feed-forward dimension over width.
        norm_eps: ε of the proxies' norms.
        tied: Whether the head is the embedding.
        convention: Of the γ-initialization.
        weight_decay: At ``base_learning_rate``; rate · decay · steps is the same for every rate.
        base_learning_rate: See ``weight_decay``.
        evaluations: Log-spaced evaluations of a run.
        warmup_steps: Steps of linear warmup.
        betas: Of AdamW.
        adam_eps: Of AdamW.
        clip: Greatest gradient norm.
    """

    corpus: Corpus | None
    mixture: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_MIXTURE))
    batch_tokens: int = 1024
    feed_forward_ratio: float = 8 / 3
    norm_eps: float = 1e-6
    tied: bool = False
    convention: Convention = "fan_in"
    weight_decay: float = 0.1
    base_learning_rate: float = DEFAULT_LEARNING_RATE
    evaluations: int = 40
    warmup_steps: int = 20
    betas: tuple[float, float] = (0.9, 0.98)
    adam_eps: float = 1e-8
    clip: float = 1.0

    def shape(self, run: ProxyRun) -> ModelShape:
        """Return the model that a run trains."""
        feed_forward = max(8, round(run.scale.width * self.feed_forward_ratio / 8) * 8)
        return ModelShape(
            vocabulary=VOCABULARY,
            width=run.scale.width,
            depth=run.scale.depth,
            heads=run.scale.heads,
            feed_forward=feed_forward,
            norm_eps=self.norm_eps,
            tied=self.tied,
            longest=TEXT_LENGTH,
        )

    def __call__(self, run: ProxyRun, /) -> Iterator[Measurement]:
        """Train one run; the ``Trainable`` of the built-in trial."""
        return train(self, run)


def train(recipe: TrainingRecipe, run: ProxyRun) -> Iterator[Measurement]:
    """Train a proxy and yield ``recipe.evaluations`` measurements, log-spaced over its tokens.

    On the CPU the measurements are the same to the bit for the same recipe and run. A run that
    diverges yields one measurement with a non-finite loss and ends.
    """
    torch.set_num_threads(1)
    device = torch.device(run.device)
    # 1. The model, drawn from the seed and scaled by γ.
    model = Decoder(recipe.shape(run))
    initialize(
        model,
        run.gamma,
        seed=run.seed,
        convention=recipe.convention,
        width=run.scale.width,
        depth=run.scale.depth,
    )
    model.to(device)
    # 2. The data, from the seed alone.
    mixture = Mixture(recipe.mixture, recipe.corpus, recipe.batch_tokens, run.seed)
    validation = [to_device(group, device) for group in mixture.validation()]
    # 3. The optimizer: rate · decay is one constant along the ladder of rates.
    rate = run.learning_rate or recipe.base_learning_rate
    optimizer = _optimizer(recipe, model, rate)
    average = WeightAverage(model)
    # 4. The horizon: whole steps, and the steps after which to look.
    steps = max(recipe.evaluations, round(run.scale.tokens / mixture.tokens_per_step))
    looks = evaluation_steps(steps, recipe.evaluations)
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, step / recipe.warmup_steps)
        groups = [to_device(group, device) for group in mixture.batch(step)]
        loss = mixture_loss(model, groups, recipe.mixture)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        average.update(step)
        if step in looks:
            with average.applied():
                measurement = evaluate(
                    model, validation, recipe.mixture, step * mixture.tokens_per_step
                )
            yield measurement
            if not math.isfinite(measurement.loss):
                return


def _optimizer(recipe: TrainingRecipe, model: nn.Module, rate: float) -> torch.optim.AdamW:
    decay = recipe.weight_decay * recipe.base_learning_rate / rate
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    gains = [p for p in model.parameters() if p.ndim < 2]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": decay},
        {"params": gains, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=recipe.betas, eps=recipe.adam_eps, fused=True)


def mixture_loss(
    model: nn.Module, groups: Sequence[Group], fractions: Mapping[str, float]
) -> Tensor:
    """Return the mean over sources of their mean cross-entropy, weighted by the fractions."""
    logits = model([g.tokens for g in groups], [g.targets.shape[1] for g in groups])
    losses = [
        fractions[group.source] * F.cross_entropy(part.flatten(0, 1), group.targets.flatten())
        for group, part in zip(groups, logits, strict=True)
    ]
    return torch.stack(losses).sum()


@torch.no_grad()
def evaluate(
    model: nn.Module, groups: Sequence[Group], fractions: Mapping[str, float], tokens: int
) -> Measurement:
    """Score the model on the validation items of every source and on the held-out ones.

    Extras: ``loss_SOURCE`` and ``accuracy_SOURCE`` for each source and ``held_out``;
    ``trained_accuracy``, that of trained compositions; ``mean_probability`` of held-out answers.
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
    return Measurement(tokens, loss, math.exp(-extras["loss_held_out"]), extras)


def evaluation_steps(steps: int, evaluations: int) -> frozenset[int]:
    """Return the steps after which to evaluate: log-spaced from 1% of the run to its end.

    Where whole steps are too coarse for that many distinct ones, the next free steps are taken, so
    that there are always min(steps, evaluations).
    """
    count = min(steps, evaluations)
    first = max(1, steps // 100)
    chosen: list[int] = []
    for index in range(count):
        wanted = round(first * (steps / first) ** (index / max(1, count - 1)))
        lowest = chosen[-1] + 1 if chosen else 1
        chosen.append(min(max(wanted, lowest), steps - (count - 1 - index)))
    return frozenset(chosen)


def to_device(group: Group, device: torch.device) -> Group:
    """Move a group's tensors; on the CPU nothing is copied."""
    if device.type == "cpu":
        return group
    return Group(group.source, group.tokens.to(device), group.targets.to(device))
