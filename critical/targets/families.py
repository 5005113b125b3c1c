"""What transformers takes for a key that a family's config.json leaves out.

Source: the configuration classes of transformers 5.23; tests compare every line with them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """The defaults of one ``model_type``.

    Attributes:
        tied: Whether input and output embeddings are one matrix.
        kv_heads: Key and value heads; None for as many as there are heads.
        head_dim: Dimension of a head, of its values where that is another; None for width / heads.
        norm_eps: ε of the norms.
        initializer: The std that the initializer takes.
        initializer_key: The key that holds that std.
        wide_feed_forward: Whether a feed-forward size left out, or null, is 4 × width.
    """

    tied: bool = False
    kv_heads: int | None = None
    head_dim: int | None = None
    norm_eps: float = 1e-5
    initializer: float = 0.02
    initializer_key: str = "initializer_range"
    wide_feed_forward: bool = False


FAMILIES = {
    "bloom": Family(tied=True, wide_feed_forward=True),
    "codegen": Family(wide_feed_forward=True),
    "cohere": Family(tied=True),
    "cohere2": Family(tied=True),
    "deepseek_v2": Family(head_dim=128, norm_eps=1e-6),
    "deepseek_v3": Family(kv_heads=128, head_dim=128, norm_eps=1e-6),
    "falcon": Family(tied=True, wide_feed_forward=True),
    "gemma": Family(tied=True, kv_heads=16, head_dim=256, norm_eps=1e-6),
    "gemma2": Family(tied=True, kv_heads=4, head_dim=256, norm_eps=1e-6),
    "gemma3_text": Family(tied=True, kv_heads=4, head_dim=256, norm_eps=1e-6),
    "gpt2": Family(tied=True, wide_feed_forward=True),
    "gpt_bigcode": Family(tied=True, kv_heads=1, wide_feed_forward=True),
    "gpt_neo": Family(tied=True, wide_feed_forward=True),
    "gpt_neox": Family(),
    "gptj": Family(wide_feed_forward=True),
    "granite": Family(norm_eps=1e-6),
    "jetmoe": Family(tied=True, kv_heads=16, head_dim=128, norm_eps=1e-6, initializer=0.01),
    "llama": Family(norm_eps=1e-6),
    "minicpm3": Family(tied=True, kv_heads=40, initializer=0.1),
    "mistral": Family(kv_heads=8, norm_eps=1e-6),
    "mixtral": Family(kv_heads=8),
    "nemotron": Family(initializer=0.0134),
    "olmo": Family(),
    "olmo2": Family(),
    "olmo3": Family(),
    "olmoe": Family(),
    "opt": Family(tied=True, initializer_key="init_std"),
    "phi": Family(),
    "phi3": Family(),
    "qwen2": Family(kv_heads=32, norm_eps=1e-6),
    "qwen2_moe": Family(kv_heads=16, norm_eps=1e-6),
    "qwen3": Family(kv_heads=32, head_dim=128, norm_eps=1e-6),
    "qwen3_moe": Family(kv_heads=4, norm_eps=1e-6),
    "smollm3": Family(tied=True, kv_heads=4, norm_eps=1e-6),
    "stablelm": Family(kv_heads=32),
    "starcoder2": Family(tied=True, kv_heads=2, initializer=0.018042),
    "xglm": Family(tied=True, initializer_key="init_std"),
}

UNKNOWN = Family()
"""What a family that is not listed is taken to default to."""
