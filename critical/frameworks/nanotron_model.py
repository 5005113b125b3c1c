"""The shape of a model as nanotron's configuration has it, and its matrices under their names.

Source: nanotron's config/models_config.py (defaults), models/llama.py and models/qwen.py, and
helpers.py, _vocab_size_with_padding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from critical.frameworks.reading import Setting
from critical.targets.config_keys import Keys
from critical.targets.layout import Kind, Matrix

EMBEDDING = "model.token_position_embeddings.pp_block.token_embedding.weight"


@dataclass(frozen=True, slots=True)
class NanotronModel:
    """A decoder of nanotron's.

    Attributes:
        family: ``llama``, or ``qwen2``, which has the same matrices.
        width: hidden_size.
        depth: Blocks.
        heads: Attention heads, each of width / heads.
        kv_heads: Key and value heads.
        inner: intermediate_size.
        vocabulary: Rows of the embedding, padded for tensor parallelism.
        tied: Whether the head is the embedding.
        averaged: Whether the two ends of a pipeline draw the tied embedding, and average it.
        norm_eps: ε of the norms.
    """

    family: str
    width: int
    depth: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    tied: bool
    averaged: bool
    norm_eps: Setting[float]

    @classmethod
    def read(cls, keys: Keys) -> NanotronModel:
        """Read the shape.

        Raises:
            CriticalError: It is of a model that is not known here, or its heads do not divide.
        """
        config = keys.inner("model").inner("model_config")
        parallel = keys.inner("parallelism")
        width = config.integer(("hidden_size",), 4096, low=2, high=10**6)
        heads = config.integer(("num_attention_heads",), 32, high=10**5)
        kv_heads = config.integer(("num_key_value_heads",), heads, high=10**5)
        if width % heads or heads % kv_heads:
            raise config.error(
                f"num_attention_heads {heads} and num_key_value_heads {kv_heads} do not divide "
                f"hidden_size {width}: write divisors of it"
            )
        tied = config.boolean("tie_word_embeddings", False)
        return cls(
            family=_family(config),
            width=width,
            depth=config.integer(("num_hidden_layers",), 32, high=10**4),
            heads=heads,
            kv_heads=kv_heads,
            inner=config.integer(("intermediate_size",), 11008, high=10**7),
            vocabulary=_vocabulary(keys.inner("model"), config, parallel),
            tied=tied,
            averaged=tied and parallel.integer(("pp",), 1, high=10**5) > 1,
            norm_eps=Setting(
                "model.model_config.rms_norm_eps",
                config.positive(("rms_norm_eps",), 1e-6),
                config.values.get("rms_norm_eps") is not None,
            ),
        )

    def matrices(self, std: float, residual: float) -> tuple[Matrix, ...]:
        """List the matrices.

        Args:
            std: Of all but residual projections.
            residual: Of these.
        """
        width, rows = self.width, (self.vocabulary, self.width)
        values = width // self.heads * self.kv_heads
        blocks: tuple[tuple[str, int, int, Kind, float], ...] = (
            ("attn.qkv_proj", width + 2 * values, width, "attention", std),
            ("attn.o_proj", width, width, "attention", residual),
            ("mlp.gate_up_proj", 2 * self.inner, width, "feed_forward", std),
            ("mlp.down_proj", width, self.inner, "feed_forward", residual),
        )
        drawn = std / math.sqrt(2) if self.averaged else std
        head = Matrix("model.lm_head.pp_block.weight", 1, rows, width, "head", std)
        return (
            Matrix(EMBEDDING, 1, rows, width, "embedding", drawn),
            *(
                Matrix(
                    f"model.decoder.*.pp_block.{name}.weight",
                    self.depth,
                    (out, fan_in),
                    fan_in,
                    kind,
                    each,
                )
                for name, out, fan_in, kind, each in blocks
            ),
            *(() if self.tied else (head,)),
        )


def _family(config: Keys) -> str:
    if config.values.get("moe_config") is not None:
        raise config.error(
            "moe_config builds experts whose matrices are not known here: write the "
            "configuration of a model without them"
        )
    if config.values.get("is_starcoder2_config"):
        raise config.error(
            "is_starcoder2_config builds a model whose matrices are not known here: write the "
            "configuration of a Llama or a Qwen2"
        )
    return "qwen2" if config.values.get("is_qwen2_config") else "llama"


def _vocabulary(model: Keys, config: Keys, parallel: Keys) -> int:
    rows = config.integer(("vocab_size",), 32000, high=10**8)
    multiple = model.integer(("make_vocab_size_divisible_by",), 1, high=10**6)
    multiple *= parallel.integer(("tp",), 1, high=10**5)
    return math.ceil(rows / multiple) * multiple
