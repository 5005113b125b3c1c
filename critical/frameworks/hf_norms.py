"""The norms of a Hugging Face model: which key holds their ε, and what reads the embedding.

Source: the configuration classes and models of transformers 5.23.
"""

from __future__ import annotations

import math

from critical.frameworks.reading import Norms, Setting
from critical.targets.family_kinds import FAMILY_KINDS
from critical.targets.target import Target

_RMS, _LAYER, _EPSILON = "rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon"
_KEYS = {
    "bloom": _EPSILON,
    "codegen": _EPSILON,
    "cohere": _LAYER,
    "cohere2": _LAYER,
    "falcon": _EPSILON,
    "gpt2": _EPSILON,
    "gpt_bigcode": _EPSILON,
    "gpt_neox": _LAYER,
    "gptj": _EPSILON,
    "nemotron": "norm_eps",
    "phi": _LAYER,
    "stablelm": _LAYER,
    "starcoder2": "norm_epsilon",
}
"""Which key holds ε where a configuration leaves it out; of all other families rms_norm_eps."""
_NO_KEY = frozenset({"olmo", "opt"})
"""Families that fix ε at 1e-05, torch's own for LayerNorm."""
_MULTIPLIERS = ("embedding_multiplier", "scale_emb")
"""What Granite and MiniCPM multiply their embeddings by."""
_SCALES = {"minicpm3": 12.0}
"""What embeddings are multiplied by where a configuration leaves it out, and not 1."""


def norms(target: Target) -> Norms | None:
    """Return the norms of a model; None where its family's are not known."""
    kinds = FAMILY_KINDS.get(target.model_type)
    stated = target.norm_eps_key
    if kinds is None:
        return None
    key = stated or _KEYS.get(target.model_type, _RMS)
    eps = target.norm_eps
    if target.model_type in _NO_KEY:
        key, stated, eps = f"ε of {target.model_type}'s LayerNorm, which no key sets", None, 1e-5
    scale = _SCALES.get(target.model_type, 1.0)
    if kinds.scaled_embedding:
        scale = math.sqrt(target.width)
    for name in _MULTIPLIERS:
        factor = target.config.get(name)
        if isinstance(factor, int | float) and not isinstance(factor, bool) and factor > 0:
            scale = float(factor)
    if target.section is not None and " " not in key:
        key = f"{target.section}.{key}"
    return Norms(
        Setting(key, eps, stated is not None),
        read_embedding=kinds.placement != "post",
        embedding_scale=scale,
    )
