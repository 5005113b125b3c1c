"""The architecture of a target as its proxies have it, and what of it they cannot have.

A family's kinds stand in ``family_kinds``; here they are bettered by what the configuration says.
A family that is not known there is taken for a Llama in the target's proportions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from critical.targets.config_keys import Keys
from critical.targets.family_kinds import FAMILY_KINDS
from critical.targets.target import Target
from critical.targets.unlike import experts_of, idle_windows, unlike
from critical.trials.architecture import LLAMA, Activation, Architecture, Kinds
from critical.trials.hf_config import MOST_EXPERTS

_ACTIVATION_KEYS = ("hidden_activation", "hidden_act", "activation_function", "activation")
_ACTIVATIONS: Mapping[str, Activation] = {
    "silu": "silu", "swish": "silu", "gelu": "gelu", "gelu_python": "gelu",
    "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh", "relu": "relu", "relu2": "relu2",
}  # fmt: skip
_BIASES: Mapping[str, tuple[str, ...]] = {
    "attention_bias": ("qkv_bias", "output_bias"),
    "mlp_bias": ("feed_forward_bias",),
    "qkv_bias": ("qkv_bias",),
    "use_qkv_bias": ("qkv_bias",),
    "use_bias": ("qkv_bias", "output_bias", "feed_forward_bias"),
    "enable_bias": ("qkv_bias", "output_bias", "feed_forward_bias"),
    "bias": ("qkv_bias", "output_bias", "feed_forward_bias"),
}
_OWN_BIASES = ("qwen2", "mistral", "mixtral", "phi", "phi3", "gpt2", "gptj", "codegen", "bloom")
"""Families whose biases no key decides."""
_QK_NORM = ("qk_layernorm", "use_qk_norm")
_CAPS = {"attn_logit_softcapping": "attention_cap", "final_logit_softcapping": "logit_cap"}
_QUERY_SCALED = ("gemma2", "gemma3_text")
_QUERY_SCALAR = 256.0


def read_architecture(target: Target) -> tuple[Architecture, tuple[str, ...]]:
    """Read a target's architecture for the built-in proxy.

    Returns:
        The architecture, and in a sentence each what of the target the proxy lacks, with
        ``--proxy hf`` where that would keep it.

    Raises:
        TargetError: A key of the configuration is not of the type that it must have.
    """
    keys = Keys(target.config, target.name, target.section)
    kinds = _Reader(target, keys).kinds()
    architecture = Architecture(
        feed_forward_ratio=target.feed_forward / target.width,
        attention_ratio=target.heads * target.head_dim / target.width,
        kv_ratio=_kv_heads(target) / target.heads,
        norm_eps=target.norm_eps,
        tied=target.tied,
        kinds=kinds,
    )
    known_activation = _given(keys, _ACTIVATION_KEYS) in {None, *_ACTIVATIONS}
    return architecture, tuple(unlike(target, known_activation=known_activation))


def hf_config(target: Target) -> str:
    """Return the target's language model as the text of a config.json, for ``--proxy hf``.

    Its initializer is left out: γ takes its place, and ``export --in-place`` may change it.
    """
    document = {
        **target.config,
        "model_type": target.model_type,
        "tie_word_embeddings": target.tied,
    }
    document.pop(target.initializer_key, None)
    return json.dumps(document, sort_keys=True)


def hf_not_carried(target: Target, settings: Sequence[str]) -> tuple[str, ...]:
    """Say what a proxy of the family's own model lacks, in a sentence each; it is built once.

    Args:
        target: The model that the proxies stand for.
        settings: Those that are searched.

    Raises:
        ModelError: transformers is not installed, or cannot build the family so small.
    """
    # torch and transformers take seconds to import.
    from critical.trials.hf_model import notes

    found = list(notes(hf_config(target)))
    if (experts := experts_of(target)) > MOST_EXPERTS:
        found.insert(0, f"a mixture of {experts} experts: the proxies have {MOST_EXPERTS}")
    found += idle_windows(target)
    if "relaxed" in settings:
        found.append("transformers' models have no gate on attention: relaxed is ε 1e-12 alone")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Betters a family's kinds by the keys of one configuration."""

    target: Target
    keys: Keys

    def kinds(self) -> Kinds:
        kinds = FAMILY_KINDS.get(self.target.model_type, LLAMA)
        changes: dict[str, Any] = {}
        for part in (self._activation(), self._biases(), self._caps(), self._rotary(kinds)):
            changes |= part
        changes |= self._parallel(kinds)
        if any(self.keys.boolean(key, False) for key in _QK_NORM):
            changes["qk_norm"] = "head"
        if self.target.model_type in _QUERY_SCALED:
            scalar = self.keys.positive(("query_pre_attn_scalar",), _QUERY_SCALAR)
            changes["attention_scale"] = math.sqrt(self.target.head_dim / scalar)
        return replace(kinds, **changes)

    def _activation(self) -> dict[str, Any]:
        name = _given(self.keys, _ACTIVATION_KEYS)
        if name is None:
            return {}
        if not isinstance(name, str):
            raise self.keys.error('the activation is no text: write a name, as "silu"')
        return {"activation": _ACTIVATIONS[name]} if name in _ACTIVATIONS else {}

    def _biases(self) -> dict[str, Any]:
        return {
            name: self.keys.boolean(key, False)
            for key, names in _BIASES.items()
            if self.target.model_type not in _OWN_BIASES and self.keys.values.get(key) is not None
            for name in names
        }

    def _caps(self) -> dict[str, Any]:
        return {
            name: None if self.keys.values[key] is None else self.keys.positive((key,), 1.0)
            for key, name in _CAPS.items()
            if key in self.keys.values
        }

    def _rotary(self, kinds: Kinds) -> dict[str, Any]:
        rope = _rope(self.keys)
        base = rope.positive(("rope_theta",), kinds.rotary_base)
        base = self.keys.positive(("rope_theta", "rotary_emb_base"), base)
        fraction = rope.positive(("partial_rotary_factor",), kinds.rotary_fraction)
        fraction = self.keys.positive(("partial_rotary_factor", "rotary_pct"), fraction)
        if self.target.model_type in ("gptj", "codegen"):
            rotated = self.keys.integer(("rotary_dim",), 64, high=10**5)
            fraction = rotated / self.target.head_dim
        return {"rotary_base": base, "rotary_fraction": min(fraction, 1.0)}

    def _parallel(self, kinds: Kinds) -> dict[str, Any]:
        if self.target.model_type == "falcon":
            return {"parallel": self._falcon()}
        if self.keys.values.get("use_parallel_residual") is None:
            return {}
        as_family = kinds.parallel if kinds.parallel != "no" else "shared_norm"
        return {"parallel": as_family if self.keys.boolean("use_parallel_residual", True) else "no"}

    def _falcon(self) -> str:
        new = self.keys.boolean("new_decoder_architecture", False)
        if not (self.keys.boolean("parallel_attn", True) or new):
            return "no"
        norms = self.keys.integer(("num_ln_in_parallel_attn",), 2 if new else 1, high=2)
        return "own_norms" if norms == 2 else "shared_norm"


def _kv_heads(target: Target) -> int:
    """Return the target's key and value heads; two families say in a flag that there is one."""
    multi_query = target.config.get("multi_query", True) is True
    if target.model_type == "falcon" and target.config.get("new_decoder_architecture"):
        return target.kv_heads
    if target.model_type in ("falcon", "gpt_bigcode"):
        return 1 if multi_query else target.heads
    return target.kv_heads


def _given(keys: Keys, names: tuple[str, ...]) -> Any:  # noqa: ANN401  # any JSON
    return next((keys.values[key] for key in names if keys.values.get(key) is not None), None)


def _rope(keys: Keys) -> Keys:
    """Return the keys of ``rope_parameters``, of full attention where each layer type has some."""
    found = keys.values.get("rope_parameters")
    rope = found if isinstance(found, dict) else {}
    full = rope.get("full_attention")
    return Keys(full if isinstance(full, dict) else rope, "rope_parameters", None)
