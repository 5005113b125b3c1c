"""What of a target the built-in proxy does not have, in a sentence each.

What the family's own model, scaled down, would have ends with the advice to take that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from critical.targets.family_kinds import FAMILY_KINDS
from critical.targets.target import Target
from critical.trials.hf_config import EXPERTS, MOST_EXPERTS
from critical.trials.tasks.text import LENGTH

_LATENT = ("kv_lora_rank", "q_lora_rank")
_OTHER_LAYERS = {
    "state-space layers": ("mamba_d_state", "mamba_d_ssm", "ssm_state_size", "state_size"),
    "convolution layers": ("conv_L_cache", "conv_kernel", "linear_conv_kernel_dim"),
    "recurrent layers": ("lru_width",),
}
_ATTENTION = frozenset({"full_attention", "sliding_attention", "attention"})
_FACTORS = (
    "embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling",
    "logit_scale", "scale_emb", "scale_depth", "dim_model_base",
)  # fmt: skip
_ALWAYS_A_FACTOR = {
    "cohere": "logit_scale", "cohere2": "logit_scale", "granite": "attention_multiplier",
}  # fmt: skip
"""Families with a factor other than 1, or than 1/√e in attention, whatever is configured."""
_IF_KNOWN = ", if transformers knows it"
_BLOCKS_WITHOUT_POSITIONS = ("smollm3", "cohere2")
_UNSCALED = frozenset({"default", "longrope"})
"""Rotary kinds that are as good as plain in sequences as short as a proxy's."""


def unlike(target: Target, *, known_activation: bool) -> Iterator[str]:
    """Yield what the built-in proxy of a target lacks.

    Args:
        target: The model that the proxy stands for.
        known_activation: Whether the proxy has the target's activation.
    """
    values, family = target.config, target.model_type
    if family not in FAMILY_KINDS:
        yield _lacks(
            f"how {family} builds its layers is not known here",
            "the proxy has a Llama's, in the target's proportions",
            _IF_KNOWN,
        )
    if not known_activation:
        yield _lacks(
            "the target's activation is not known here", "the proxy has silu or gelu", _IF_KNOWN
        )
    yield from _layers(target)
    yield from _positions(values, family)
    yield from _sums(target)


def experts_of(target: Target) -> int:
    """Return how many experts a target's layers route between, 1 where they are dense."""
    values = target.config
    return max((values[key] for key in EXPERTS if isinstance(values.get(key), int)), default=1)


def idle_windows(target: Target) -> Iterator[str]:
    """Yield that a target's sliding windows do nothing in any proxy, where they are too wide."""
    window = _sliding_window(target.config)
    if window is not None and window >= LENGTH:
        yield (
            f"sliding windows of {window} tokens: sequences of at most {LENGTH} fit into them, so "
            "that every token of a proxy sees all before"
        )


def _sliding_window(values: Mapping[str, Any]) -> int | None:
    window = values.get("sliding_window")
    used = isinstance(window, int) and values.get("use_sliding_window") is not False
    return window if used else None


def _lacks(what: str, instead: str, condition: str = "") -> str:
    return f"{what}: {instead}; --proxy hf keeps the target's{condition}"


def _layers(target: Target) -> Iterator[str]:
    values = target.config
    if (experts := experts_of(target)) > 1:
        yield (
            f"a mixture of {experts} experts: the proxy has one dense feed-forward layer in each "
            f"block; --proxy hf has up to {MOST_EXPERTS} experts"
        )
    if any(values.get(key) for key in _LATENT):
        yield _lacks("latent attention", "the proxy projects to queries, keys and values at once")
    for name, keys in _OTHER_LAYERS.items():
        if any(values.get(key) for key in keys):
            yield _lacks(name, "the proxy has attention in every block")
    kinds = values.get("layer_types")
    if isinstance(kinds, list) and (others := sorted({str(kind) for kind in kinds} - _ATTENTION)):
        yield _lacks(f"layers of {', '.join(others)}", "the proxy has full attention")
    window = _sliding_window(values)
    if window is not None and window < LENGTH:
        yield _lacks(f"sliding windows of {window} tokens", "the proxy sees all before")
    yield from idle_windows(target)
    if values.get("clip_qkv"):
        yield _lacks("clipped queries, keys and values", "the proxy does not clip them")


def _positions(values: Mapping[str, Any], family: str) -> Iterator[str]:
    if family in ("bloom", "mpt") or (family == "falcon" and values.get("alibi")):
        yield _lacks("ALiBi positions", "the proxy has rotary ones")
    rope = values.get("rope_scaling") or values.get("rope_parameters")
    parts = [rope, *rope.values()] if isinstance(rope, dict) else []
    kinds = {
        str(part.get("rope_type", part.get("type", "default")))
        for part in parts
        if isinstance(part, dict)
    }
    for kind in sorted(kinds - _UNSCALED):
        yield _lacks(f"rotary positions scaled as {kind}", "the proxy's are not scaled")
    if family == "gemma3_text":
        yield _lacks("a rotary base of its own in sliding layers", "the proxy has one base")
    layers = values.get("no_rope_layers")  # 0 where a layer has none
    if 0 in layers if isinstance(layers, list) else family in _BLOCKS_WITHOUT_POSITIONS:
        yield _lacks("blocks without positions", "the proxy has them in every block")


def _sums(target: Target) -> Iterator[str]:
    """What multiplies or normalizes the residual stream in its own way."""
    values, family = target.config, target.model_type
    factors = {key for key in _FACTORS if values.get(key) not in (None, 1)}
    if family in _ALWAYS_A_FACTOR:
        factors.add(_ALWAYS_A_FACTOR[family])
    if factors:
        yield _lacks(f"constant factors ({', '.join(sorted(factors))})", "the proxy has none")
    if family == "bloom":
        yield _lacks("a norm of the embedding", "the proxy has none")
    if family == "opt" and values.get("do_layer_norm_before") is False:
        yield _lacks("norms of the residual stream itself", "the proxy's precede each layer")
    if family == "opt" and (values.get("word_embed_proj_dim") or target.width) != target.width:
        yield _lacks("a projection of the embedding", "the proxy has none")
