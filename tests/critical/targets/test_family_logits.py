"""The built-in proxy against each family's own model: the same parameters, the same logits.

The families differ in names and in how queries, keys and values are fused, and in nothing else: so
equal logits after copying mean that the two compute the same function.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from critical.targets.architecture import hf_config, read_architecture
from critical.targets.family_kinds import FAMILY_KINDS
from critical.targets.target import Target, parse_target
from critical.trials import ProxyRun, Scale
from critical.trials.hf_model import HFDecoder
from critical.trials.initialization import initialize
from critical.trials.model import Decoder
from critical.trials.settings import effective_shape

_EMBEDDING = ("embed_tokens", "wte", "embed_in", "word_embeddings")
_POSITION = ("embed_positions", "wpe")
_FUSED = ("c_attn", "query_key_value", "qkv_proj")
_OUTPUT = ("o_proj", "out_proj", "dense", "attn.c_proj")
_GATE = ("gate_proj",)
_UP = ("up_proj", "fc1", "c_fc", "fc_in", "dense_h_to_4h")
_DOWN = ("down_proj", "fc2", "mlp.c_proj", "fc_out", "dense_4h_to_h")
_BEFORE_OPT = 2
"""Rows of its table of positions that OPT does not use."""
RUN = ProxyRun(0.4, None, Scale(32, 2, 4, 1), seed=0)
LLAMA_KEYS: dict[str, Any] = {
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 352,
    "vocab_size": 320,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
}
MULTI_HEAD_KEYS = {
    key: value
    for key, value in LLAMA_KEYS.items()
    if key not in ("num_key_value_heads", "intermediate_size")
}
GPT_KEYS: dict[str, Any] = {
    "n_embd": 128,
    "n_layer": 4,
    "n_head": 8,
    "n_positions": 512,
    "vocab_size": 320,
}
KEYS: dict[str, dict[str, Any]] = {
    "gpt2": GPT_KEYS,
    "gpt_bigcode": GPT_KEYS,
    "gptj": {**GPT_KEYS, "rotary_dim": 8},
    "opt": {**MULTI_HEAD_KEYS, "ffn_dim": 512, "word_embed_proj_dim": 128},
    "qwen3": {**LLAMA_KEYS, "head_dim": 32, "rope_theta": 1e6},
    "llama": {**LLAMA_KEYS, "rope_theta": 5e5, "attention_bias": True, "mlp_bias": True},
    "gemma": {**LLAMA_KEYS, "head_dim": 32},
    "gemma2": {**LLAMA_KEYS, "head_dim": 32, "query_pre_attn_scalar": 16},
    "gemma3_text": {
        **LLAMA_KEYS, "head_dim": 32, "query_pre_attn_scalar": 32,
        "layer_types": ["full_attention"] * 4, "final_logit_softcapping": 2.0,
    },
    "gpt_neox": {
        **MULTI_HEAD_KEYS, "intermediate_size": 512, "rotary_pct": 0.5, "rotary_emb_base": 500,
    },
    "stablelm": {**LLAMA_KEYS, "use_qkv_bias": True, "use_parallel_residual": True},
    "smollm3": {**LLAMA_KEYS, "no_rope_layers": [1, 1, 1, 1]},
    "granite": {**LLAMA_KEYS, "attention_multiplier": 8**-0.5},
    "cohere": {**LLAMA_KEYS, "logit_scale": 1.0},
    "cohere2": {**LLAMA_KEYS, "logit_scale": 1.0, "no_rope_layers": [1, 1, 1, 1]},
    "falcon": {**MULTI_HEAD_KEYS, "bias": True},
    "phi3": {**LLAMA_KEYS, "pad_token_id": 0},
}  # fmt: skip
DENSE = sorted(FAMILY_KINDS.keys() - {
    "bloom", "codegen", "deepseek_v2", "deepseek_v3", "minicpm3", "mixtral", "olmoe", "qwen2_moe",
    "qwen3_moe",
})  # fmt: skip
"""Families that the built-in proxy has as they are; the others lack something, and it is said."""
INTERLEAVED = {"gptj", "cohere", "cohere2"}
"""Rotary pairs lie side by side, and not half a head apart: the same up to the order of rows."""


def target_of(family: str, **changes: object) -> Target:
    """Parse a small configuration of a family."""
    keys = {**KEYS.get(family, LLAMA_KEYS), **changes}
    return parse_target(json.dumps({"model_type": family, **keys}), "config.json")


def proxies(target: Target) -> tuple[HFDecoder, Decoder]:
    """Build the family's own proxy and the built-in one, drawn at one γ."""
    architecture, _ = read_architecture(target)
    own = HFDecoder.of_run(
        hf_config(target), RUN, architecture, target_width=target.width, vocabulary=96, longest=16
    )
    shape = effective_shape(architecture, RUN, target_width=None, vocabulary=96, longest=16)
    ours = Decoder(shape)
    for model in (own, ours):
        initialize(model, RUN.gamma)
    return own, ours


def sizes(model: nn.Module, *, matrices: bool) -> int:
    """Count the numbers in a model's matrices, or in its gains and biases."""
    return sum(p.numel() for p in model.parameters() if (p.ndim >= 2) == matrices)


@pytest.mark.parametrize("family", DENSE)
def test_the_built_in_proxy_has_the_familys_parameters(family: str) -> None:
    """As many in matrices, and as many in gains and biases, however they are fused."""
    own, ours = proxies(target_of(family))
    unused = 2 * 32 if family == "opt" else 0  # rows of its table of positions
    assert sizes(own, matrices=True) - unused == sizes(ours, matrices=True)
    assert sizes(own, matrices=False) == sizes(ours, matrices=False)


@torch.no_grad()
@pytest.mark.parametrize("family", sorted(set(DENSE) - INTERLEAVED))
def test_the_built_in_proxy_computes_the_familys_function(family: str) -> None:
    """With its weights and random biases, the logits are the same to 1e-4 of their spread."""
    own, ours = proxies(target_of(family))
    generator = torch.Generator().manual_seed(0)
    for name, parameter in own.named_parameters():
        if name.endswith("bias") and "norm" not in name and "ln_" not in name:
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    copy_weights(own, ours, family)
    tokens = torch.randint(96, (3, 12), generator=generator)
    (theirs,), (found,) = own([tokens], [12]), ours([tokens], [12])
    assert theirs.std() > 0.05
    assert (found - theirs).abs().max() < 1e-4 * max(1.0, float(theirs.std()))
    torch.testing.assert_close(
        ours.first_token_attention(tokens), own.first_token_attention(tokens), rtol=1e-4, atol=1e-5
    )


@torch.no_grad()
def copy_weights(own: nn.Module, ours: Decoder, family: str) -> None:
    """Copy embedding, positions, projections with their biases, and the head; norms are left."""
    ours.embedding.weight.copy_(_found(own, _EMBEDDING).weight)
    if ours.position is not None:
        skipped = _BEFORE_OPT if family == "opt" else 0
        ours.position.weight.copy_(_found(own, _POSITION).weight[skipped:])
    _copy(ours.head, *_of_linear(_found(own, ("lm_head", "embed_out"))))
    layers = next(m for m in own.modules() if isinstance(m, nn.ModuleList))
    for theirs, block in zip(layers, ours.blocks, strict=True):
        _copy_block(theirs, block, family)


def _copy_block(theirs: nn.Module, block: Any, family: str) -> None:
    attention, feed_forward = block.attention, block.feed_forward
    _copy(attention.qkv_proj, *_queries_keys_values(theirs, attention.heads, family))
    _copy(attention.o_proj, *_of_linear(_found(theirs, _OUTPUT)))
    _copy(feed_forward.down_proj, *_of_linear(_found(theirs, _DOWN)))
    if family == "phi3":
        _copy(feed_forward.gate_up_proj, *_of_linear(_found(theirs, ("gate_up_proj",))))
    elif feed_forward.gated:
        _copy(feed_forward.gate_up_proj, *_joined(theirs, (*_GATE, "up_proj")))
    else:
        _copy(feed_forward.up_proj, *_of_linear(_found(theirs, _UP)))


def _queries_keys_values(
    theirs: nn.Module, heads: int, family: str
) -> tuple[Tensor, Tensor | None]:
    fused = next(_named(theirs, _FUSED), None)
    if fused is None:
        return _joined(theirs, ("q_proj", "k_proj", "v_proj"))
    weight, bias = _of_linear(fused)
    if family == "gpt_neox":  # query, key and value of one head, then of the next
        return _by_kind(weight, heads), None if bias is None else _by_kind(bias, heads)
    return weight, bias


def _by_kind(rows: Tensor, heads: int) -> Tensor:
    split = rows.view(heads, 3, -1, *rows.shape[1:])
    return split.transpose(0, 1).reshape(rows.shape)


def _joined(theirs: nn.Module, names: tuple[str, ...]) -> tuple[Tensor, Tensor | None]:
    parts = [_of_linear(_found(theirs, (name,))) for name in names]
    biases = [bias for _, bias in parts if bias is not None]
    return torch.cat([weight for weight, _ in parts]), torch.cat(biases) if biases else None


def _of_linear(module: Any) -> tuple[Tensor, Tensor | None]:
    weight = module.weight.T if type(module).__name__ == "Conv1D" else module.weight
    return weight, module.bias if hasattr(module, "bias") else None


def _found(module: nn.Module, names: tuple[str, ...]) -> Any:
    return next(_named(module, names))


def _named(module: nn.Module, names: tuple[str, ...]) -> Iterator[nn.Module]:
    for name, part in module.named_modules():
        if f".{name}".endswith(tuple(f".{each}" for each in names)):
            yield part


def _copy(linear: nn.Linear, weight: Tensor, bias: Tensor | None) -> None:
    linear.weight.copy_(weight)
    assert (linear.bias is None) == (bias is None)
    if bias is not None:
        linear.bias.copy_(bias)
