# pip: torch==2.13.0 megatron-core==0.16.1 numpy
"""Checks an export for Megatron-LM against the GPT models that megatron-core 0.16 builds.

    python check_megatron.py BUNDLE OUT.json

"edit" is the model of the bundle's options, "hook" the same with critical_init.apply on its
TransformerConfig. Both are built on the CPU (gloo, one process, --use-cpu-initialization).
"""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from measuring import compared, main, report_of, stds
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_decoder_block_spec
from megatron.core.transformer import TransformerConfig

_INTEGERS = (
    "num-layers", "hidden-size", "ffn-hidden-size", "num-attention-heads", "num-query-groups",
    "kv-channels", "max-position-embeddings", "seq-length", "vocab-size", "num-experts",
    "moe-ffn-hidden-size", "moe-layer-freq", "moe-shared-expert-intermediate-size",
)  # fmt: skip
_FLAGS = (
    "swiglu", "disable-bias-linear", "untie-embeddings-and-output-weights", "qk-layernorm",
    "group-query-attention", "attention-output-gate",
)  # fmt: skip


def options(path: Path) -> argparse.Namespace:
    """Read the options of a small model, as Megatron-LM's parser does."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in _INTEGERS:
        parser.add_argument(f"--{name}", type=int)
    for name in _FLAGS:
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--init-method-std", type=float, default=0.02)
    parser.add_argument("--embedding-init-method-std", type=float)
    parser.add_argument("--normalization", default="LayerNorm")
    parser.add_argument("--position-embedding-type", default="learned_absolute")
    return parser.parse_args(shlex.split(path.read_text("utf-8"), comments=True))


def built(args: argparse.Namespace, rows: int, hook: Any = None) -> GPTModel:  # noqa: ANN401 (a module)
    """Build the model of the options, drawn with the hook's functions where there is one.

    Args:
        args: The options.
        rows: Of the embedding, padded.
        hook: The bundle's module, or None.
    """
    torch.manual_seed(1)
    config = TransformerConfig(
        num_layers=args.num_layers,
        hidden_size=args.hidden_size,
        ffn_hidden_size=args.ffn_hidden_size,
        num_attention_heads=args.num_attention_heads,
        num_query_groups=args.num_query_groups if args.group_query_attention else None,
        kv_channels=args.kv_channels,
        gated_linear_unit=args.swiglu,
        activation_func=torch.nn.functional.silu if args.swiglu else torch.nn.functional.gelu,
        attention_output_gate=args.attention_output_gate,
        add_bias_linear=not args.disable_bias_linear,
        normalization=args.normalization,
        qk_layernorm=args.qk_layernorm,
        init_method_std=args.init_method_std,
        embedding_init_method_std=args.embedding_init_method_std,
        num_moe_experts=args.num_experts,
        moe_ffn_hidden_size=args.moe_ffn_hidden_size,
        moe_layer_freq=args.moe_layer_freq or 1,
        moe_shared_expert_intermediate_size=args.moe_shared_expert_intermediate_size,
        use_cpu_initialization=True,
    )
    if hook is not None:
        hook.apply(config)
    return GPTModel(
        config=config,
        transformer_layer_spec=get_gpt_decoder_block_spec(config, use_transformer_engine=False),
        vocab_size=rows,
        max_sequence_length=args.max_position_embeddings,
        position_embedding_type=args.position_embedding_type,
        share_embeddings_and_output_weights=not args.untie_embeddings_and_output_weights,
    )


def check(bundle: Path) -> dict[str, Any]:
    """Return the rows of a bundle."""
    report = report_of(bundle)
    with tempfile.TemporaryDirectory() as folder:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/store", rank=0, world_size=1
        )
        parallel_state.initialize_model_parallel()
        args = options(bundle / report["files"]["configuration"])
        rows = report["matrices"][0]["shape"][0]
        edited, hooked = stds(built(args, rows), report), None
        if report["files"]["hook"]:
            sys.path.insert(0, str(bundle))
            hook = importlib.import_module("critical_init")
            hooked = stds(built(args, rows, hook), report)
        torch.distributed.destroy_process_group()
    return compared(report, edited, hooked)


if __name__ == "__main__":
    main(check)
