"""Draws every weight matrix of an OLMo-core model from N(0, std²) with std = fan_in^−GAMMA.

Needs OLMo-core 3 and nothing else. At the top of the training script, before the model is built:

    import critical_init
    critical_init.install()

From then on ``Transformer.init_weights``, which every train module calls once the model is sharded,
redraws each Linear and Embedding with the generator of its own, seeded by ``init_seed``. Biases,
norm gains and all else stay as they are. A checkpoint that is loaded later replaces them as ever.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from olmo_core.nn.transformer import Transformer
from olmo_core.nn.transformer.init import _apply_init
from torch import nn

GAMMA = 0.5
_ORIGINAL = Transformer.init_weights


def install(gamma: float = GAMMA) -> None:
    """Let every ``Transformer.init_weights`` end with ``initialize``."""

    @functools.wraps(_ORIGINAL)
    def init_weights(self: Transformer, **options: object) -> torch.Generator:
        generator: torch.Generator = _ORIGINAL(self, **options)
        initialize(self, gamma, generator)
        return generator

    Transformer.init_weights = init_weights


@torch.no_grad()
def initialize(
    model: nn.Module, gamma: float = GAMMA, generator: torch.Generator | None = None
) -> None:
    """Draw every weight matrix of a model whose parameters are real, a tied one once.

    Raises:
        RuntimeError: A matrix is of a kind that is not known here, as experts are.
    """
    drawn: set[int] = set()
    for weight, fan_in in _matrices(model):
        if id(weight) not in drawn:
            _apply_init(nn.init.normal_, weight, std=fan_in**-gamma, generator=generator)
            drawn.add(id(weight))
    left = [
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim > 1 and id(parameter) not in drawn and "norm" not in name
    ]
    experts = [name for name, _ in model.named_modules() if name.endswith("feed_forward_moe")]
    if left or experts:
        raise RuntimeError(f"critical_init does not know how to draw {', '.join(left or experts)}")


def _matrices(model: nn.Module) -> Iterator[tuple[torch.Tensor, int]]:
    for module in model.modules():
        if isinstance(module, nn.Linear):
            yield module.weight, module.in_features
        elif isinstance(module, nn.Embedding):
            yield module.weight, module.embedding_dim
