"""The proxy: a decoder of any common kind; by default Llama's, pre-norm RMSNorm, rotary, SwiGLU.

Shapes: n sequences of t tokens, d width, h heads, e head dimension, f feed-forward.

A batch is a list of groups, each of shape (n, t) with its own n and t: the position-wise parts run
once over all tokens, attention runs within each length. So short task sequences and long text share
one forward pass with neither padding nor masks across sequences. From the last block's queries on,
only the positions that something is predicted from are computed: most tokens of a task's items are
read and predict nothing.

Every norm is an ``nn.RMSNorm`` or ``nn.LayerNorm``, so that its input and its ε can be looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from critical.trials.architecture import Activation, ModelShape, even
from critical.trials.attention import Attention, norm, rotary_table
from critical.trials.stretches import Stretch, at_positions, joined, wanted, whole

__all__ = ["Decoder", "ModelShape"]

ACTIVATIONS: Mapping[Activation, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
}


class FeedForward(nn.Module):
    """down(activation(gate(x)) · up(x)), or down(activation(up(x))) where it is not gated."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        kinds = shape.kinds
        width, inner, bias = shape.width, shape.feed_forward, kinds.feed_forward_bias
        self.activation = ACTIVATIONS[kinds.activation]
        self.gated = kinds.gated
        if kinds.gated:
            self.gate_up_proj = nn.Linear(width, 2 * inner, bias=bias)
        else:
            self.up_proj = nn.Linear(width, inner, bias=bias)
        self.down_proj = nn.Linear(inner, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (tokens, d) to (tokens, d)."""
        if not self.gated:
            return self.down_proj(self.activation(self.up_proj(x)))  # type: ignore[no-any-return]
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        return self.down_proj(self.activation(gate) * up)  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and feed-forward, with norms where the architecture has them.

    ``attention_norm`` and ``feed_forward_norm`` precede their layer, ``…_post_norm`` follow it;
    one that the architecture lacks is an identity.
    """

    def __init__(self, shape: ModelShape, *, first: bool) -> None:
        super().__init__()
        kinds, eps = shape.kinds, shape.norm_eps
        reading = eps if shape.first_norm_eps is None or not first else shape.first_norm_eps
        before, after = kinds.placement != "post", kinds.placement != "pre"

        def made(wanted: bool, eps: float) -> nn.Module:
            return norm(kinds, shape.width, eps) if wanted else nn.Identity()

        self.parallel = kinds.parallel
        self.attention_norm = made(before, reading)
        self.attention = Attention(shape)
        self.attention_post_norm = made(after, eps)
        self.feed_forward_norm = made(
            before and kinds.parallel != "shared_norm",
            reading if kinds.parallel == "own_norms" else eps,
        )
        self.feed_forward = FeedForward(shape)
        self.feed_forward_post_norm = made(after, eps)

    def forward(self, x: Tensor, rotary: Tensor, stretches: Sequence[Stretch]) -> Tensor:
        """Map (Σ n·t, d) to the wanted positions' (Σ n·k, d); for the others see ``Attention``."""
        read = self.attention_norm(x)
        x = wanted(x, stretches)
        attended = x + self.attention_post_norm(self.attention(read, rotary, stretches))
        if self.parallel == "no":
            read = self.feed_forward_norm(attended)
        elif self.parallel == "own_norms":
            read = self.feed_forward_norm(x)
        else:
            read = wanted(read, stretches)
        return attended + self.feed_forward_post_norm(self.feed_forward(read))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """The proxy model."""

    rotary: Tensor

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        kinds = shape.kinds
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        learned = kinds.positions == "learned"
        self.position = nn.Embedding(shape.longest, shape.width) if learned else None
        self.blocks = nn.ModuleList(Block(shape, first=n == 0) for n in range(shape.depth))
        self.norm = norm(kinds, shape.width, shape.norm_eps)
        self.head = nn.Linear(shape.width, shape.vocabulary, bias=kinds.head_bias)
        if shape.tied:
            self.head.weight = self.embedding.weight
        rotated = 0 if learned else even(shape.head_size * kinds.rotary_fraction)
        table = rotary_table(rotated, shape.longest, kinds.rotary_base)
        self.register_buffer("rotary", table, persistent=False)

    def forward(self, tokens: Sequence[Tensor], last: Sequence[int]) -> list[Tensor]:
        """Return the logits at the last positions of each group.

        Args:
            tokens: Groups of token ids, each of shape (n, t).
            last: For each group the number k of final positions to predict from, 1 ≤ k ≤ t.

        Returns:
            For each group logits of shape (n, k, vocabulary).
        """
        groups = [
            Stretch(group.shape[0], group.shape[1], k)
            for group, k in zip(tokens, last, strict=True)
        ]
        stretches = joined(groups)
        every = whole(stretches)
        rotary = at_positions(self.rotary, stretches)
        x = self._embedded(tokens, stretches)
        for number, block in enumerate(self.blocks, 1):
            x = block(x, rotary, every if number < len(self.blocks) else stretches)
        logits = self.head(self.norm(x))
        if (cap := self.shape.kinds.logit_cap) is not None:
            logits = cap * (logits / cap).tanh()
        parts = torch.split(logits, [n * k for n, _, k in groups])
        return [part.view(n, k, -1) for part, (n, _, k) in zip(parts, groups, strict=True)]

    @torch.no_grad()
    def first_token_attention(self, tokens: Tensor) -> Tensor:
        """Return the share of attention that later positions pay to the first token, per block.

        Args:
            tokens: Token ids. Shape (n, t), t ≥ 2.

        Returns:
            The mean over sequences, heads and all queries after the first, in [0, 1]. Shape
            (depth,), float32.
        """
        n, t = tokens.shape
        stretches = [Stretch(n, t, t)]
        rotary = at_positions(self.rotary, stretches)
        x = self._embedded([tokens], stretches)
        shares = []
        for block in self.blocks:
            assert isinstance(block, Block)
            read = block.attention_norm(x)
            shares.append(block.attention.first_token_share(read, rotary, n, t))
            x = block(x, rotary, stretches)
        return torch.stack(shares).float()

    def _embedded(self, tokens: Sequence[Tensor], stretches: Sequence[Stretch]) -> Tensor:
        """Return what the first block reads. Shape (tokens, d), all groups one after another."""
        x: Tensor = self.embedding(torch.cat([group.flatten() for group in tokens]))
        if self.position is not None:
            x = x + at_positions(self.position.weight, stretches)
        if self.shape.kinds.scaled_embedding:
            x = x * math.sqrt(self.shape.width)
        return x
