"""The shape of an MPT as LLM Foundry's configuration has it, and its matrices under their names.

Source: llm-foundry 0.22, models/mpt/configuration_mpt.py (defaults), models/mpt/modeling_mpt.py,
models/layers/attention.py and models/layers/ffn.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from critical.frameworks.llm_foundry_init import Initialization, torch_linear
from critical.targets.config_keys import Keys
from critical.targets.layout import Kind, Matrix

HEAD = "model.lm_head.weight"
_FFNS = ("mptmlp", "mptglu")


@dataclass(frozen=True, slots=True)
class Mpt:
    """A decoder of LLM Foundry's.

    Attributes:
        width: d_model.
        depth: Blocks.
        heads: Attention heads.
        kv_heads: Key and value heads.
        head_dim: Dimension of a head.
        inner: Of the feed-forward layers.
        gated: Whether these are gated.
        fused: Whether queries, keys and values are one matrix.
        vocabulary: Rows of the embedding.
        context: Learned positions; 0 for none.
        tied: Whether the head is the embedding.
        head_drawn: Whether init_config reaches a head of its own.
        qk_norm: Whether queries and keys are normalized.
    """

    width: int
    depth: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    gated: bool
    fused: bool
    vocabulary: int
    context: int
    tied: bool
    head_drawn: bool
    qk_norm: bool

    @classmethod
    def read(cls, model: Keys, *, sharded: bool) -> Mpt:
        """Read the shape.

        Args:
            model: The section.
            sharded: Whether the file has an fsdp_config.

        Raises:
            CriticalError: The model has layers whose matrices are not known here.
        """
        attention, ffn = model.inner("attn_config"), model.inner("ffn_config")
        _refuse_others(model, attention, ffn)
        width = model.integer(("d_model",), 2048, low=2, high=10**6)
        heads = model.integer(("n_heads",), 16, high=10**5)
        if width % heads:
            raise model.error(f"n_heads {heads} does not divide d_model {width}: write a divisor")
        relative = any(attention.boolean(key, False) for key in ("alibi", "rope"))
        learned = model.boolean("learned_pos_emb", True) and not relative
        # Built on the CPU, the transformer draws itself, and a head beside it is left to torch.
        on_meta = model.text("init_device", "cpu") == "meta" and sharded
        return cls(
            width=width,
            depth=model.integer(("n_layers",), 24, high=10**4),
            heads=heads,
            kv_heads=_kv_heads(attention, heads),
            head_dim=model.integer(("head_dim",), width // heads, high=10**5),
            inner=_inner(model, ffn, width),
            gated=ffn.text("ffn_type", "mptmlp") == "mptglu",
            fused=attention.boolean("fused_qkv", True),
            vocabulary=model.integer(("vocab_size",), 50368, high=10**8),
            context=model.integer(("max_seq_len",), 2048, high=10**8) if learned else 0,
            tied=model.boolean("tie_word_embeddings", True),
            head_drawn=on_meta,
            qk_norm=any(attention.boolean(key, False) for key in ("qk_ln", "qk_gn")),
        )

    def matrices(self, init: Initialization) -> tuple[Matrix, ...]:
        """List the matrices, each with the std that an initialization draws it with."""
        width, rows = self.width, (self.vocabulary, self.width)
        head_std = init.std(width, self.vocabulary) if self.head_drawn else torch_linear(width)
        tokens = Matrix(
            "model.transformer.wte.weight", 1, rows, width, "embedding", init.embedding(rows[0])
        )
        positions = Matrix(
            "model.transformer.wpe.weight",
            1,
            (self.context, width),
            width,
            "embedding",
            init.embedding(self.context) if self.context else 0.0,
        )
        return (
            tokens,
            *((positions,) if self.context else ()),
            *self._blocks(init),
            *(() if self.tied else (Matrix(HEAD, 1, rows, width, "head", head_std),)),
        )

    def _blocks(self, init: Initialization) -> tuple[Matrix, ...]:
        width, inner, size = self.width, self.inner, self.head_dim
        queries, values = self.heads * size, self.kv_heads * size
        one_head = init.std(width, size)
        separate = [("Wq", queries), ("Wk", values), ("Wv", values)]
        read = [("Wqkv", queries + 2 * values)] if self.fused else separate
        up = init.std(width, inner)
        parts: list[tuple[str, int, int, Kind, float]] = [
            *((f"attn.{name}", out, width, "attention", one_head) for name, out in read),
            ("attn.out_proj", width, queries, "attention", init.residual(queries, width)),
            ("ffn.up_proj", inner, width, "feed_forward", up),
            ("ffn.down_proj", width, inner, "feed_forward", init.residual(inner, width)),
        ]
        if self.gated:
            parts.append(("ffn.gate_proj", inner, width, "feed_forward", up))
        return tuple(
            Matrix(
                f"model.transformer.blocks.*.{name}.weight",
                self.depth,
                (out, fan_in),
                fan_in,
                kind,
                std,
            )
            for name, out, fan_in, kind, std in parts
        )


def _refuse_others(model: Keys, attention: Keys, ffn: Keys) -> None:
    kind = ffn.text("ffn_type", "mptmlp")
    if kind not in _FFNS:
        raise ffn.error(
            f"the matrices of ffn_type {kind[:40]!r} are not known here: write mptmlp, or mptglu"
        )
    for keys, name in ((model, "block_overrides"), (attention, "kv_dim")):
        if keys.values.get(name) is not None:
            raise keys.error(f"{name} gives blocks matrices that are not known here: leave it out")


def _kv_heads(attention: Keys, heads: int) -> int:
    kind = attention.text("attn_type", "multihead_attention")
    if kind == "multihead_attention":
        return heads
    if kind == "multiquery_attention":
        return 1
    if kind != "grouped_query_attention":
        raise attention.error(
            f"attn_type {kind[:40]!r} is not known: write multihead_attention, "
            "grouped_query_attention or multiquery_attention"
        )
    kv_heads = attention.integer(("kv_n_heads",), high=10**5)
    if heads % kv_heads:
        raise attention.error(f"kv_n_heads {kv_heads} does not divide n_heads {heads}")
    return kv_heads


def _inner(model: Keys, ffn: Keys, width: int) -> int:
    if ffn.values.get("ffn_hidden_size") is not None:
        return ffn.integer(("ffn_hidden_size",), high=10**7)
    ratio = model.positive(("expansion_ratio",), 4.0)
    product = width * ratio
    if not 1 <= product <= 10**7 or product != int(product):
        raise model.error(
            f"expansion_ratio {ratio:g} times d_model {width} is no whole number: write one"
        )
    return int(product)
