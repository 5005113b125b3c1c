"""The families of flash-linear-attention that transformers does not know.

Source: the configuration classes of flash-linear-attention 0.6.0, less those that transformers
5.23 has under the same name (mamba, mamba2, bitnet).
"""

from __future__ import annotations

OF_FLA_ONLY = frozenset(
    {
        "abc",
        "cat",
        "comba",
        "cyclic_flow_attention",
        "delta_net",
        "deltaformer",
        "forgetting_transformer",
        "gated_deltanet",
        "gated_deltaproduct",
        "gla",
        "gsa",
        "hgrn",
        "hgrn2",
        "kda",
        "lightnet",
        "linear_attn",
        "log_linear_mamba2",
        "mamba3",
        "mesa_net",
        "mla",
        "moba",
        "mom",
        "nsa",
        "parallax",
        "path_attn",
        "precond_gated_deltanet",
        "precond_kda",
        "raven",
        "retnet",
        "rodimus",
        "rwkv6",
        "rwkv7",
        "samba",
        "stickbreaking_attn",
        "transformer",
        "wall_transformer",
        "yoco",
    }
)
