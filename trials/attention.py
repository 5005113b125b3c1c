"""Causal self-attention: grouped queries, rotary positions, and what families add to them.

Shapes: n sequences of t tokens, d width, h heads of e dimensions, g key and value heads. All
sequences of a batch lie one after another, of a stretch's length each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from critical.trials.architecture import Kinds, ModelShape
from critical.trials.plain_attention import attention_weights, plain_attention, visible_keys
from critical.trials.stretches import Stretch, wanted

SHORT = 32
"""Tokens up to which attention is written out where it is compiled for a CPU."""


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

    def forward(self, x: Tensor, rotary: Tensor, stretches: Sequence[Stretch]) -> Tensor:
        """Attend within each sequence, from its wanted positions.

        Args:
            x: What this layer reads. Shape (Σ n·t, d).
            rotary: Of every token. Shape (Σ n·t, 2, r/2).
            stretches: The sequences.

        Returns:
            Shape (Σ n·k, d).
        """
        sizes = [n * t for n, t, _ in stretches]
        q, k, v = (torch.split(part, sizes) for part in self._projected(x, rotary))
        mixed = [self._attend(*parts) for parts in zip(q, k, v, stretches, strict=True)]
        out = torch.cat(mixed) if len(mixed) > 1 else mixed[0]
        if self.gate_proj is not None:
            gate = self.gate_proj(wanted(x, stretches)).sigmoid()
            out = (out.view(len(out), self.heads, -1) * gate[..., None]).flatten(1)
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
        q, k, _ = self._projected(x, rotary)
        q, k = (self._by_head(part, n, t) for part in (q, k))
        weights = attention_weights(q, k, visible_keys(q, k), self.scale, self.cap)
        return weights[..., 1:, 0].mean()

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, stretch: Stretch) -> Tensor:
        """Mix within one stretch. Shapes (n·t, heads, e) to (n·k, h·e)."""
        n, t, queries = stretch
        q, k, v = (self._by_head(part, n, t) for part in (q, k, v))
        q = q[:, :, t - queries :]
        if self.cap is not None or _better_written_out(q, t):
            out = plain_attention(q, k, v, visible_keys(q, k), self.scale, self.cap)
        else:
            causal = queries == t
            mask = None if causal else visible_keys(q, k)
            out = F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=self.scale)
        return out.transpose(1, 2).reshape(n * queries, -1)

    def _projected(self, x: Tensor, rotary: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values. Shapes (tokens, h, e), and twice (tokens, g, e)."""
        heads, kv_heads = self.heads, self.kv_heads
        parts = self.qkv_proj(x).view(-1, heads + 2 * kv_heads, self.head_dim)
        qk, v = torch.split(parts, [heads + kv_heads, kv_heads], dim=1)
        if self.q_norm is not None and self.k_norm is not None:
            qk = self._normed(qk, self.q_norm, self.k_norm)
        q, k = torch.split(rotate(qk, rotary), [heads, kv_heads], dim=1)
        return q, k, v

    def _by_head(self, part: Tensor, n: int, t: int) -> Tensor:
        """Return a stretch with as many heads as queries have. Shape (n, h, t, e)."""
        part = part.view(n, t, -1, self.head_dim).transpose(1, 2)
        repeats = self.heads // part.shape[1]
        return part if repeats == 1 else part.repeat_interleave(repeats, dim=1)

    def _normed(self, qk: Tensor, q_norm: nn.Module, k_norm: nn.Module) -> Tensor:
        q, k = torch.split(qk, [self.heads, self.kv_heads], dim=1)
        if self.norm_over == "all":
            q = q_norm(q.flatten(1)).view_as(q)
            k = k_norm(k.flatten(1)).view_as(k)
            return torch.cat((q, k), dim=1)
        return torch.cat((q_norm(q), k_norm(k)), dim=1)


def _better_written_out(q: Tensor, t: int) -> bool:
    """Whether a compiler does better than the fused kernel, as for short sequences on a CPU."""
    return torch.compiler.is_compiling() and q.device.type == "cpu" and t <= SHORT


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
        x: Queries, keys or both. Shape (tokens, heads, e).
        rotary: Of the first r ≤ e dimensions; the others are passed through. Shape
            (tokens, 2, r/2).
    """
    rotated = 2 * rotary.shape[-1]
    if rotated == 0:
        return x
    if rotated < x.shape[-1]:
        return torch.cat((rotate(x[..., :rotated], rotary), x[..., rotated:]), dim=-1)
    cos, sin = rotary[:, None].unbind(-2)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
