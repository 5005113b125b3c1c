"""A Llama-style decoder: pre-norm RMSNorm, rotary positions, SwiGLU, tied or untied head.

Shapes: n sequences of t tokens, d width, h heads, e = d/h head dimension, f feed-forward.

A batch is a list of groups, each of shape (n, t) with its own n and t: the position-wise parts run
once over all tokens, attention runs within each group. So short task sequences and long text share
one forward pass with neither padding nor masks across sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What a decoder is built from.

    Attributes:
        vocabulary: Number of token ids.
        width: d_model.
        depth: Blocks.
        heads: Attention heads; divides ``width`` into an even head dimension.
        feed_forward: Hidden dimension of the SwiGLU.
        norm_eps: ε of every RMSNorm.
        tied: Whether the head shares the embedding's matrix.
        longest: Longest sequence, tokens.
    """

    vocabulary: int
    width: int
    depth: int
    heads: int
    feed_forward: int
    norm_eps: float = 1e-6
    tied: bool = False
    longest: int = 256

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise ValueError(
                f"{self.heads} heads do not divide the width {self.width} into an even dimension"
            )


class Attention(nn.Module):
    """Causal self-attention with rotary positions."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.qkv_proj = nn.Linear(shape.width, 3 * shape.width, bias=False)
        self.o_proj = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, x: Tensor, rotary: Tensor, groups: Sequence[tuple[int, int]]) -> Tensor:
        """Attend within each group; x of shape (tokens, d), all groups one after another."""
        sizes = [n * t for n, t in groups]
        mixed = [
            self._attend(part, rotary, n, t)
            for part, (n, t) in zip(self.qkv_proj(x).split(sizes), groups, strict=True)
        ]
        return self.o_proj(torch.cat(mixed) if len(mixed) > 1 else mixed[0])  # type: ignore[no-any-return]

    def _attend(self, qkv: Tensor, rotary: Tensor, n: int, t: int) -> Tensor:
        split = qkv.view(n, t, 3, self.heads, -1)
        q, k = rotate(split[:, :, :2], rotary[:t]).unbind(2)
        v = split[:, :, 2]
        out = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True
        )
        return out.transpose(1, 2).reshape(n * t, -1)


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) · up(x))."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(shape.width, 2 * shape.feed_forward, bias=False)
        self.down_proj = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (tokens, d) to (tokens, d)."""
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * up)  # type: ignore[no-any-return]


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(shape.width, eps=shape.norm_eps)
        self.attention = Attention(shape)
        self.feed_forward_norm = nn.RMSNorm(shape.width, eps=shape.norm_eps)
        self.feed_forward = FeedForward(shape)

    def forward(self, x: Tensor, rotary: Tensor, groups: Sequence[tuple[int, int]]) -> Tensor:
        """Map (tokens, d) to (tokens, d)."""
        x = x + self.attention(self.attention_norm(x), rotary, groups)
        return x + self.feed_forward(self.feed_forward_norm(x))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """The proxy model."""

    rotary: Tensor

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.norm = nn.RMSNorm(shape.width, eps=shape.norm_eps)
        self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)
        if shape.tied:
            self.head.weight = self.embedding.weight
        table = rotary_table(shape.width // shape.heads, shape.longest)
        self.register_buffer("rotary", table, persistent=False)

    def forward(self, tokens: Sequence[Tensor], last: Sequence[int]) -> list[Tensor]:
        """Return the logits at the last positions of each group.

        Args:
            tokens: Groups of token ids, each of shape (n, t).
            last: For each group the number k of final positions to predict from, 1 ≤ k ≤ t.

        Returns:
            For each group logits of shape (n, k, vocabulary).
        """
        groups = [(group.shape[0], group.shape[1]) for group in tokens]
        x = self.embedding(torch.cat([group.flatten() for group in tokens]))
        for block in self.blocks:
            x = block(x, self.rotary, groups)
        parts = x.split([n * t for n, t in groups])
        # The head is the widest matrix: run it only where something is predicted.
        wanted = [
            part.view(n, t, -1)[:, t - k :].reshape(n * k, -1)
            for part, (n, t), k in zip(parts, groups, last, strict=True)
        ]
        logits = self.head(self.norm(torch.cat(wanted)))
        return [
            part.view(n, k, -1)
            for part, (n, _), k in zip(
                logits.split([len(w) for w in wanted]), groups, last, strict=True
            )
        ]


def rotary_table(head_dimension: int, longest: int, base: float = 10_000.0) -> Tensor:
    """Return cosines and sines of rotary positions. Shape (longest, 2, e/2), float32."""
    frequency = base ** -(torch.arange(0, head_dimension, 2) / head_dimension)
    angle = torch.arange(longest)[:, None] * frequency
    return torch.stack((angle.cos(), angle.sin()), dim=1)


def rotate(x: Tensor, rotary: Tensor) -> Tensor:
    """Rotate queries and keys (n, t, 2, h, e) by their positions, rotary of shape (t, 2, e/2)."""
    cos, sin = rotary[:, None, None].unbind(-2)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
