"""The weight matrices of a target model and the std that each has now.

Quantities:
    fan_in          a matrix's input dimension; for an embedding the model's width
    wanted std      fan_in^−γ
    configured std  what transformers draws with as configured

One-dimensional parameters (norm gains, biases) are no matrices, and tied embeddings are one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from critical.targets.layout import Kind, Matrix
from critical.targets.target import Target

__all__ = ["LLAMA_LIKE", "Kind", "LlamaShape", "Matrix", "llama_matrices", "matrices", "rates"]

LLAMA_LIKE = frozenset(
    {
        "llama",
        "mistral",
        "qwen2",
        "qwen3",
        "olmo",
        "olmo2",
        "olmo3",
        "smollm3",
        "gemma",
        "gemma2",
        "gemma3_text",
        "granite",
    }
)
"""Families with Llama's matrices, each drawn with one std; tests compare them with transformers."""


def matrices(target: Target) -> tuple[Matrix, ...]:
    """List a model's matrices with their fan-in and the std that they are drawn with now.

    The families in ``LLAMA_LIKE`` need torch and transformers for nothing; any other is built on
    torch's meta device by transformers, and never by code that its configuration names.

    Raises:
        TargetError: transformers is needed and not installed, cannot build the family, or has a
            parameter whose fan-in or std is not known.
    """
    if target.model_type in LLAMA_LIKE:
        shape = LlamaShape(
            width=target.width,
            depth=target.depth,
            queries=target.heads * target.head_dim,
            values=target.kv_heads * target.head_dim,
            feed_forward=target.feed_forward,
            vocabulary=target.vocabulary,
            tied=target.tied,
        )
        return llama_matrices(shape, target.initializer_range)
    # torch and transformers take seconds to import.
    from critical.targets.meta_model import build

    return build(target)


def rates(target: Target) -> Mapping[str, float]:
    """Return γ_eq of every matrix at the target's width, by name; matrices drawn at 0 left out.

    Where all agree, so does ``target.reference_gamma``. GPT-2's residual projections, for one,
    have a rate of their own.

    Raises:
        TargetError: As ``matrices``.
    """
    log_width = math.log(target.width)
    return {
        matrix.name: -math.log(matrix.configured_std) / log_width
        for matrix in matrices(target)
        if matrix.configured_std > 0
    }


@dataclass(frozen=True, slots=True)
class LlamaShape:
    """What decides the shapes of a Llama's matrices.

    Attributes:
        width: d_model.
        depth: Blocks.
        queries: Heads · head dimension.
        values: Key and value heads · head dimension.
        feed_forward: Inner dimension of the feed-forward layer.
        vocabulary: Tokens.
        tied: Whether input and output embeddings are one matrix.
    """

    width: int
    depth: int
    queries: int
    values: int
    feed_forward: int
    vocabulary: int
    tied: bool


def llama_matrices(
    shape: LlamaShape,
    std: float,
    *,
    embedding: str = "model.embed_tokens",
    attention: str = "self_attn",
) -> tuple[Matrix, ...]:
    """List a Llama's matrices, all drawn with one std.

    Args:
        shape: Of the model.
        std: Of every matrix.
        embedding: Name of the embedding.
        attention: Name of a block's attention.
    """
    width, inner = shape.width, shape.feed_forward
    blocks: tuple[tuple[str, int, int, Kind], ...] = (
        (f"{attention}.q_proj", shape.queries, width, "attention"),
        (f"{attention}.k_proj", shape.values, width, "attention"),
        (f"{attention}.v_proj", shape.values, width, "attention"),
        (f"{attention}.o_proj", width, shape.queries, "attention"),
        ("mlp.gate_proj", inner, width, "feed_forward"),
        ("mlp.up_proj", inner, width, "feed_forward"),
        ("mlp.down_proj", width, inner, "feed_forward"),
    )
    tokens = (shape.vocabulary, width)
    head = Matrix("lm_head.weight", 1, tokens, width, "head", std)
    return (
        Matrix(f"{embedding}.weight", 1, tokens, width, "embedding", std),
        *(
            Matrix(f"model.layers.*.{name}.weight", shape.depth, (out, fan_in), fan_in, kind, std)
            for name, out, fan_in, kind in blocks
        ),
        *(() if shape.tied else (head,)),
    )
