"""Draws Megatron's matrices from N(0, std²) with std = fan_in^−GAMMA.

Needs PyTorch, and asks Megatron for its parallel sizes. In Megatron-LM and Megatron-Bridge call
``apply(config)`` once the TransformerConfig is made, before the model is; in GPT-NeoX call
``use_in_gpt_neox()`` before training. Norms and biases of linears stay as they are.

A row-parallel matrix is split along its input: on a GPU Megatron draws one shard of it, on a CPU
the whole. Its fan-in is told from its columns and the number of shards; what fits no matrix of the
model, or two with different fan-ins, is an error.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

GAMMA = 0.5
WIDTH = 1024
OUTPUTS = (("linear_proj", 1024, False), ("linear_fc2", 4096, False))
"""Of the matrices that write to the residual stream: name, fan-in, whether it is an expert's."""


def init_method(weight: torch.Tensor) -> torch.Tensor:
    """Draw a matrix that reads the residual stream, and a router's bias or a softmax offset."""
    if weight.ndim > 1 and weight.shape[-1] != WIDTH:
        raise RuntimeError(
            f"a weight of shape {tuple(weight.shape)} does not read a residual stream of {WIDTH}: "
            "export again with the configuration that this model is built from"
        )
    return torch.nn.init.normal_(weight, mean=0.0, std=WIDTH**-GAMMA)


def embedding_init_method(weight: torch.Tensor) -> torch.Tensor:
    """Draw an embedding; its fan-in is the model's width."""
    return init_method(weight)


def output_layer_init_method(
    weight: torch.Tensor, sizes: tuple[int, int] | None = None
) -> torch.Tensor:
    """Draw a matrix that writes to the residual stream, or a shard of it, by its whole fan-in.

    Args:
        weight: The matrix or the shard.
        sizes: Over how many GPUs a matrix is split, and one of an expert's; None asks Megatron.
    """
    fan_in = _fan_in(weight, sizes or _parallel_sizes())
    return torch.nn.init.normal_(weight, mean=0.0, std=fan_in**-GAMMA)


def apply(config: Any) -> None:  # noqa: ANN401 (a TransformerConfig)
    """Give the three functions to a TransformerConfig of megatron-core."""
    config.init_method = init_method
    config.embedding_init_method = embedding_init_method
    config.output_layer_init_method = output_layer_init_method


def get_init_methods(neox_args: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:  # noqa: ANN401
    """Return what GPT-NeoX's function of this name does."""
    sizes = (neox_args.model_parallel_size, 1)
    return init_method, functools.partial(output_layer_init_method, sizes=sizes)


def use_in_gpt_neox() -> None:
    """Let GPT-NeoX build its models with ``get_init_methods`` of this module."""
    from megatron.model import gpt2_model

    gpt2_model.get_init_methods = get_init_methods


def _fan_in(weight: torch.Tensor, sizes: tuple[int, int]) -> int:
    tensor, expert = sizes
    rows, columns = weight.shape
    found = set()
    for _, fan_in, of_experts in OUTPUTS:
        shards = expert if of_experts else tensor
        # On a CPU the whole is drawn, but Transformer Engine's grouped experts are always shards.
        possible = {shards} if weight.device.type != "cpu" else {1, shards if of_experts else 1}
        found |= {fan_in for each in possible if columns * each == fan_in}
    if rows != WIDTH or len(found) != 1:
        names = ", ".join(f"{name} of fan-in {fan_in}" for name, fan_in, _ in OUTPUTS)
        raise RuntimeError(
            f"a weight of shape {(rows, columns)} is not one of {names}, in {tensor} shards "
            f"({expert} of experts), or can be two of them: export again with the configuration "
            "that this model is built from, or draw it yourself"
        )
    return found.pop()


def _parallel_sizes() -> tuple[int, int]:
    from megatron.core import parallel_state

    return (
        parallel_state.get_tensor_model_parallel_world_size(),
        parallel_state.get_expert_tensor_parallel_world_size(),
    )
