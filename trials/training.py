"""The built-in trial: one proxy trained from scratch, measured as it goes.

A constant rate after a short warmup, and evaluation on an averaged copy of the weights, make the
middle of one curve comparable with the end of another. An interrupted run goes on from its
checkpoint, see ``resuming``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, partial
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from critical.trials.architecture import DEFAULT_ARCHITECTURE, Architecture, ModelShape
from critical.trials.averaging import WeightAverage
from critical.trials.compiling import compiled
from critical.trials.corpus import Corpus
from critical.trials.evaluation import Predictor, evaluate, evaluation_steps
from critical.trials.initialization import Convention, initialize
from critical.trials.mixture import DEFAULT_MIXTURE, Group, Mixture, in_use
from critical.trials.model import Decoder
from critical.trials.recorder import Recorder
from critical.trials.resuming import Keeper, restore_training, training_state, with_state
from critical.trials.run import Measurement, ProxyRun
from critical.trials.settings import effective_shape
from critical.trials.tasks.registry import first_ids, longest

ARITHMETIC = 2
"""Raised when the same recipe and run train otherwise: older trials do not compare then."""
ROUNDINGS = 2
"""Raised when they come to other last digits only: older checkpoints do not fit then either."""
DEFAULT_LEARNING_RATE = 4e-3


@dataclass(frozen=True, slots=True)
class TrainingRecipe:
    """What every built-in trial of a study shares. Picklable: it travels to the workers.

    Attributes:
        corpus: The text's token file, None for a mixture without text.
        mixture: Fractions by source, summing to 1.
        batch_tokens: Tokens per optimizer step, before rounding to whole sequences.
        architecture: What every proxy is, at the width of its scale.
        target_width: d_model of the target; the settings ``carried`` need it.
        model: ``built-in``, our decoder of that architecture, or ``hf``, the family's own model
            in transformers.
        hf_config: The target's own configuration, the JSON of a config.json; ``hf`` needs it.
        convention: Of the γ-initialization.
        weight_decay: At ``base_learning_rate``; rate · decay · steps is the same for every rate.
        base_learning_rate: See ``weight_decay``.
        evaluations: Log-spaced evaluations of a run.
        development: At how many of them to record how the model develops; 0 for none.
        warmup_steps: Steps of linear warmup.
        betas: Of AdamW.
        adam_eps: Of AdamW.
        clip: Greatest gradient norm.
        compiled: Whether training steps are compiled, which needs a C++ compiler and takes some
            seconds once a process and shape; then they are 1.3 to 1.8 times as fast, with other
            roundings.
        autocast: Whether training steps compute in bfloat16, with weights and optimizer in float32.
    """

    corpus: Corpus | None
    mixture: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_MIXTURE))
    batch_tokens: int = 1024
    architecture: Architecture = DEFAULT_ARCHITECTURE
    target_width: int | None = None
    model: Literal["built-in", "hf"] = "built-in"
    hf_config: str | None = field(default=None, repr=False)
    convention: Convention = "fan_in"
    weight_decay: float = 0.1
    base_learning_rate: float = DEFAULT_LEARNING_RATE
    evaluations: int = 40
    development: int = 8
    warmup_steps: int = 20
    betas: tuple[float, float] = (0.9, 0.98)
    adam_eps: float = 1e-8
    clip: float = 1.0
    compiled: bool = False
    autocast: bool = False

    @property
    def vocabulary(self) -> int:
        """Number of token ids: 384 for the default mixture, whose text is bytes."""
        return first_ids(in_use(self.mixture), self.corpus)[1]

    def shape(self, run: ProxyRun) -> ModelShape:
        """Return the built-in model that a run trains.

        Raises:
            SettingsError: The run's settings are not known, or need what the recipe lacks.
        """
        return effective_shape(
            self.architecture,
            run,
            target_width=self.target_width,
            vocabulary=self.vocabulary,
            longest=longest(in_use(self.mixture)),
        )

    def steps(self, run: ProxyRun, tokens_per_step: int) -> int:
        """Return the horizon of a run in whole steps, one an evaluation at the least."""
        return max(self.evaluations, round(run.scale.tokens / tokens_per_step))

    def __call__(self, run: ProxyRun, /) -> Iterator[Measurement]:
        """Train one run; the ``Trainable`` of the built-in trial."""
        return train(self, run)

    def train_pack(
        self, runs: Sequence[ProxyRun]
    ) -> Generator[list[Measurement | None], frozenset[int], None]:
        """Train several runs of one scale together, see ``pack.train_pack``."""
        from critical.trials.pack import train_pack

        return train_pack(self, runs)


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
    if recipe.model == "hf":  # whose code is another package's
        from critical.trials.hf_config import transformers_version

        of_recipe["transformers"] = transformers_version()
    text = json.dumps([ARITHMETIC, ROUNDINGS, of_recipe, of_run], default=repr)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def build_model(recipe: TrainingRecipe, run: ProxyRun) -> nn.Module:
    """Build the model that a run trains, not yet γ-initialized.

    Whichever it is, it maps groups of tokens to logits as ``Decoder.forward`` does, and has its
    ``first_token_attention``.

    Raises:
        SettingsError: The run's settings are not known, or need what the recipe lacks.
        ModelError: transformers is not installed, or cannot build the target's family so small.
    """
    if recipe.model == "built-in":
        return Decoder(recipe.shape(run))
    from critical.trials.hf_model import HFDecoder

    assert recipe.hf_config is not None
    return HFDecoder.of_run(
        recipe.hf_config,
        run,
        recipe.architecture,
        target_width=recipe.target_width,
        vocabulary=recipe.vocabulary,
        longest=longest(in_use(recipe.mixture)),
    )


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
        self._model = build_model(recipe, run)
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
        self._optimizer = with_state(_optimizer(recipe, self._model, self._rate))
        self._average = WeightAverage(self._model)
        # 4. The horizon: whole steps, and the steps after which to look.
        self.steps = recipe.steps(run, self._mixture.tokens_per_step)
        self.looks = evaluation_steps(self.steps, recipe.evaluations)
        self._recorder = Recorder(self._model, self.looks, recipe.development, self._validation)

    def advance(self, step: int) -> None:
        """Take an optimizer step, counted from 1, and move the average."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate * min(1.0, step / max(1, self._recipe.warmup_steps))
        groups = self._batch(step)
        if step == 1:
            self._recorder.begin(self._first_loss(groups))
        loss = self._loss(groups)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._model.parameters(), self._recipe.clip)
        self._optimizer.step()
        self._average.update(step)

    def measure(self, step: int) -> Measurement:
        """Score the averaged weights after a step, and record what is to be seen of them."""
        tokens = step * self._mixture.tokens_per_step
        with self._average.applied():
            return self._recorder.measure(
                step,
                partial(evaluate, self._model, self._validation, self._mixture.fractions, tokens),
            )

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        return self._model

    def first_loss(self) -> Callable[[], Tensor]:
        """Return the training loss of the first batch under the weights as they stand, shape ()."""
        return self._first_loss(self._batch(1))

    def state(self) -> dict[str, Tensor]:
        """Return every tensor that a step changes, no copies."""
        return training_state(self._model, self._optimizer, self._average)

    def restore(self, state: Mapping[str, Tensor]) -> bool:
        """Go on from a state before any step is taken; False where it is not of this shape."""
        # A run may have been interrupted before its first measurement, which tells of the start.
        self._recorder.begin(self.first_loss())
        return restore_training(state, self._model, self._optimizer, self._average)

    def _batch(self, step: int) -> list[Group]:
        return [to_device(group, self._device) for group in self._mixture.batch(step)]

    def _first_loss(self, groups: Sequence[Group]) -> Callable[[], Tensor]:
        """Return the loss to look into: never compiled, for then no hook would be called."""
        return partial(mixture_loss, self._model, groups, self._mixture.fractions)

    def _loss(self, groups: Sequence[Group]) -> Tensor:
        loss = _compiled() if self._recipe.compiled else mixture_loss
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._recipe.autocast):
            return loss(self._model, groups, self._mixture.fractions)


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
    model: Predictor, groups: Sequence[Group], fractions: Mapping[str, float]
) -> Tensor:
    """Return the mean over sources of their mean cross-entropy, weighted by the fractions."""
    logits = model([g.tokens for g in groups], [g.targets.shape[1] for g in groups])
    losses = [
        fractions[group.source] * F.cross_entropy(part.flatten(0, 1), group.targets.flatten())
        for group, part in zip(groups, logits, strict=True)
    ]
    return torch.stack(losses).sum()


@cache
def _compiled() -> Callable[[Predictor, Sequence[Group], Mapping[str, float]], Tensor]:
    return compiled(mixture_loss)


def to_device(group: Group, device: torch.device) -> Group:
    """Move a group's tensors; on the CPU nothing is copied, and CUDA is not waited for."""
    if device.type == "cpu":
        return group
    if device.type == "cuda":
        tokens, targets = (
            given.pin_memory().to(device, non_blocking=True)
            for given in (group.tokens, group.targets)
        )
        return Group(group.source, tokens, targets)
    return Group(group.source, group.tokens.to(device), group.targets.to(device))
