"""What a plan says of the target is what its configuration says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from critical.targets.recognised import recognised
from critical.targets.target import read_target

CONFIG = {
    "hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8,
    "intermediate_size": 1376, "vocab_size": 32000, "initializer_range": 0.02,
}  # fmt: skip
STD = "its initializer, std 0.02, is γ 0.627"


@pytest.mark.parametrize(
    ("keys", "parts"),
    [
        (
            {"model_type": "llama", "rms_norm_eps": 1e-5, "tie_word_embeddings": False},
            "llama of width 512: 8 blocks of 8 heads, feed-forward 1,376 (silu, gated), "
            "RMSNorm with ε 1e-05 before each layer, rotary positions, a vocabulary of 32,000, "
            "not tied",
        ),
        (
            {"model_type": "qwen3", "head_dim": 128, "num_key_value_heads": 2,
             "rms_norm_eps": 1e-6, "tie_word_embeddings": True},
            "qwen3 of width 512: 8 blocks of 8 heads of dimension 128 sharing 2 of keys and "
            "values, feed-forward 1,376 (silu, gated), RMSNorm with ε 1e-06 before each layer, "
            "norms of queries and keys, rotary positions, a vocabulary of 32,000, tied",
        ),
        (
            {"model_type": "gpt_neox", "layer_norm_eps": 1e-5, "hidden_act": "gelu",
             "tie_word_embeddings": False},
            "gpt_neox of width 512: 8 blocks of 8 heads, feed-forward 1,376 (gelu), LayerNorm "
            "with ε 1e-05 before each layer, attention and feed-forward in parallel, rotary "
            "positions, a vocabulary of 32,000, not tied",
        ),
        (
            {"model_type": "never_heard_of", "tie_word_embeddings": False},
            "never_heard_of of width 512: 8 blocks of 8 heads, feed-forward 1,376, a vocabulary "
            "of 32,000, not tied",
        ),
    ],
)  # fmt: skip
def test_the_sentence(keys: dict[str, Any], parts: str, tmp_path: Path) -> None:
    """Sizes and kinds where the family is known, sizes alone where it is not."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**CONFIG, **keys}))
    assert recognised(read_target(path)) == f"the target is a {parts}; {STD}"
