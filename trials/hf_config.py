"""A Hugging Face configuration scaled down to a proxy, whatever its family.

A key is scaled by what it means, not by its family: widths and inner dimensions in proportion to
the width, what belongs to a head in proportion to a head's dimension, lists of one entry a layer
thinned out so that every kind of layer stays, experts few. What is not known is left as it is.
Code that a configuration names (auto_map, kernels of the hub) is never run, and nothing is
downloaded.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from typing import Any

from critical.trials.architecture import even, nearest_divisor
from critical.trials.errors import ModelError
from critical.trials.run import Scale

MOST_EXPERTS = 4
_ACTIVE_EXPERTS = 2
"""One alone has weight 1 where weights are normalized, and its router would learn nothing."""
_WIDTHS = ("hidden_size", "n_embd", "d_model")
_INNER = (
    "intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "moe_intermediate_size",
    "shared_expert_intermediate_size", "shared_intermediate_size", "intermediate_size_mlp",
    "moe_shared_expert_intermediate_size", "dense_intermediate_size", "q_lora_rank",
    "kv_lora_rank", "word_embed_proj_dim", "lru_width",
)  # fmt: skip
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads")
_OF_A_HEAD = (
    "head_dim", "global_head_dim", "kv_channels", "rotary_dim", "qk_rope_head_dim",
    "qk_nope_head_dim", "v_head_dim",
)  # fmt: skip
_DEPTH = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_AT_MOST = {
    **dict.fromkeys(EXPERTS, MOST_EXPERTS),
    "num_experts_per_tok": _ACTIVE_EXPERTS, "moe_topk": _ACTIVE_EXPERTS, "moe_k": _ACTIVE_EXPERTS,
    "n_group": 1, "topk_group": 1, "n_shared_experts": 1, "num_shared_experts": 1,
    "first_k_dense_replace": 1, "num_nextn_predict_layers": 0, "num_mtp_layers": 0,
}  # fmt: skip
_TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id")
_LONGEST = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")
_LEFT_OUT = (
    "auto_map", "quantization_config", "dtype", "torch_dtype", "transformers_version",
    "architectures", "use_kernels", "kernel_config",
)  # fmt: skip
"""Besides every ``attn_implementation`` and its like, which may name a kernel of the hub."""
_HUB_OFF = {"USE_HUB_KERNELS": "0", "HF_HUB_OFFLINE": "1"}


def scaled_config(text: str, scale: Scale, *, vocabulary: int, longest: int) -> Any:  # noqa: ANN401
    """Return the configuration of a proxy, a ``PreTrainedConfig`` of the target's family.

    Args:
        text: The target's language model, the JSON of a config.json.
        scale: Width, depth and heads of the proxy.
        vocabulary: Its token ids.
        longest: Longest sequence, the size of a table of learned positions.

    Raises:
        ModelError: transformers is not installed, does not know the family, or refuses the
            configuration.
    """
    values = json.loads(text)
    family = family_of(str(values.get("model_type")))
    try:
        with quiet():
            full = family.from_dict(without_code(values))
            document = full.to_dict()
            small = _Scaling(full, document, scale).applied()
            small |= {key: None for key in _TOKENS if key in document}
            small["vocab_size"] = vocabulary
            if not document.get("rope_parameters"):
                small |= {key: longest for key in _LONGEST if key in document}
            return family.from_dict(small)
    # Validation errors of transformers and huggingface_hub share no base class.
    except Exception as reason:
        raise not_built(str(values["model_type"]), scale, reason) from reason


@contextmanager
def quiet() -> Iterator[None]:
    """Let transformers warn of nothing meanwhile: what it says is of the target, not the proxy."""
    without_hub()
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)


def family_of(model_type: str) -> Any:  # noqa: ANN401  # transformers is not typed
    """Return the configuration class of a family.

    Raises:
        ModelError: transformers is not installed, or does not know the family.
    """
    without_hub()
    try:
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    except ImportError as reason:
        raise _not_installed() from reason
    try:
        return CONFIG_MAPPING[model_type]
    except KeyError:
        raise ModelError(
            f"transformers knows no model_type {model_type!r}, and a configuration's own code is "
            "never run: leave --proxy hf out"
        ) from None


def without_hub() -> None:
    """Forbid transformers the Hugging Face hub in this process; to be called before its import.

    A proxy is drawn at random and needs nothing from there. Both libraries read these variables
    once, when they are imported: kernels of the hub are code that is downloaded and run, and
    whatever else would be fetched fails instead. Where they have been imported already, as by a
    program that calls this one, its own choice stands.
    """
    os.environ |= _HUB_OFF


def without_code(value: Any) -> Any:  # noqa: ANN401  # any JSON
    """Return a configuration without what names code or files, in configurations within it too."""
    if isinstance(value, list):
        return [without_code(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {
        key: without_code(part)
        for key, part in value.items()
        if key not in _LEFT_OUT and "_implementation" not in key
    }


def transformers_version() -> str:
    """Return the version that is installed, without importing it.

    Between versions a family's code changes, and so do the numbers of a run.

    Raises:
        ModelError: transformers is not installed.
    """
    try:
        return metadata.version("transformers")
    except metadata.PackageNotFoundError as reason:
        raise _not_installed() from reason


def not_built(model_type: str, scale: Scale, reason: Exception) -> ModelError:
    """Return the error that says which proxy transformers refused, and why."""
    first = " ".join(str(reason).split())[:200] or type(reason).__name__
    return ModelError(
        f"transformers cannot build a {model_type} of width {scale.width} and {scale.heads} heads: "
        f"{first}; leave --proxy hf out"
    )


def _not_installed() -> ModelError:
    return ModelError(
        'a proxy of the target\'s own family needs transformers: pip install "critical[hf]", '
        "or leave --proxy hf out"
    )


class _Scaling:
    """One configuration and the ratios by which its keys are scaled."""

    def __init__(self, full: Any, document: dict[str, Any], scale: Scale) -> None:  # noqa: ANN401
        self._document, self._scale = document, scale
        self._depth = int(full.num_hidden_layers)
        width, heads = int(full.hidden_size), int(full.num_attention_heads)
        self._width_ratio = scale.width / width
        self._head_ratio = (scale.width / scale.heads) / (width / heads)
        kv_heads = next((document[key] for key in _KV_HEADS if document.get(key)), heads)
        self._kv_heads = nearest_divisor(scale.heads, scale.heads * kv_heads / heads)

    def applied(self) -> dict[str, Any]:
        """Return the scaled keys."""
        small = {key: self._scaled(key, value) for key, value in self._document.items()}
        self._scale_rotary(small)
        self._scale_queries(small)
        if small.get("attention_types"):  # GPT-Neo counts its layers here
            small["attention_types"] = [[small["attention_layers"], 1]]
        return small

    def _scaled(self, key: str, value: Any) -> Any:  # noqa: ANN401, PLR0911  # any JSON
        if isinstance(value, list):
            return self._list(key, value)
        if key in _KV_HEADS:  # null for as many as there are heads
            return self._kv_heads
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        if key in _WIDTHS:
            return self._scale.width
        if key in _INNER:
            return max(8, round(value * self._width_ratio / 8) * 8)
        if key in _HEADS:
            return self._scale.heads
        if key in _OF_A_HEAD:
            return even(value * self._head_ratio)
        if key in _DEPTH:
            return self._scale.depth
        return min(value, _AT_MOST[key]) if key in _AT_MOST else value

    def _list(self, key: str, values: list[Any]) -> list[Any]:
        if key == "mlp_only_layers":  # numbers of layers
            return [layer for layer in values if layer < self._scale.depth]
        if len(values) != self._depth:
            return values
        return [self._scaled(key, value) for value in thinned(values, self._scale.depth)]

    def _scale_queries(self, small: dict[str, Any]) -> None:
        """Keep what Gemma scales queries by in proportion to the head's dimension as it now is."""
        key, head_dim = "query_pre_attn_scalar", self._document.get("head_dim")
        if head_dim and small.get(key):
            scalar = self._document[key]
            small[key] = type(scalar)(round(scalar * small["head_dim"] / head_dim))

    def _scale_rotary(self, small: dict[str, Any]) -> None:
        """Keep the rotated part of a head even, and drop factors that are one a dimension."""
        rope = small.get("rope_parameters")
        if not isinstance(rope, dict):
            return
        head_dim = small.get("head_dim") or self._scale.width // self._scale.heads
        nested = [part for part in rope.values() if isinstance(part, dict)]
        small["rope_parameters"] = (
            {key: _rotary(part, head_dim) for key, part in rope.items()}
            if nested
            else _rotary(rope, head_dim)
        )


def _rotary(rope: Any, head_dim: int) -> Any:  # noqa: ANN401  # any JSON
    if not isinstance(rope, dict):
        return rope
    if rope.get("rope_type") == "longrope":  # its factors are about 1 in short sequences
        kept = ("rope_theta", "partial_rotary_factor")
        rope = {"rope_type": "default"} | {key: rope[key] for key in kept if key in rope}
    fraction = rope.get("partial_rotary_factor")
    if not fraction:
        return rope
    # transformers takes int(head_dim · fraction): a little more, for it must not fall below.
    return rope | {"partial_rotary_factor": min(1.0, (even(head_dim * fraction) + 1e-6) / head_dim)}


def thinned(values: Sequence[Any], count: int) -> list[Any]:
    """Return what ``count`` of a model's layers are, in their order, so that every kind stays.

    The first layer of each kind, as far as there is room, and then the earliest of the others. A
    proxy that is deeper than its target goes on as that begins.
    """
    layers = [values[layer % len(values)] for layer in range(max(count, len(values)))]
    kinds = [json.dumps(value) for value in layers]
    first = [kinds.index(kind) for kind in dict.fromkeys(kinds)][:count]
    others = [layer for layer in range(len(layers)) if layer not in first]
    return [layers[layer] for layer in sorted(first + others[: count - len(first)])]
