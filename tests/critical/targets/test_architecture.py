"""A target's architecture: what its proxies have of it, and what is said that they lack."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

import pytest

from critical.errors import TargetError
from critical.targets.architecture import hf_config, hf_not_carried, read_architecture
from critical.targets.family_kinds import FAMILY_KINDS
from critical.targets.target import Target, parse_target
from critical.trials.architecture import LLAMA, Architecture, Kinds

SHAPE: dict[str, Any] = {
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 320,
    "rms_norm_eps": 1e-5,
}


def target_of(family: str, **changes: object) -> Target:
    """Parse a small configuration of a family."""
    inner = "ffn_dim" if family == "opt" else "intermediate_size"
    keys = {"model_type": family, **SHAPE, inner: 352, **changes}
    return parse_target(json.dumps(keys), "config.json")


def test_every_family_is_known_to_transformers() -> None:
    """No line of the table is for a name that does not exist."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    assert all(family in CONFIG_MAPPING for family in FAMILY_KINDS)


def test_proportions_are_the_targets() -> None:
    """Feed-forward, heads and key and value heads, ε and tying."""
    architecture, lacks = read_architecture(
        target_of("qwen3", tie_word_embeddings=True, head_dim=32, rope_theta=1e6)
    )
    assert architecture == Architecture(
        feed_forward_ratio=352 / 128,
        attention_ratio=2.0,
        kv_ratio=0.5,
        norm_eps=1e-5,
        tied=True,
        kinds=Kinds(qk_norm="head", rotary_base=1e6),
    )
    assert lacks == ()


@pytest.mark.parametrize(
    ("family", "keys", "expected"),
    [
        ("llama", {"hidden_act": "gelu"}, {"activation": "gelu"}),
        ("llama", {"rope_parameters": {"rope_theta": 7e4}, "rope_theta": None},
         {"rotary_base": 7e4}),
        ("gemma2", {"attn_logit_softcapping": None}, {"attention_cap": None, "logit_cap": 30.0}),
        ("gpt_neox", {"use_parallel_residual": False}, {"parallel": "no"}),
        ("gpt_neox", {"attention_bias": False}, {"qkv_bias": False, "feed_forward_bias": True}),
        ("falcon", {"parallel_attn": False, "bias": True}, {"parallel": "no", "qkv_bias": True}),
        ("falcon", {"new_decoder_architecture": True}, {"parallel": "own_norms"}),
        ("phi", {"partial_rotary_factor": 0.25, "qk_layernorm": True},
         {"rotary_fraction": 0.25, "qk_norm": "head"}),
        ("gptj", {"rotary_dim": 8}, {"rotary_fraction": 0.5, "head_bias": True}),
        ("qwen2", {"attention_bias": False}, {"qkv_bias": True, "output_bias": False}),
    ],
)  # fmt: skip
def test_a_configuration_betters_its_familys_kinds(
    family: str, keys: dict[str, object], expected: dict[str, object]
) -> None:
    """What it says is what the proxy has; what it leaves out is the family's."""
    kinds = read_architecture(target_of(family, **keys))[0].kinds
    assert {name: getattr(kinds, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("family", "keys", "message"),
    [
        ("mixtral", {"num_local_experts": 8}, "a mixture of 8 experts"),
        ("deepseek_v3", {"kv_lora_rank": 16, "v_head_dim": 16}, "latent attention"),
        ("llama", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "scaled as llama3"),
        ("gemma3_text", {}, "a rotary base of its own in sliding layers"),
        ("smollm3", {"no_rope_layers": [1, 1, 1, 0]}, "blocks without positions"),
        ("smollm3", {"no_rope_layers": None}, "blocks without positions"),
        ("granite", {"embedding_multiplier": 12.0},
         r"constant factors \(attention_multiplier, embedding_multiplier\)"),
        ("bloom", {}, "ALiBi positions"),
        ("bloom", {}, "a norm of the embedding"),
        ("opt", {"do_layer_norm_before": False}, "norms of the residual stream itself"),
        ("opt", {"word_embed_proj_dim": 64}, "a projection of the embedding"),
        ("olmo", {"clip_qkv": 8.0}, "clipped queries, keys and values"),
        ("llama", {"hidden_act": "xielu"}, "the target's activation is not known here"),
        ("mistral", {"sliding_window": 8}, "sliding windows of 8 tokens"),
        ("lfm2", {"conv_L_cache": 3, "layer_types": ["conv", "full_attention"]}, "layers of conv"),
        ("exaone4", {}, "how exaone4 builds its layers is not known here"),
    ],
)  # fmt: skip
def test_what_the_proxy_lacks_is_said(family: str, keys: dict[str, object], message: str) -> None:
    """In a sentence, with the option that would keep it."""
    lacks = read_architecture(target_of(family, **keys))[1]
    assert Counter(message.replace("\\", "") in each for each in lacks)[True] == 1
    assert any("--proxy hf" in each for each in lacks if message.replace("\\", "") in each)


def test_no_proxy_has_long_windows() -> None:
    """So the other proxy is not advised for them."""
    (found,) = read_architecture(target_of("mistral", sliding_window=4096))[1]
    assert found.startswith("sliding windows of 4096 tokens")
    assert "--proxy" not in found


def test_an_unknown_family_is_taken_for_a_llama() -> None:
    """In the target's proportions."""
    architecture, _ = read_architecture(target_of("exaone4"))
    assert architecture.kinds == LLAMA
    assert architecture.feed_forward_ratio == 352 / 128


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"hidden_act": 3}, "the activation is no text"),
        ({"attention_bias": "yes"}, "attention_bias is the string 'yes': write true or false"),
        ({"rope_theta": -1}, "rope_theta is -1.0: write a number above 0"),
    ],
)
def test_a_key_of_another_type_is_named(keys: dict[str, object], message: str) -> None:
    """With the file and what to write."""
    with pytest.raises(TargetError, match=rf"config\.json: .*{message}"):
        read_architecture(target_of("llama", **keys))


def test_reading_needs_no_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The built-in proxy of any family can be planned without it."""
    monkeypatch.setitem(sys.modules, "transformers", None)
    for family in FAMILY_KINDS:
        assert read_architecture(target_of(family))[0].kinds


def test_the_configuration_for_transformers_has_no_initializer() -> None:
    """γ takes its place, and an exported γ* must not make another proxy of the same target."""
    one, other = target_of("llama"), target_of("llama", initializer_range=0.004)
    assert hf_config(one) == hf_config(other)
    assert json.loads(hf_config(one))["tie_word_embeddings"] is False


def test_the_familys_own_proxy_says_what_it_lacks() -> None:
    """Fewer experts, and no gate where it would be searched."""
    dense, sparse = target_of("llama"), target_of("mixtral", num_local_experts=8)
    assert hf_not_carried(dense, ("target",)) == ()
    experts, gate = hf_not_carried(sparse, ("target", "relaxed"))
    assert experts == "a mixture of 8 experts: the proxies have 4"
    assert "no gate" in gate


@pytest.mark.parametrize(
    ("window", "built_in", "own"),
    [
        (63, "--proxy hf keeps the target's", False),
        (64, "sees all before", True),
        (4096, "sees all before", True),
    ],
)
def test_windows_wider_than_a_sequence_are_told_of_any_proxy(
    window: int, built_in: str, own: bool
) -> None:
    """Narrower ones are kept by the family's own model, and it says nothing of them."""
    target = target_of("mistral", sliding_window=window)
    (found,) = read_architecture(target)[1]
    assert found.startswith(f"sliding windows of {window} tokens")
    assert built_in in found
    assert hf_not_carried(target, ("target",)) == ((found,) if own else ())
