"""Attention written out in plain operations, where no fused kernel will do.

A fused kernel has no soft cap and tells nobody its weights, vmap may have no rule for it, and a
compiler cannot look into it. On a CPU it costs a microsecond a head of a sequence, however short.

Shapes: q queries, the last of t tokens; e head dimension; any dimensions before these.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor | None,
    scale: float | None,
    cap: float | None = None,
) -> Tensor:
    """Return softmax(query keyᵀ · scale) value. Shape (…, q, e); see ``attention_weights``."""
    return attention_weights(query, key, visible, scale, cap) @ value


def attention_weights(
    query: Tensor,
    key: Tensor,
    visible: Tensor | None,
    scale: float | None,
    cap: float | None = None,
) -> Tensor:
    """Return what each query pays to each key, softmax(query keyᵀ · scale). Shape (…, q, t).

    Args:
        query: What asks. Shape (…, q, e).
        key: What is asked. Shape (…, t, e).
        visible: Which keys a query may look at, None for all of them. Shape (q, t), bool.
        scale: 1/√e by default.
        cap: c of a soft cap c·tanh(score/c), None for none.
    """
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if cap is not None:
        scores = cap * (scores / cap).tanh()
    if visible is not None:
        scores = scores.masked_fill(~visible, -math.inf)
    return scores.softmax(-1)


def visible_keys(query: Tensor, key: Tensor) -> Tensor | None:
    """Return which keys the last queries may look at: their own and all before it.

    Returns:
        Shape (q, t), bool, on their device; None where a single query sees them all.
    """
    queries, t = query.shape[-2], key.shape[-2]
    if queries == 1:
        return None
    return torch.ones(queries, t, dtype=torch.bool, device=query.device).tril(t - queries)
