"""The built-in trial: one proxy trained from scratch, measured as it goes.

A constant rate after a short warmup, and evaluation on an averaged copy of the weights, make the
middle of one curve comparable with the end of another. An interrupted run goes on from its
checkpoint, see ``resuming``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from critical.trials.averaging import WeightAverage
from critical.trials.corpus import Corpus
from critical.trials.evaluation import evaluate, evaluation_steps
from critical.trials.initialization import Convention, initialize
from critical.trials.mixture import DEFAULT_MIXTURE, TEXT_LENGTH, VOCABULARY, Group, Mixture
from critical.trials.model import Decoder, ModelShape
from critical.trials.resuming import Keeper, restore_training, training_state
from critical.trials.run import Measurement, ProxyRun

ARITHMETIC = 1
"""Raised when the same recipe and run come to other numbers: older checkpoints do not fit then."""
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

    On the CPU the measurements are the same to the bit for the same recipe and run, however often
    it was interrupted: where ``run.checkpoint_dir`` has a checkpoint of it, what was measured
    before is yielded again, and training goes on at the next step. A batch is a function of the
    seed and the step alone, so that no generator's state is part of it. A run that diverges yields
    one measurement with a non-finite loss and ends.

    A checkpoint is saved at most every ten seconds, and takes at most about 1% of the time.
    After a save that failed (a full disk), training goes on, and ``checkpoint_failures``, an extra
    of later measurements, counts such failures.

    Raises:
        Interrupted: A stop was requested before the last step, and the state is saved.
    """
    training = ProxyTraining(recipe, run)
    keeper = Keeper(run, fingerprint(recipe, run))
    reached = keeper.resume(training)
    yield from tuple(keeper.measured)
    for step in range(reached + 1, training.steps + 1):
        training.advance(step)
        if step in training.looks:
            measurement = keeper.add(training.measure(step))
            yield measurement
            if not math.isfinite(measurement.loss):
                return
        if step < training.steps:  # at its end a run has nothing to go on to
            keeper.after(step, training)


def fingerprint(recipe: TrainingRecipe, run: ProxyRun) -> str:
    """Return a digest of all that decides a run's numbers: neither its device nor its folders."""
    of_recipe = {part.name: getattr(recipe, part.name) for part in fields(recipe)}
    of_recipe["corpus"] = recipe.corpus.digest if recipe.corpus is not None else None
    of_recipe["mixture"] = list(recipe.mixture.items())  # their order decides the draws
    of_run = {part.name: getattr(run, part.name) for part in fields(run)}
    del of_run["device"], of_run["checkpoint_dir"]
    text = json.dumps([ARITHMETIC, of_recipe, of_run], default=repr)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class ProxyTraining:
    """One run's model, data and optimizer, taken a step at a time.

    Attributes:
        steps: The horizon, in whole steps.
        looks: The steps after which to measure.
    """

    def __init__(self, recipe: TrainingRecipe, run: ProxyRun) -> None:
        torch.set_num_threads(1)
        self._recipe = recipe
        self._device = torch.device(run.device)
        # 1. The model, drawn from the seed and scaled by γ.
        self._model = Decoder(recipe.shape(run))
        initialize(
            self._model,
            run.gamma,
            seed=run.seed,
            convention=recipe.convention,
            width=run.scale.width,
            depth=run.scale.depth,
        )
        self._model.to(self._device)
        # 2. The data, from the seed alone.
        self._mixture = Mixture(recipe.mixture, recipe.corpus, recipe.batch_tokens, run.seed)
        self._validation = [to_device(g, self._device) for g in self._mixture.validation()]
        # 3. The optimizer: rate · decay is one constant along the ladder of rates.
        self._rate = run.learning_rate or recipe.base_learning_rate
        self._optimizer = _optimizer(recipe, self._model, self._rate)
        self._average = WeightAverage(self._model)
        # 4. The horizon: whole steps, and the steps after which to look.
        whole = round(run.scale.tokens / self._mixture.tokens_per_step)
        self.steps = max(recipe.evaluations, whole)
        self.looks = evaluation_steps(self.steps, recipe.evaluations)

    def advance(self, step: int) -> None:
        """Take an optimizer step, counted from 1, and move the average."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate * min(1.0, step / max(1, self._recipe.warmup_steps))
        groups = [to_device(group, self._device) for group in self._mixture.batch(step)]
        loss = mixture_loss(self._model, groups, self._mixture.fractions)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._model.parameters(), self._recipe.clip)
        self._optimizer.step()
        self._average.update(step)

    def measure(self, step: int) -> Measurement:
        """Score the averaged weights after a step."""
        tokens = step * self._mixture.tokens_per_step
        with self._average.applied():
            return evaluate(self._model, self._validation, self._mixture.fractions, tokens)

    def state(self) -> dict[str, Tensor]:
        """Return every tensor that a step changes, no copies; there is one step at least."""
        return training_state(self._model, self._optimizer, self._average)

    def restore(self, state: Mapping[str, Tensor]) -> bool:
        """Go on from a state before any step is taken; False where it is not of this shape."""
        return restore_training(state, self._model, self._optimizer, self._average)


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


def to_device(group: Group, device: torch.device) -> Group:
    """Move a group's tensors; on the CPU nothing is copied."""
    if device.type == "cpu":
        return group
    return Group(group.source, group.tokens.to(device), group.targets.to(device))
