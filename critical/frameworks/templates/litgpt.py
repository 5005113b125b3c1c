"""Starts LitGPT with every weight matrix drawn from N(0, std²) with std = fan_in^−GAMMA.

Needs LitGPT 0.5 and nothing else. In place of ``litgpt pretrain --config config.yaml``:

    python critical_init.py pretrain --config config.yaml

All else is LitGPT's own, biases at 0 as well. Several GPUs: as ever, FSDP calls what is set here.
"""

from __future__ import annotations

from functools import partial

import litgpt.pretrain
import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies import FSDPStrategy
from litgpt.model import GroupedTopkRouter
from litgpt.utils import reset_parameters
from torch import nn

GAMMA = 0.5


def initialize_weights(fabric: Fabric, model: nn.Module, n_layer: int, n_embd: int) -> None:
    """Stand in for ``litgpt.pretrain.initialize_weights``: set how every matrix is drawn, and draw.

    Fan-in is the input dimension; for an embedding it is its own. Under FSDP nothing is drawn yet:
    it calls ``reset_parameters`` once a module's parameters are real.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            vars(module)["reset_parameters"] = partial(_draw, module, module.in_features)
        elif isinstance(module, nn.Embedding):
            vars(module)["reset_parameters"] = partial(_draw, module, module.embedding_dim)
        elif isinstance(module, GroupedTopkRouter):
            vars(module)["reset_parameters"] = partial(_draw, module, n_embd)
    if not isinstance(fabric.strategy, FSDPStrategy):
        reset_parameters(model)


@torch.no_grad()
def _draw(module: nn.Module, fan_in: int) -> None:
    for name, parameter in module.named_parameters(recurse=False):
        if name == "weight":
            parameter.normal_(0.0, fan_in**-GAMMA)
        elif name == "bias":
            parameter.zero_()


litgpt.pretrain.initialize_weights = initialize_weights

if __name__ == "__main__":
    from litgpt.__main__ import main

    main()
