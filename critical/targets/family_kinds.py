"""Of which kind the parts of each family's decoder are, before its configuration's own keys.

Source: the models of transformers 5.23; tests compare every line with them, parameter by parameter
and, where weights can be copied, logit by logit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from critical.trials.architecture import LLAMA, Kinds

_GEMMA = Kinds(activation="gelu_tanh", scaled_embedding=True)
_LAYER_NORM = Kinds(norm="layer", gated=False, feed_forward_bias=True)
_GPT = replace(_LAYER_NORM, activation="gelu_tanh", qkv_bias=True, output_bias=True)
_GPTJ = replace(
    _LAYER_NORM,
    activation="gelu_tanh",
    parallel="shared_norm",
    head_bias=True,
)
_COHERE = Kinds(norm="layer", norm_bias=False, parallel="shared_norm", rotary_base=500_000.0)
_QWEN3 = Kinds(qk_norm="head")
_OLMO2 = Kinds(placement="post", qk_norm="all")

FAMILY_KINDS: Mapping[str, Kinds] = {
    "bloom": _GPT,
    "codegen": _GPTJ,
    "cohere": _COHERE,
    "cohere2": replace(_COHERE, rotary_base=10_000.0),
    "deepseek_v2": LLAMA,
    "deepseek_v3": LLAMA,
    "falcon": Kinds(norm="layer", gated=False, activation="gelu", parallel="shared_norm"),
    "gemma": _GEMMA,
    "gemma2": replace(_GEMMA, placement="sandwich", attention_cap=50.0, logit_cap=30.0),
    "gemma3_text": replace(_GEMMA, placement="sandwich", qk_norm="head", rotary_base=1_000_000.0),
    "gpt2": replace(_GPT, positions="learned"),
    "gpt_bigcode": replace(_GPT, positions="learned"),
    "gpt_neox": replace(_GPT, activation="gelu", parallel="own_norms", rotary_fraction=0.25),
    "gptj": _GPTJ,
    "granite": LLAMA,
    "llama": LLAMA,
    "minicpm3": LLAMA,
    "mistral": LLAMA,
    "mixtral": replace(LLAMA, rotary_base=1_000_000.0),
    "nemotron": Kinds(norm="layer", gated=False, activation="relu2", rotary_fraction=0.5),
    "olmo": Kinds(norm="layer", norm_gain=False),
    "olmo2": _OLMO2,
    "olmo3": replace(_OLMO2, rotary_base=500_000.0),
    "olmoe": Kinds(qk_norm="all"),
    "opt": replace(_GPT, activation="relu", positions="learned"),
    "phi": replace(_GPT, parallel="shared_norm", head_bias=True, rotary_fraction=0.5),
    "phi3": LLAMA,
    "qwen2": replace(LLAMA, qkv_bias=True),
    "qwen2_moe": replace(LLAMA, qkv_bias=True),
    "qwen3": _QWEN3,
    "qwen3_moe": _QWEN3,
    "smollm3": replace(LLAMA, rotary_base=2_000_000.0),
    "stablelm": Kinds(norm="layer", rotary_fraction=0.25),
    "starcoder2": _GPT,
}
