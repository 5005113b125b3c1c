"""The weights, averages and AdamW moments of several members, a row each, and their steps.

Each step takes the same few kernels whatever the number of members and of parameters; each member
has its own learning rate and its gradient clipped by its own norm, and no number of one reaches
another's row. The arithmetic is that of ``clip_grad_norm_``, fused ``torch.optim.AdamW`` and
``WeightAverage``, to within roundings.

Shapes: k members, p numbers in all parameters of one, in the order of ``stacking.Layout``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from critical.trials.averaging import ETA
from critical.trials.stacking import Layout
from critical.trials.training import TrainingRecipe

_CLIP_EPS = 1e-6
"""What ``torch.nn.utils.clip_grad_norm_`` adds to a norm that it divides by."""
_KINDS = {
    "weight": "weights",
    "average": "averages",
    "exp_avg": "exp_avg",
    "exp_avg_sq": "exp_avg_sq",
}
"""A checkpoint's names for what is here."""


@dataclass(frozen=True, slots=True)
class StackState:
    """What training changes of k members.

    Attributes:
        weights: Shape (k, p), float32; so are the next three.
        averages: Averaged weights.
        exp_avg: First moments of the gradient.
        exp_avg_sq: Second moments.
        rates: Peak learning rates. Shape (k, 1).
    """

    weights: Tensor
    averages: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    rates: Tensor

    @classmethod
    def fresh(cls, row: Tensor, rate: float) -> StackState:
        """Return one member's state before its first step, from its weights (1, p)."""
        moments = torch.zeros_like(row), torch.zeros_like(row)
        return cls(row, row.clone(), *moments, torch.full((1, 1), rate))

    @classmethod
    def joined(cls, states: Sequence[StackState]) -> StackState:
        """Return copies of all members of several states, one after another."""
        return cls(*(torch.cat([getattr(s, part.name) for s in states]) for part in fields(cls)))

    def __len__(self) -> int:
        """Members."""
        return len(self.weights)

    def each(self, change: Callable[[Tensor], Tensor]) -> StackState:
        """Return what a function makes of every tensor."""
        return StackState(*(change(getattr(self, part.name)) for part in fields(self)))

    def part(self, first: int, end: int) -> StackState:
        """Return views of consecutive members: no memory is needed, and a step changes both."""
        return self.each(lambda tensor: tensor[first:end])

    def only(self, rows: Sequence[int]) -> StackState:
        """Return copies of some members, so that nothing holds the memory of the others."""
        index = torch.tensor(rows, device=self.weights.device)
        return self.each(lambda tensor: tensor.index_select(0, index))

    @torch.no_grad()
    def advance(self, gradients: Tensor, step: int, recipe: TrainingRecipe, matrices: int) -> None:
        """Take an optimizer step of every member, counted from 1, and move the averages.

        Nothing of size p is allocated, so that no want of memory leaves a step half taken; and
        nothing waits for the device.

        Args:
            gradients: Shape (k, p); used up.
            step: Which one.
            recipe: Betas, decay, clipping and warmup.
            matrices: The first so many numbers of a row decay.
        """
        warm = min(1.0, step / max(1, recipe.warmup_steps))
        beta1, beta2 = recipe.betas
        norms = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)
        clipping = (recipe.clip / (norms + _CLIP_EPS)).clamp(max=1.0)
        step_sizes = self.rates * (warm / (1 - beta1**step))
        gradients.mul_(clipping)
        self.exp_avg.lerp_(gradients, 1 - beta1)
        self.exp_avg_sq.mul_(beta2).addcmul_(gradients, gradients, value=1 - beta2)
        # rate · decay is one constant along the ladder of rates, so that all decay alike.
        decay = warm * recipe.base_learning_rate * recipe.weight_decay
        self.weights[:, :matrices].mul_(1 - decay)
        change = torch.sqrt(self.exp_avg_sq, out=gradients)
        change.div_(math.sqrt(1 - beta2**step)).add_(recipe.adam_eps)
        torch.div(self.exp_avg, change, out=change)
        self.weights.sub_(change.mul_(step_sizes))
        self.averages.lerp_(self.weights, (ETA + 1) / (step + ETA))

    def named(self, layout: Layout, row: int, step: int) -> dict[str, Tensor]:
        """Return one member's tensors as ``resuming.training_state`` names them, no copies."""
        tensors: dict[str, Tensor] = {}
        for kind, attribute in _KINDS.items():
            views = layout.parameters(getattr(self, attribute)[row : row + 1])
            tensors |= {f"{kind}/{name}": view[0] for name, view in views.items()}
        taken = torch.tensor(float(step))
        return tensors | {f"step/{name}": taken.clone() for name in layout.shapes}

    @torch.no_grad()
    def restore(self, layout: Layout, tensors: Mapping[str, Tensor]) -> bool:
        """Copy in what ``named`` or ``resuming.training_state`` returned, of the only member.

        Returns:
            False, with nothing changed, where names, shapes or types are not the member's own.
        """
        places = self.named(layout, 0, 0)
        if {n: (t.shape, t.dtype) for n, t in places.items()} != {
            n: (t.shape, t.dtype) for n, t in tensors.items()
        }:
            return False
        for name, place in places.items():
            place.copy_(tensors[name])
        return True
