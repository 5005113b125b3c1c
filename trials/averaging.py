"""An averaged copy of the weights whose window grows with training.

Polynomial-decay averaging (Shamir and Zhang 2013): after step t the average moves by
(η + 1) / (t + η) towards the weights, so that it always weighs about the last t/(η + 1) steps and
a curve's middle is averaged as its end is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

ETA = 15.0


class WeightAverage:
    """The average of a module's parameters, which it can stand in for during evaluation."""

    def __init__(self, model: nn.Module) -> None:
        self._weights = [p.detach() for p in model.parameters()]
        self._average = [w.clone() for w in self._weights]

    def update(self, step: int) -> None:
        """Take in the weights after ``step``, counted from 1."""
        torch._foreach_lerp_(self._average, self._weights, (ETA + 1) / (step + ETA))

    @property
    def tensors(self) -> Sequence[Tensor]:
        """The average of each parameter itself, no copy, in the order of ``parameters()``."""
        return self._average

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average into the module, and the weights back afterwards."""
        kept = [w.clone() for w in self._weights]
        torch._foreach_copy_(self._weights, self._average)
        try:
            yield
        finally:
            torch._foreach_copy_(self._weights, kept)
