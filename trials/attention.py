"""Causal self-attention: grouped queries, rotary positions, and what families add to them.

Shapes: n sequences of t tokens, d width, h heads of e dimensions, g key and value heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from critical.trials.architecture import Kinds, ModelShape


class Attention(nn.Module):
    """Attention with its input and output projections."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        kinds, e = shape.kinds, shape.head_size
        self.heads, self.kv_heads, self.head_dim = shape.heads, shape.key_value_heads, e
        self.scale = None if kinds.attention_scale == 1 else kinds.attention_scale / math.sqrt(e)
        self.cap = kinds.attention_cap
        projected = (self.heads + 2 * self.kv_heads) * e
        self.qkv_proj = nn.Linear(shape.width, projected, bias=kinds.qkv_bias)
        self.o_proj = nn.Linear(self.heads * e, shape.width, bias=kinds.output_bias)
        self.norm_over = kinds.qk_norm
        self.q_norm = self.k_norm = None
        if kinds.qk_norm != "no":
            q, k = (self.heads, self.kv_heads) if kinds.qk_norm == "all" else (1, 1)
            self.q_norm = norm(kinds, q * e, shape.norm_eps)
            self.k_norm = norm(kinds, k * e, shape.norm_eps)
        self.gate_proj = None
        if shape.gated_attention:
            self.gate_proj = nn.Linear(shape.width, self.heads, bias=False)

    def forward(self, x: Tensor, rotary: Tensor, groups: Sequence[tuple[int, int]]) -> Tensor:
        """Attend within each group; x of shape (tokens, d), all groups one after another."""
        sizes = [n * t for n, t in groups]
        mixed = [
            self._attend(part, rotary, n, t)
            for part, (n, t) in zip(self.qkv_proj(x).split(sizes), groups, strict=True)
        ]
        out = torch.cat(mixed) if len(mixed) > 1 else mixed[0]
        if self.gate_proj is not None:
            gate = self.gate_proj(x).sigmoid()
            out = (out.view(len(x), self.heads, -1) * gate[..., None]).flatten(1)
        return self.o_proj(out)  # type: ignore[no-any-return]

    def first_token_share(self, x: Tensor, rotary: Tensor, n: int, t: int) -> Tensor:
        """Return the mean attention that positions ≥ 1 pay to the first token.

        Args:
            x: What this layer reads. Shape (n·t, d), t ≥ 2.
            rotary: As in ``forward``.
            n: Sequences.
            t: Tokens of each.

        Returns:
            The mean over sequences, heads and queries after the first, in [0, 1]. Shape ().
        """
        q, k, _ = self._projected(self.qkv_proj(x), rotary, n, t)
        return self._weights(q, k)[..., 1:, 0].mean()

    def _attend(self, qkv: Tensor, rotary: Tensor, n: int, t: int) -> Tensor:
        q, k, v = self._projected(qkv, rotary, n, t)
        if self.cap is None:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale)
        else:
            out = self._weights(q, k) @ v
        return out.transpose(1, 2).reshape(n * t, -1)

    def _projected(
        self, qkv: Tensor, rotary: Tensor, n: int, t: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, each of shape (n, h, t, e)."""
        heads, kv_heads = self.heads, self.kv_heads
        parts = qkv.view(n, t, heads + 2 * kv_heads, self.head_dim)
        qk, v = torch.split(parts, [heads + kv_heads, kv_heads], dim=2)
        if self.q_norm is not None and self.k_norm is not None:
            qk = self._normed(qk, self.q_norm, self.k_norm)
        q, k = torch.split(rotate(qk, rotary[:t]), [heads, kv_heads], dim=2)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        if kv_heads < heads:
            k, v = (part.repeat_interleave(heads // kv_heads, dim=1) for part in (k, v))
        return q, k, v

    def _normed(self, qk: Tensor, q_norm: nn.Module, k_norm: nn.Module) -> Tensor:
        q, k = torch.split(qk, [self.heads, self.kv_heads], dim=2)
        if self.norm_over == "all":
            q = q_norm(q.flatten(2)).view_as(q)
            k = k_norm(k.flatten(2)).view_as(k)
            return torch.cat((q, k), dim=2)
        return torch.cat((q_norm(q), k_norm(k)), dim=2)

    def _weights(self, q: Tensor, k: Tensor) -> Tensor:
        """Return what each query pays to each key. Shape (n, h, t, t)."""
        scale = 1 / math.sqrt(self.head_dim) if self.scale is None else self.scale
        scores = q @ k.transpose(-2, -1) * scale
        if self.cap is not None:
            scores = self.cap * (scores / self.cap).tanh()
        t = scores.shape[-1]
        future = torch.ones(t, t, dtype=torch.bool, device=scores.device).triu(1)
        return scores.masked_fill(future, -math.inf).softmax(-1)


def norm(kinds: Kinds, size: int, eps: float) -> nn.RMSNorm | nn.LayerNorm:
    """Return a norm of the architecture's kind over the last dimension."""
    if kinds.norm == "rms":
        return nn.RMSNorm(size, eps=eps, elementwise_affine=kinds.norm_gain)
    return nn.LayerNorm(size, eps=eps, elementwise_affine=kinds.norm_gain, bias=kinds.norm_bias)


def rotary_table(dimensions: int, longest: int, base: float = 10_000.0) -> Tensor:
    """Return cosines and sines of rotary positions. Shape (longest, 2, dimensions/2), float32."""
    frequency = base ** -(torch.arange(0, dimensions, 2) / dimensions)
    angle = torch.arange(longest)[:, None] * frequency
    return torch.stack((angle.cos(), angle.sin()), dim=1)


def rotate(x: Tensor, rotary: Tensor) -> Tensor:
    """Rotate heads by their positions.

    Args:
        x: Queries, keys or both. Shape (n, t, heads, e).
        rotary: Of the first r ≤ e dimensions; the others are passed through. Shape (t, 2, r/2).
    """
    rotated = 2 * rotary.shape[-1]
    if rotated == 0:
        return x
    if rotated < x.shape[-1]:
        return torch.cat((rotate(x[..., :rotated], rotary), x[..., rotated:]), dim=-1)
    cos, sin = rotary[:, None].unbind(-2)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
