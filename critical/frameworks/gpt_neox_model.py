"""The shape of a model as GPT-NeoX's YAML has it, and its matrices under their names.

Source: EleutherAI/gpt-neox of 2025: neox_arguments/neox_args.py (defaults), model/transformer.py,
model/word_embeddings.py and model/gpt2_model.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from critical.targets.config_keys import Keys
from critical.targets.layout import Kind, Matrix

_GATED = frozenset({"geglu", "reglu", "swiglu", "bilinear", "glu"})
_NOT_ATTENTION = frozenset({"gmlp", "amlp", "mamba", "rwkv"})
_TRANSFORMER_ENGINE = ("te_layernorm_mlp", "te_mha", "te_fp8_mha")


@dataclass(frozen=True, slots=True)
class NeoXModel:
    """A decoder of GPT-NeoX's.

    Attributes:
        width: hidden_size.
        depth: num_layers.
        values_width: Rows of the keys and of the values.
        rows: Of the first feed-forward matrix.
        inner: Fan-in of the second.
        vocabulary: Rows of the embedding, padded; 0 where the file does not tell.
        positions: Rows of the learned position embedding; 0 for none.
        tied: Whether the head is the embedding.
        pipeline: Whether it is built as a DeepSpeed pipeline, whose names have no ``sequential``.
    """

    width: int
    depth: int
    values_width: int
    rows: int
    inner: int
    vocabulary: int
    positions: int
    tied: bool
    pipeline: bool

    @classmethod
    def read(cls, keys: Keys) -> NeoXModel:
        """Read the shape.

        Raises:
            ExportError: A key is missing, or builds matrices that are not known here.
        """
        _refuse(keys)
        width = keys.integer(("hidden_size",), high=10**6)
        heads = keys.integer(("num_attention_heads",), high=10**5)
        kv_heads = keys.integer(("num_kv_heads",), heads, high=10**5)
        if width % heads or heads % kv_heads:
            raise keys.error(
                f"num_attention_heads {heads} and num_kv_heads {kv_heads} do not divide "
                f"hidden_size {width}: write divisors of it"
            )
        rows, inner = _feed_forward(keys, width)
        learned = keys.text("pos_emb", "learned") == "learned"
        return cls(
            width=width,
            depth=keys.integer(("num_layers",), high=10**4),
            values_width=width // heads * kv_heads,
            rows=rows,
            inner=inner,
            vocabulary=keys.integer(("padded_vocab_size",), 0, low=0, high=10**8),
            positions=keys.integer(("max_position_embeddings",), high=10**8)
            + keys.integer(("opt_pos_emb_offset",), 0, low=0, high=10**6)
            if learned
            else 0,
            tied=not keys.boolean("no_weight_tying", False),
            pipeline=keys.integer(("pipe_parallel_size",), 0, low=0, high=10**5) > 0,
        )

    def matrices(self, std: float, output_std: float) -> tuple[Matrix, ...]:
        """List the matrices.

        Args:
            std: What init_method draws with.
            output_std: What output_layer_init_method draws with.
        """
        return tuple(self._matrices(std, output_std))

    def _matrices(self, std: float, output_std: float) -> Iterator[Matrix]:
        width, outer = self.width, "" if self.pipeline else "sequential."
        first = "tied_modules.embed." if self.tied and self.pipeline else f"{outer}0."
        vocabulary = (self.vocabulary, width)
        yield Matrix(f"{first}word_embeddings.weight", 1, vocabulary, width, "embedding", std)
        if self.positions:
            name, shape = f"{first}position_embeddings.weight", (self.positions, width)
            yield Matrix(name, 1, shape, width, "embedding", std)
        blocks: tuple[tuple[str, int, int, Kind, float], ...] = (
            ("attention.query_key_value", width + 2 * self.values_width, width, "attention", std),
            ("attention.dense", width, width, "attention", output_std),
            ("mlp.linear1", self.rows, width, "feed_forward", std),
            ("mlp.linear2", width, self.inner, "feed_forward", output_std),
        )
        for name, out, fan_in, kind, each in blocks:
            full = f"{outer}*.{name}.weight"
            yield Matrix(full, self.depth, (out, fan_in), fan_in, kind, each)
        if not self.tied:
            name = f"{outer}{self.depth + 4}.final_linear.weight"
            yield Matrix(name, 1, vocabulary, width, "head", std)


def _feed_forward(keys: Keys, width: int) -> tuple[int, int]:
    """Return the rows of the first matrix and the fan-in of the second.

    A gated unit gets two thirds of the intermediate size for both its halves together.
    """
    if keys.values.get("intermediate_size") and keys.values.get("expansion_factor"):
        raise keys.error("intermediate_size and expansion_factor are both given: keep one of them")
    factor = keys.number(("expansion_factor",), 0.0) or 4
    size = keys.integer(("intermediate_size",), int(factor * width), high=10**8)
    multiple = keys.integer(("mlp_multiple_of",), 1, high=10**6)
    rows, inner = size, size
    if keys.text("activation", "gelu") in _GATED:
        rows = int(size * 2 / 3)
        inner = rows // 2
    if not inner:
        raise keys.error(f"intermediate_size {size} is too small for a gated unit: write a greater")
    return _up(rows, 2 * multiple), _up(inner, multiple)


def _up(size: int, multiple: int) -> int:
    return math.ceil(size / multiple) * multiple


def _refuse(keys: Keys) -> None:
    given = keys.values
    if given.get("use_mup"):
        raise keys.error("use_mup draws by µP's own rule: write false to draw with γ")
    if given.get("mlp_type") not in (None, "regular"):
        raise keys.error(
            "mlp_type is of an older GPT-NeoX, whose matrices are not listed here: write "
            "activation swiglu and an intermediate_size"
        )
    if keys.integer(("moe_num_experts",), 1, high=10**5) > 1:
        raise keys.error(
            "moe_num_experts builds experts, whose matrices are not listed here: write the "
            "configuration of a model without them"
        )
    for name in ("soft_prompt_tuning", *_TRANSFORMER_ENGINE):
        if given.get(name):
            raise keys.error(f"{name} builds matrices that are not listed here: remove it")
    if given.get("num_unique_layers") not in (None, given.get("num_layers")):
        raise keys.error("num_unique_layers shares matrices between layers: remove it")
    if given.get("pos_emb") == "rpe":
        raise keys.error("pos_emb rpe has a matrix that is not listed here: write rotary")
    if given.get("train_impl") == "rm":
        raise keys.error("train_impl rm builds a reward model: write normal")
    _refuse_layers(keys)


def _refuse_layers(keys: Keys) -> None:
    """Refuse layers that are no attention, of ``[[["flash", "mamba"], 6]]``."""
    config = keys.values.get("attention_config")
    for part in config if isinstance(config, list) else ():
        types = part[0] if isinstance(part, list) and part else part
        for each in types if isinstance(types, list) else [types]:
            if each in _NOT_ATTENTION:
                raise keys.error(
                    f"attention_config has {each} layers, whose matrices are not listed here: "
                    "write the configuration of a transformer"
                )
