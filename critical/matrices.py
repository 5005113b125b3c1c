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

from critical.layout import Kind, Matrix
from critical.target import Target

__all__ = ["LLAMA_LIKE", "Kind", "Matrix", "matrices", "rates"]

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
        return _llama_like(target)
    # torch and transformers take seconds to import.
    from critical.meta_model import build

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


def _llama_like(target: Target) -> tuple[Matrix, ...]:
    width, inner = target.width, target.feed_forward
    queries = target.heads * target.head_dim
    values = target.kv_heads * target.head_dim
    blocks: tuple[tuple[str, int, int, Kind], ...] = (
        ("self_attn.q_proj", queries, width, "attention"),
        ("self_attn.k_proj", values, width, "attention"),
        ("self_attn.v_proj", values, width, "attention"),
        ("self_attn.o_proj", width, queries, "attention"),
        ("mlp.gate_proj", inner, width, "feed_forward"),
        ("mlp.up_proj", inner, width, "feed_forward"),
        ("mlp.down_proj", width, inner, "feed_forward"),
    )
    std, vocabulary = target.initializer_range, (target.vocabulary, width)
    embedding = Matrix("model.embed_tokens.weight", 1, vocabulary, width, "embedding", std)
    head = Matrix("lm_head.weight", 1, vocabulary, width, "head", std)
    return (
        embedding,
        *(
            Matrix(f"model.layers.*.{name}.weight", target.depth, (out, fan_in), fan_in, kind, std)
            for name, out, fan_in, kind in blocks
        ),
        *(() if target.tied else (head,)),
    )
