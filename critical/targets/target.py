"""The model that a user is about to train, as its Hugging Face config.json describes it.

Quantities:
    width        d_model, the residual stream's dimension
    depth        decoder blocks
    feed_forward inner dimension of a feed-forward layer
    vocabulary   tokens
    γ_eq         −ln(std) / ln(width): the exponent that a std stands for
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from critical.errors import OptionError, TargetError
from critical.targets.config_file import parse_object, read_text
from critical.targets.config_keys import Keys
from critical.targets.families import FAMILIES, UNKNOWN, Family
from critical.targets.family_defaults import completed, hint

_WIDTH = ("hidden_size", "n_embd", "d_model")
_DEPTH = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads")
_FEED_FORWARD = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")
_LATENT = ("v_head_dim",)
_EXPERT = ("moe_intermediate_size",)
_NORM_EPS = ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "norm_epsilon", "norm_eps")
_STD = ("initializer_range",)
_TEXT = "text_config"
_SHAPE = (
    *(_WIDTH, _DEPTH, _HEADS, _KV_HEADS, ("head_dim", *_LATENT), (*_FEED_FORWARD, *_EXPERT)),
    *(("vocab_size",), _NORM_EPS, _STD),
)
_NO_ATTENTION = frozenset({"falcon_mamba", "mamba", "mamba2", "rwkv", "xlstm"})
_ZERO_BECOMES = 0.02
"""transformers reads ``initializer_range or 0.02`` (modeling_utils, ``_init_weights``)."""


@dataclass(frozen=True, slots=True)
class Target:
    """One decoder's shape and the initialization that it has now.

    Attributes:
        name: The file's name, without its folder.
        model_type: Its family, as in ``llama``.
        width: d_model.
        depth: Decoder blocks.
        heads: Attention heads.
        kv_heads: Key and value heads; divides ``heads``.
        head_dim: Dimension of a head; heads · head_dim need not be the width.
        feed_forward: Inner dimension of a dense feed-forward layer.
        vocabulary: Tokens.
        norm_eps: ε of the norms.
        tied: Whether input and output embeddings are one matrix.
        initializer_range: The std that transformers draws with as configured, > 0.
        initializer_key: The key that holds it: ``initializer_range``, or OPT's ``init_std``.
        section: ``text_config`` where the file nests its language model there, else None.
        config: The language model's own keys; two targets that differ here only are equal.
        outer: The whole file where ``section`` is given, else None; not kept in documents.
    """

    name: str
    model_type: str
    width: int
    depth: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    vocabulary: int
    norm_eps: float
    tied: bool
    initializer_range: float
    initializer_key: str
    section: str | None
    config: Mapping[str, Any] = field(repr=False, compare=False)
    outer: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    @property
    def reference_gamma(self) -> float:
        """γ_eq of the initializer as it is now, at this width."""
        return -math.log(self.initializer_range) / math.log(self.width)

    @property
    def norm_eps_key(self) -> str | None:
        """The key that holds ε of the norms; None where the family's own stands."""
        return next((key for key in _NORM_EPS if self.config.get(key) is not None), None)

    def to_document(self) -> dict[str, Any]:
        """Return the JSON document that ``from_document`` reads."""
        document = asdict(self)
        del document["outer"]
        return document

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Target:
        """Restore a target from ``to_document``.

        Raises:
            TargetError: The document lacks a field, or has one that is not known.
        """
        expected = {each.name for each in fields(cls)} - {"outer"}
        if differing := expected ^ document.keys():
            raise TargetError(
                f"the stored target has other fields than this version ({sorted(differing)}): "
                "start a new study with --target config.json"
            )
        return cls(**document)


def read_target(path: Path) -> Target:
    """Read a model's config.json.

    Raises:
        TargetError: The file cannot be read, or is not the configuration of a decoder whose
            initializer is one std.
    """
    return parse_target(read_text(path, TargetError), path.name)


def parse_target(text: str, name: str) -> Target:
    """Read a model's configuration from the text of a config.json.

    Args:
        text: The JSON.
        name: The file's name, for the target and for messages.

    Raises:
        TargetError: As ``read_target``.
    """
    document = parse_object(text, name, TargetError)
    nested = isinstance(document.get(_TEXT), dict)
    section = _TEXT if nested else None
    stated = Keys(document[_TEXT] if nested else document, name, section)
    model_type = stated.identifier("model_type")
    family = FAMILIES.get(model_type, UNKNOWN)
    _refuse_other_kinds(document, stated, model_type)
    keys = stated
    if nested and any(stated.lacks(names) for names in _SHAPE):
        keys = Keys(completed(stated.values, model_type, _SHAPE), name, section, hint=hint())
    width = keys.integer(_WIDTH, low=2, high=10**6)
    heads = keys.integer(_HEADS, high=10**5)
    outer = keys if not nested else Keys(document, name, None)
    tied = outer.boolean("tie_word_embeddings", family.tied)
    # transformers reads initializer_range first wherever a configuration has it.
    std_key = "initializer_range" if not keys.lacks(_STD) else family.initializer_key
    return Target(
        name=name,
        model_type=model_type,
        width=width,
        depth=keys.integer(_DEPTH, high=10**4),
        heads=heads,
        kv_heads=_kv_heads(keys, family, heads),
        head_dim=_head_dim(keys, family, width, heads),
        feed_forward=_feed_forward(keys, family, width),
        vocabulary=keys.integer(("vocab_size",), high=10**8),
        norm_eps=keys.positive(_NORM_EPS, family.norm_eps),
        tied=keys.boolean("tie_word_embeddings", tied),
        initializer_range=_initializer_range(keys, std_key, family.initializer),
        initializer_key=std_key,
        section=section,
        config=stated.values,
        outer=document if nested else None,
    )


def proxy_shape(target: Target, width: int) -> tuple[int, int, int]:
    """Return (depth, heads, feed_forward) of a proxy that resembles the target.

    Depth shrinks with the width and stays in [2, 4]: a proxy is short, and one block cannot
    compose. What is lost in width is shared between the number and the size of the heads, each
    by the square root; heads keep an even dimension of at least 8. The feed-forward keeps its
    ratio to the width, because that ratio sets the std of the down-projection against the rest.

    Args:
        target: The model that the proxy stands for.
        width: The proxy's width, a multiple of 8.

    Raises:
        OptionError: The width is not a positive multiple of 8.
    """
    if width < 8 or width % 8:
        raise OptionError(f"width {width} is not a multiple of 8: write one that is, as 64")
    ratio = width / target.width
    depth = min(max(round(target.depth * ratio), 2), 4)
    ideal = math.log(target.heads * math.sqrt(ratio))
    allowed = [n for n in range(1, width // 8 + 1) if width % (2 * n) == 0]
    # Rounded, so that a power of two halfway between two others goes to the larger everywhere.
    heads = min(reversed(allowed), key=lambda n: round(abs(math.log(n) - ideal), 9))
    feed_forward = max(8 * round(target.feed_forward * ratio / 8), 8)
    return depth, heads, feed_forward


def _refuse_other_kinds(document: Mapping[str, Any], keys: Keys, model_type: str) -> None:
    if document.get("is_encoder_decoder") is True or keys.values.get("is_encoder_decoder") is True:
        raise keys.error(f"{model_type} is an encoder-decoder: write the config of a decoder")
    if model_type in _NO_ATTENTION:
        raise keys.error(
            f"{model_type} has no attention, and models without it are not supported: write the "
            "config of a decoder with attention heads"
        )
    if "initializer_factor" in keys.values and "initializer_range" not in keys.values:
        raise keys.error(
            f"{model_type} scales its initialization by initializer_factor, which is no std: "
            "write the config of a model that has initializer_range"
        )


def _feed_forward(keys: Keys, family: Family, width: int) -> int:
    # A model of experts only has no dense layer; one expert then stands for it.
    names = _EXPERT if keys.lacks(_FEED_FORWARD) and not keys.lacks(_EXPERT) else _FEED_FORWARD
    return keys.integer(names, 4 * width if family.wide_feed_forward else None, high=10**7)


def _kv_heads(keys: Keys, family: Family, heads: int) -> int:
    missing = family.kv_heads if keys.lacks(_KV_HEADS) else None
    kv_heads = keys.integer(_KV_HEADS, missing or heads, high=10**5)
    if heads % kv_heads:
        raise keys.error(
            f"num_key_value_heads {kv_heads} does not divide the {heads} attention heads: "
            "write a divisor of them"
        )
    return kv_heads


def _head_dim(keys: Keys, family: Family, width: int, heads: int) -> int:
    missing = family.head_dim if keys.lacks(("head_dim",)) else None
    # Multi-head latent attention names the dimension of its values only.
    names = _LATENT if keys.lacks(("head_dim",)) and not keys.lacks(_LATENT) else ("head_dim",)
    head_dim = keys.integer(names, missing or max(width // heads, 1), high=10**5)
    if keys.values.get(names[0]) is None and missing is None and width % heads:
        raise keys.error(
            f"{heads} attention heads do not divide the width {width}: "
            "write a divisor of it, or head_dim"
        )
    return head_dim


def _initializer_range(keys: Keys, key: str, default: float) -> float:
    std = keys.number((key,), default)
    if std == 0 and key in _STD:
        return _ZERO_BECOMES
    if std <= 0:
        raise keys.error(f"{key} is {std}: write a positive number, as 0.02")
    return std
