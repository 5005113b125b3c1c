"""The matrices of a LitGPT model, and the std that ``litgpt pretrain`` draws each with.

Source: litgpt 0.5.13, pretrain.py: √(2 / 5d) for every Linear and Embedding, but 1 / (L √d) for the
output projections of CausalSelfAttention and of LLaMAMLP (and its kinds), d the width and L the
blocks. model.py and config.py for the shapes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from critical.targets.config_keys import Keys
from critical.targets.layout import Kind, Matrix

LARGEST = 1 << 40
"""Of a dimension; what is above is no model."""
_MLPS = ("GptNeoxMLP", "LLaMAMLP", "GemmaMLP", "LLaMAMoE")
_MOST_LAYERS = 1000
_MOST_EXPERTS = 4096


@dataclass(frozen=True, slots=True)
class Model:
    """What ``model_config`` says of sizes; defaults are litgpt.Config's.

    Attributes:
        keys: Of the section.
        width: n_embd.
        depth: n_layer.
        tied: Whether the head is the embedding, as ``train.tie_embeddings`` says.
    """

    keys: Keys
    width: int
    depth: int
    tied: bool

    @property
    def plain(self) -> float:
        """Return √(2 / 5d)."""
        return math.sqrt(2 / (5 * self.width))

    @property
    def last(self) -> float:
        """Return 1 / (L √d)."""
        return 1 / (self.depth * math.sqrt(self.width))

    def matrices(self) -> Iterator[Matrix]:
        """Yield the matrices: head, embedding, blocks; a tied pair once, as its head."""
        rows = (self._vocabulary(), self.width)
        kind: Kind = "embedding" if self.tied else "head"
        yield Matrix("lm_head.weight", 1, rows, self.width, kind, self.plain)
        if not self.tied:
            yield Matrix("transformer.wte.weight", 1, rows, self.width, "embedding", self.plain)
        dense = self.keys.integer(("first_k_dense_replace",), 0, low=0, high=_MOST_LAYERS)
        for number in range(self.depth):
            yield from self._attention(number)
            yield from self._feed_forward(number, dense=number < dense)

    def _vocabulary(self) -> int:
        words = self.keys.integer(("vocab_size",), 50254, high=LARGEST)
        multiple = self.keys.integer(("padding_multiple",), 512, high=LARGEST)
        return self.keys.integer(
            ("padded_vocab_size",), math.ceil(words / multiple) * multiple, high=LARGEST
        )

    def _attention(self, number: int) -> Iterator[Matrix]:
        if self.keys.values.get("latent_attention") is not None:
            yield from self._latent_attention(number)
            return
        keys, width = self.keys, self.width
        heads = keys.integer(("n_head",), 32, high=LARGEST)
        size = keys.integer(("head_size",), max(1, width // heads), high=LARGEST)
        groups = keys.integer(("n_query_groups",), heads, high=LARGEST)
        yield self._matrix(number, "attn.qkv", (heads + 2 * groups) * size, width, self.plain)
        yield self._matrix(number, "attn.proj", width, heads * size, self.last)

    def _latent_attention(self, number: int) -> Iterator[Matrix]:
        """DeepSeek's, whose output projection is drawn as the rest."""
        keys, width, plain = self.keys.inner("latent_attention"), self.width, self.plain
        heads = self.keys.integer(("n_head",), 32, high=LARGEST)
        queries, values, rotary, rest, value = (
            keys.integer((name,), high=LARGEST)
            for name in (
                "q_lora_rank",
                "kv_lora_rank",
                "qk_rope_head_dim",
                "qk_nope_head_dim",
                "v_head_dim",
            )
        )
        yield self._matrix(number, "attn.q_a_proj", queries, width, plain)
        yield self._matrix(number, "attn.q_b_proj", heads * (rotary + rest), queries, plain)
        yield self._matrix(number, "attn.kv_a_proj_with_mqa", values + rotary, width, plain)
        yield self._matrix(number, "attn.kv_b_proj", heads * (rest + value), values, plain)
        yield self._matrix(number, "attn.proj", width, heads * value, plain)

    def _feed_forward(self, number: int, *, dense: bool) -> Iterator[Matrix]:
        keys = self.keys
        kind = keys.text("mlp_class_name", "GptNeoxMLP")
        if kind not in _MLPS:
            raise keys.error(
                f"mlp_class_name {kind[:40]!r} is not known: write one of {', '.join(_MLPS)}"
            )
        if kind == "LLaMAMoE" and not dense:
            yield from self._experts(number)
            return
        inner = keys.integer(
            ("intermediate_size",), None if kind == "LLaMAMLP" else 4 * self.width, high=LARGEST
        )
        if kind == "GptNeoxMLP":  # Not among those whose projection is scaled.
            yield self._matrix(number, "mlp.fc", inner, self.width, self.plain)
            yield self._matrix(number, "mlp.proj", self.width, inner, self.plain)
        else:
            yield from self._gated(number, "mlp", inner, 1)

    def _experts(self, number: int) -> Iterator[Matrix]:
        keys = self.keys
        if keys.values.get("n_expert_groups"):
            raise keys.error(
                "n_expert_groups makes a router that litgpt pretrain leaves uninitialized: write "
                "n_expert_groups: null, or train with another framework"
            )
        experts = keys.integer(("n_expert",), high=_MOST_EXPERTS)
        inner = keys.integer(("intermediate_size",), 4 * self.width, high=LARGEST)
        inner = keys.integer(("moe_intermediate_size",), inner, high=LARGEST)
        yield self._matrix(number, "mlp.gate", experts, self.width, self.plain)
        yield from self._gated(number, "mlp.experts.*", inner, experts)
        shared = keys.integer(("n_shared_expert",), 0, low=0, high=_MOST_EXPERTS)
        if shared:
            yield from self._gated(number, "mlp.shared_experts", shared * inner, 1)

    def _gated(self, number: int, where: str, inner: int, count: int) -> Iterator[Matrix]:
        for part, out, fan_in, std in (
            ("fc_1", inner, self.width, self.plain),
            ("fc_2", inner, self.width, self.plain),
            ("proj", self.width, inner, self.last),
        ):
            yield self._matrix(number, f"{where}.{part}", out, fan_in, std, count)

    def _matrix(
        self, number: int, part: str, out: int, fan_in: int, std: float, count: int = 1
    ) -> Matrix:
        kind: Kind = "attention" if part.startswith("attn.") else "feed_forward"
        if part == "mlp.gate":
            kind = "other"
        name = f"transformer.h.{number}.{part}.weight"
        return Matrix(name, count, (out, fan_in), fan_in, kind, std)


def model_of(keys: Keys, *, tied: bool) -> Model:
    """Read the ``model_config`` section.

    Raises:
        CriticalError: A key is wrong or missing.
    """
    width = keys.integer(("n_embd",), 4096, high=LARGEST)
    return Model(keys, width, keys.integer(("n_layer",), 16, high=_MOST_LAYERS), tied)
