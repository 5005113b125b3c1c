"""What holds the attention logits of a Hugging Face model: QK-norm, and a gate on its output.

Source: the models of transformers 5.23; tests look for the norms and gates in built ones.
"""

from __future__ import annotations

from critical.frameworks.reading import Attention
from critical.targets.family_kinds import FAMILY_KINDS
from critical.targets.target import Target

GATED = frozenset({"afmoe", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next"})
"""Families whose attention multiplies its output by a sigmoid gate, always."""
NORMED = frozenset(
    {
        "afmoe",
        "apertus",
        "dots1",
        "exaone4",
        "flex_olmo",
        "qwen3_5_moe_text",
        "qwen3_5_text",
        "qwen3_next",
    }
)
"""Families outside of FAMILY_KINDS whose queries and keys are normalized, always."""
_NORM_KEYS = ("use_qk_norm", "qk_layernorm")
"""Keys by which a configuration turns it on, as Cohere's, and Phi's and StableLM's."""


def attention(target: Target) -> Attention:
    """Return what is known of a model's attention."""
    kinds = FAMILY_KINDS.get(target.model_type)
    qk_norm = None if kinds is None else kinds.qk_norm != "no"
    if target.model_type in NORMED:
        qk_norm = True
    for key in _NORM_KEYS:
        if isinstance(target.config.get(key), bool):
            qk_norm = bool(target.config[key])
    return Attention(qk_norm, _gated(target))


def _gated(target: Target) -> bool | None:
    stated = target.config.get("attn_output_gate")
    if target.model_type in GATED or stated is True:
        return True
    return False if target.model_type in FAMILY_KINDS or stated is False else None
