"""The matrices of an OLMo-core TransformerConfig, and the std that its init method draws each with.

Source: ai2-olmo-core 3.0.0, nn/transformer/{config,init,model}.py, nn/attention/__init__.py and
nn/feed_forward.py. All but the embeddings of llama, llama_depth, normalized and fan_in are cut at
±3 std.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from critical.frameworks.truncation import TRUNCATED_AT_3
from critical.targets.config_keys import Keys
from critical.targets.layout import Kind, Matrix

LARGEST = 1 << 40
"""Of a dimension; what is above is no model."""
METHODS = ("normal", "llama", "llama_depth", "normalized", "fan_in")
PRE_NORM = ("default", "default_scaled", "peri_norm")
"""Blocks whose first norm reads the embedding; reordered_norm's reads what attention gives."""
_BLOCKS = (*PRE_NORM, "reordered_norm")
_MOST_LAYERS = 1000


@dataclass(frozen=True, slots=True)
class Model:
    """What a TransformerConfig says of sizes and initialization.

    Attributes:
        keys: Of the model.
        width: d_model.
        vocabulary: Rows of the embedding.
        depth: Blocks.
        method: The init method.
        std: ``init_std``.
        embedding_std: ``embedding_init_std``, or ``init_std`` where it is not given.
        tied: Whether the head is the embedding.
        blocks: One configuration a block.
    """

    keys: Keys
    width: int
    vocabulary: int
    depth: int
    method: str
    std: float
    embedding_std: float
    tied: bool
    blocks: tuple[Keys, ...]

    def matrices(self) -> Iterator[Matrix]:
        """Yield the matrices as the model has them, each block's by its number."""
        rows = (self.vocabulary, self.width)
        yield Matrix("embeddings.weight", 1, rows, self.width, "embedding", self._embedding())
        for number, block in enumerate(self.blocks):
            yield from _block(self, number, block)
        if not self.tied:
            head = self.std if self.method == "normal" else self.width**-0.5
            yield Matrix("lm_head.w_out.weight", 1, rows, self.width, "head", _cut(head))

    def _embedding(self) -> float:
        if self.method == "normal":
            return _cut(self.embedding_std)
        if self.method == "normalized":
            return float(self.width**-0.5)
        if self.method == "fan_in":
            return 1.0 / self.keys.positive(("embed_scale",), 1.0)
        return 1.0


def model_of(keys: Keys) -> Model:
    """Read a TransformerConfig.

    Raises:
        CriticalError: A key is missing or wrong, or a module is of a kind that is not known here.
    """
    name = keys.text("name", "default")
    if name not in ("default", "moe"):
        why = (
            "is normalized after every step, so that no initial std lasts"
            if name == "normalized"
            else "is not known here"
        )
        raise keys.error(f"name {name[:40]!r} {why}: write the configuration of a default one")
    method = keys.text("init_method", "normal")
    if method not in METHODS:
        raise keys.error(
            f"init_method {method[:40]!r} is not known here: write one of {', '.join(METHODS)}"
        )
    std = keys.positive(("init_std",), 0.02)
    depth = keys.integer(("n_layers",), high=_MOST_LAYERS)
    return Model(
        keys=keys,
        width=keys.integer(("d_model",), high=LARGEST),
        vocabulary=keys.integer(("vocab_size",), high=LARGEST),
        depth=depth,
        method=method,
        std=std,
        embedding_std=keys.positive(("embedding_init_std",), std),
        tied=keys.boolean("tie_word_embeddings", False),
        blocks=_blocks(keys, depth),
    )


def _blocks(keys: Keys, depth: int) -> tuple[Keys, ...]:
    """Resolve ``block``, ``block_pattern`` and ``block_overrides`` as OLMo-core does."""
    block, pattern = keys.inner("block"), keys.values.get("block_pattern")
    if not block.values:
        raise keys.error("block is missing: write it, as in a run's config.json")
    if pattern is None:
        overrides = keys.inner("block_overrides")
        return tuple(
            overrides.inner(str(number)) if str(number) in overrides.values else block
            for number in range(depth)
        )
    if (
        not isinstance(pattern, list)
        or not pattern
        or not set(map(str, pattern)) <= set(block.values)
    ):
        raise keys.error("block_pattern names blocks that block does not have: write their names")
    return tuple(block.inner(str(name)) for name in islice(cycle(pattern), depth))


def _block(model: Model, number: int, block: Keys) -> Iterator[Matrix]:
    name = block.text("name", "default")
    if name not in _BLOCKS:
        raise block.error(
            f"block {name[:40]!r} is not known here: known are {', '.join(_BLOCKS)}, and no "
            "mixture of experts"
        )
    stds = _stds(model, number)
    prefix = f"blocks.{number}"
    for kind, part, out, fan_in, role in (*_attention(model, block), *_feed_forward(model, block)):
        std = fan_in**-0.5 if model.method == "fan_in" else stds[role]
        yield Matrix(f"{prefix}.{part}.weight", 1, (out, fan_in), fan_in, kind, _cut(std))


def _stds(model: Model, number: int) -> Mapping[str, float]:
    """Return the nominal std of a block's matrices by what they are for; not for fan_in."""
    if model.method == "normalized":
        std = model.width**-0.5
        last = std / math.sqrt(2 * model.depth)
        return {"in": std, "out": last, "up": std, "down": last}
    depth = {"llama": model.depth, "llama_depth": number + 1}.get(model.method)
    last = model.std if depth is None else model.std / math.sqrt(2 * depth)
    return {"in": model.std, "out": last, "up": last, "down": last}


_Part = tuple[Kind, str, int, int, str]
"""Kind, name in the block, output and input dimension, what it is for."""


def _attention(model: Model, block: Keys) -> Iterator[_Part]:
    mixer = mixer_of(block)
    how = mixer.text("name", "default")
    if how not in ("default", "fused", "fused_v2"):
        raise mixer.error(f"attention {how[:40]!r} is not known here: known are default, fused_v2")
    width = model.width
    heads = mixer.integer(("n_heads",), 16, high=LARGEST)
    groups = mixer.integer(("n_kv_heads",), heads, high=LARGEST)
    head = mixer.integer(("head_dim",), max(1, width // heads), high=LARGEST)
    if how == "default":
        for part, out in (("w_q", heads), ("w_k", groups), ("w_v", groups)):
            yield "attention", f"attention.{part}", out * head, width, "in"
    else:
        yield "attention", "attention.w_qkv", (heads + 2 * groups) * head, width, "in"
    if mixer.values.get("gate") is not None:
        every = mixer.inner("gate").text("granularity", "headwise") == "elementwise"
        yield "attention", "attention.w_g", heads * head if every else heads, width, "in"
    yield "attention", "attention.w_out", width, heads * head, "out"


def _feed_forward(model: Model, block: Keys) -> Iterator[_Part]:
    inner = block.inner("feed_forward")
    if inner.text("name", "default") != "default":
        raise inner.error("this feed-forward is not known here: write a default one")
    hidden = inner.integer(("hidden_size",), high=LARGEST)
    yield "feed_forward", "feed_forward.w1", hidden, model.width, "in"
    yield "feed_forward", "feed_forward.w2", model.width, hidden, "down"
    yield "feed_forward", "feed_forward.w3", hidden, model.width, "up"


def mixer_of(block: Keys) -> Keys:
    """Return a block's attention, which is called ``attention`` in older files.

    Raises:
        CriticalError: It is no attention.
    """
    mixer = block.inner("attention" if block.lacks(("sequence_mixer",)) else "sequence_mixer")
    values: Mapping[str, Any] = mixer.values
    kind = str(values.get("type", "attention"))
    of_class = str(values.get("_CLASS_", ".AttentionConfig")).rpartition(".")[2]
    if kind != "attention" or of_class != "AttentionConfig":
        raise mixer.error("this sequence mixer is not known here: known is attention alone")
    return mixer


def _cut(std: float) -> float:
    return float(std) * TRUNCATED_AT_3
