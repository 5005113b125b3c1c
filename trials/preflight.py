"""Whether a run can start at all, from one forward and one backward pass of its untrained model.

Quantities:
    loss        of the first batch, nats per token
    guess       ln V, that of a uniform guess among V token ids
    saturation  √(ms / (ms + ε)), see ``probes``: the RMS of what a norm gives, before its gain
    activation  RMS of the residual stream after a block
    undoing     the largest RMS of a weight matrix over the learning rate, in steps: AdamW moves no
                weight by much more than the rate a step, so that weights drawn too large take about
                so many steps to be written over

What a run's end owes to its start was measured on CPUs: the default mixture, widths 16 to 128, γ 0
to 8, norm ε 1e-6 to 1e-2, rates 1e-4 to 8e-3, 160 to 640 steps.

- Large weights. The loss begins far above a guess's (17.8, 24.0 and 35.2 at widths 32, 64 and 128
  and γ 0) and comes down to what the frequencies of tokens tell, 3.8 to 4.0 nats, in 0.8 to 1.2
  times ``undoing``: at width 32, γ 0 and rates 8e-3, 4e-3, 2e-3 and 1e-3, the loss after 640 steps
  is 3.71, 3.86, 3.91 and 4.24 where ``undoing`` is 125, 250, 500 and 1000 steps. But for the first
  of them nothing has been learned besides those frequencies.
- Small weights. No run was dead: the size of AdamW's steps does not depend on the gradient's, so
  that the embedding and the head grow at once, and the blocks follow. With norms saturated to 5e-4
  (width 128, ε 1e-6, γ 3) the loss after 300 steps is 3.16, against 3.00 at γ 1.2 and 3.82 at 0.3;
  saturated to 2e-3 (width 16, ε 1e-2, γ 3) it is 3.83, against 3.30 and 3.87. At width 32, ε 1e-5
  and γ 7, where every gradient is below Adam's own ε and those within the blocks vanish
  altogether, it is 3.33. So neither saturation nor gradients below Adam's ε are a reason to leave a
  γ out. Saturation is remarked upon, for a target of another width is saturated at another γ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from critical.trials.development import named_matrices
from critical.trials.probes import flow, watched_saturation
from critical.trials.run import ProxyRun
from critical.trials.training import ProxyTraining, TrainingRecipe

WORSE_THAN_GUESSING = 2.0
"""Times the loss of a guess, above which weights count as too large to be learned upon."""
MOST_UNDOING = 1 / 3
"""Share of a run's steps that undoing its initialization may take."""
SATURATED = math.sqrt(0.5)
"""A norm's saturation where the mean square of its input is ε."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """What one forward and one backward pass tell of an untrained model.

    Attributes:
        loss: Of the first batch, nats per token.
        guess: Loss of a uniform guess among the token ids, nats per token.
        gradient_norm: Frobenius norm of the gradient in all weight matrices.
        saturation: Of the most saturated norm, the mean over tokens, in [0, 1]; 1 without norms.
        activation: The largest RMS of the residual stream after a block; 0 without blocks.
        weight: The largest RMS of a weight matrix.
        learning_rate: The run's peak rate.
        steps: Steps of the run.
    """

    loss: float
    guess: float
    gradient_norm: float
    saturation: float
    activation: float
    weight: float
    learning_rate: float
    steps: int

    @property
    def undoing(self) -> float:
        """Steps in which the weights that were drawn are about written over."""
        return self.weight / self.learning_rate


def inspect(recipe: TrainingRecipe, run: ProxyRun) -> Vitals:
    """Build the model of a run as its training does, and run the first batch through it once.

    Args:
        recipe: What the study's trials share.
        run: The trial; its rate is the recipe's where it has none.
    """
    training = ProxyTraining(recipe, run)
    model, loss = training.model, training.first_loss()
    seen: list[Tensor] = []

    def noted_loss() -> Tensor:
        value = loss()
        seen.append(value.detach())
        return value

    with watched_saturation(model) as saturation:
        found = flow(model, noted_loss, "initial")
    gradients = [value for name, value in found.items() if name.startswith("gradient_norm")]
    activations = [value for name, value in found.items() if name.startswith("activation")]
    return Vitals(
        loss=float(seen[0]),
        guess=math.log(recipe.vocabulary),
        gradient_norm=float(torch.linalg.vector_norm(torch.stack(gradients).double())),
        saturation=min(map(float, saturation.values()), default=1.0),
        activation=max(map(float, activations), default=0.0),
        weight=_largest_weight(model),
        learning_rate=run.learning_rate or recipe.base_learning_rate,
        steps=training.steps,
    )


def judge(vitals: Vitals) -> str | None:
    """Return why a run with such vitals can hardly start, part of a sentence; None where it can."""
    for what, value in (
        ("the loss is", vitals.loss),
        ("the activations are", vitals.activation),
        ("the gradient is", vitals.gradient_norm),
    ):
        if not math.isfinite(value):
            return f"{what} not finite"
    if vitals.gradient_norm == 0:
        return "no gradient reaches any weight matrix (norm 0)"
    worse = vitals.loss / vitals.guess
    if worse > WORSE_THAN_GUESSING and vitals.undoing > MOST_UNDOING * vitals.steps:
        return (
            f"the loss begins at {vitals.loss:.1f}, {worse:.1f} times that of a blind guess "
            f"(activations of RMS {vitals.activation:.2g}), and undoing that takes about "
            f"{vitals.undoing:.0f} steps of {vitals.steps} at learning rate "
            f"{vitals.learning_rate:g}"
        )
    return None


def remark(vitals: Vitals) -> str | None:
    """Return what is to be known of a run that can start, part of a sentence; None for nothing."""
    if vitals.saturation < SATURATED:
        return f"norms are saturated by their ε (output RMS {vitals.saturation:.2g})"
    return None


@torch.no_grad()
def _largest_weight(model: nn.Module) -> float:
    each = [matrix.double().square().mean().sqrt() for matrix in named_matrices(model).values()]
    return float(torch.stack(each).max())
