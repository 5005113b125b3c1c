"""What a proxy is built from: an architecture to scale, and the shape of one model of it.

Quantities:
    d  width, dimension of the residual stream
    h  heads, of e dimensions each; g key and value heads, each shared by h/g query heads
    f  inner dimension of the feed-forward layers
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

NormKind = Literal["rms", "layer"]
NormPlacement = Literal["pre", "post", "sandwich"]
Parallel = Literal["no", "shared_norm", "own_norms"]
QueryKeyNorm = Literal["no", "head", "all"]
Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "relu2"]
Positions = Literal["rotary", "learned"]


@dataclass(frozen=True, slots=True)
class Kinds:
    """Of which kind each part of a decoder is, whatever its size. The default is Llama's.

    Attributes:
        norm: RMSNorm or LayerNorm.
        norm_gain: Whether norms have a gain that is trained.
        norm_bias: Whether LayerNorms with a gain have a bias, too.
        placement: ``pre`` x + f(norm(x)), ``post`` x + norm(f(x)) as OLMo-2, ``sandwich``
            x + norm(f(norm(x))) as Gemma-2.
        parallel: Whether attention and feed-forward read the same x, as GPT-J through one norm or
            as GPT-NeoX through a norm each; only with ``pre``.
        qk_norm: Norms of queries and keys: one per ``head`` as Qwen3, or over ``all`` heads as
            OLMo-2.
        activation: Of the feed-forward layers; ``gelu_tanh`` is the tanh approximation.
        gated: Whether it is down(activation(gate(x)) · up(x)), else down(activation(up(x))).
        qkv_bias: Whether queries, keys and values have a bias.
        output_bias: Whether attention's output projection has.
        feed_forward_bias: Whether the feed-forward layers have.
        head_bias: Whether the head has.
        positions: Rotary, or one learned vector a position.
        rotary_base: Of the rotary wavelengths.
        rotary_fraction: Part of a head's dimensions that is rotated, in (0, 1].
        scaled_embedding: Whether embeddings are multiplied by √d, as in Gemma.
        attention_scale: What attention's 1/√e is multiplied by.
        attention_cap: c of Gemma-2's soft cap c·tanh(score/c), None for none.
        logit_cap: The same of the logits.
    """

    norm: NormKind = "rms"
    norm_gain: bool = True
    norm_bias: bool = True
    placement: NormPlacement = "pre"
    parallel: Parallel = "no"
    qk_norm: QueryKeyNorm = "no"
    activation: Activation = "silu"
    gated: bool = True
    qkv_bias: bool = False
    output_bias: bool = False
    feed_forward_bias: bool = False
    head_bias: bool = False
    positions: Positions = "rotary"
    rotary_base: float = 10_000.0
    rotary_fraction: float = 1.0
    scaled_embedding: bool = False
    attention_scale: float = 1.0
    attention_cap: float | None = None
    logit_cap: float | None = None


LLAMA = Kinds()


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What a decoder is built from.

    Attributes:
        vocabulary: Number of token ids.
        width: d_model.
        depth: Blocks.
        heads: Attention heads; where ``head_dim`` is None they divide ``width`` into an even one.
        feed_forward: Inner dimension of the feed-forward layers.
        norm_eps: ε of every norm.
        tied: Whether the head shares the embedding's matrix.
        longest: Longest sequence, tokens.
        kv_heads: Key and value heads, which divide ``heads``; None for as many.
        head_dim: Dimension of a head, even; None for width / heads.
        kinds: Of which kind each part is.
        first_norm_eps: ε of the norms that read the embedding, None for ``norm_eps``.
        gated_attention: Whether a sigmoid gate multiplies each head's output (2505.06708).
    """

    vocabulary: int
    width: int
    depth: int
    heads: int
    feed_forward: int
    norm_eps: float = 1e-6
    tied: bool = False
    longest: int = 256
    kv_heads: int | None = None
    head_dim: int | None = None
    kinds: Kinds = LLAMA
    first_norm_eps: float | None = None
    gated_attention: bool = False

    def __post_init__(self) -> None:
        if self.head_dim is None and self.width % (2 * self.heads):
            raise ValueError(
                f"{self.heads} heads do not divide the width {self.width} into an even dimension"
            )
        if self.head_size % 2:
            raise ValueError(f"head dimension {self.head_size} is odd: rotary positions need pairs")
        if self.heads % self.key_value_heads:
            raise ValueError(
                f"{self.key_value_heads} key and value heads do not divide {self.heads} heads"
            )

    @property
    def head_size(self) -> int:
        """Dimension of a head."""
        return self.width // self.heads if self.head_dim is None else self.head_dim

    @property
    def key_value_heads(self) -> int:
        """Number of key and value heads."""
        return self.heads if self.kv_heads is None else self.kv_heads


@dataclass(frozen=True, slots=True)
class Architecture:
    """A decoder that can be built at any width: proportions and kinds. The default is Llama's.

    Attributes:
        feed_forward_ratio: f / d.
        attention_ratio: h·e / d; 1 where the heads divide the width.
        kv_ratio: g / h.
        norm_eps: ε of the norms.
        tied: Whether the head is the embedding.
        kinds: Of which kind each part is.
    """

    feed_forward_ratio: float = 8 / 3
    attention_ratio: float = 1.0
    kv_ratio: float = 1.0
    norm_eps: float = 1e-6
    tied: bool = False
    kinds: Kinds = LLAMA

    def shape(
        self, *, width: int, depth: int, heads: int, vocabulary: int, longest: int
    ) -> ModelShape:
        """Return the model of a width: feed-forward a multiple of 8, heads of even dimension.

        Raises:
            ValueError: The heads do not divide the width into an even dimension, and the
                architecture asks for that.
        """
        own_head_dim = even(width * self.attention_ratio / heads)
        return ModelShape(
            vocabulary=vocabulary,
            width=width,
            depth=depth,
            heads=heads,
            feed_forward=max(8, round(width * self.feed_forward_ratio / 8) * 8),
            norm_eps=self.norm_eps,
            tied=self.tied,
            longest=longest,
            kv_heads=nearest_divisor(heads, heads * self.kv_ratio),
            head_dim=None if self.attention_ratio == 1 else own_head_dim,
            kinds=self.kinds,
        )


DEFAULT_ARCHITECTURE = Architecture()


def even(number: float) -> int:
    """Return the even whole number from 2 upwards that is nearest."""
    return max(2, 2 * round(number / 2))


def nearest_divisor(whole: int, wanted: float) -> int:
    """Return the divisor of ``whole`` whose ratio to ``wanted``, > 0, is nearest to 1."""
    divisors = [n for n in range(1, whole + 1) if whole % n == 0]
    return min(divisors, key=lambda n: abs(math.log(n / wanted)))
