"""Has LLM Foundry draw every weight matrix from N(0, std²) with std = fan_in^−GAMMA.

Registers the initialization ``critical_`` followed by GAMMA. In the YAML that training starts from,
write, of GAMMA 0.7, ``code_paths: [critical_init.py]`` and ``model: {init_config: {name:
critical_0.7}}``. Biases start at 0 and norm gains at 1, as with LLM Foundry's own.
"""

from __future__ import annotations

import contextlib
import importlib

import torch
from torch import nn

GAMMA = 0.5
NAME = f"critical_{GAMMA!r}"


def draw(weight: torch.Tensor) -> None:
    """Draw a matrix stored (out, in), or an embedding (vocabulary, width), by its last dimension.

    A fused matrix comes here in parts, cut along its outputs, each with the whole fan-in.
    """
    nn.init.normal_(weight, mean=0.0, std=weight.shape[-1] ** -GAMMA)


def initialize(
    module: nn.Module, n_layers: int, d_model: int | None = None, **ignored: object
) -> None:
    """Draw one module as LLM Foundry's own do, residual projections as the rest.

    Args:
        module: Of a model that is being built.
        n_layers: Blocks.
        d_model: The width.
        ignored: The other keys of init_config.
    """
    functions = importlib.import_module("llmfoundry.models.utils.param_init_fns")
    functions.generic_param_init_fn_(
        module=module,
        init_fn_=draw,
        n_layers=n_layers,
        d_model=d_model,
        init_div_is_residual=False,
    )


with contextlib.suppress(ImportError):  # Outside of LLM Foundry there is nothing to register with.
    importlib.import_module("llmfoundry.registry").param_init_fns.register(NAME, func=initialize)
