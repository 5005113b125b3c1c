"""The shape of a GPT model as Megatron-Bridge's YAML has it.

Source: megatron-bridge 0.3.1, models/gpt_provider.py: the fields are those of megatron-core's
TransformerConfig and of GPTModelProvider, with their defaults.
"""

from __future__ import annotations

from collections.abc import Iterator

from critical.frameworks.megatron_model import Experts, MegatronModel, expert_layers, padded
from critical.targets.config_keys import Keys

_NOT_OF_GPT = ("Mamba", "NemotronH", "NemotronNano", "T5", "VL", "Heterogeneous", "Distillation")
_REFUSED = (
    "multi_latent_attention", "mtp_num_layers", "moe_latent_size", "is_hybrid_model",
    "experimental_attention_variant", "heterogeneous_block_specs", "moe_use_legacy_grouped_gemm",
    "heterogeneous_layers_config_path",
)  # fmt: skip
_OF_THE_RECIPE = (
    "num_query_groups", "kv_channels", "attention_output_gate", "num_moe_experts", "qk_layernorm",
    "init_method_std", "layernorm_epsilon",
)  # fmt: skip
_NEEDED = (
    "hidden_size", "num_layers", "num_attention_heads", "ffn_hidden_size", "gated_linear_unit",
    "share_embeddings_and_output_weights", "position_embedding_type",
)  # fmt: skip


def model_of(keys: Keys) -> MegatronModel:
    """Return the model of the section ``model``.

    Raises:
        ExportError: The section leaves its shape to a recipe, or builds what is not known here.
    """
    _refuse(keys)
    missing = [name for name in _NEEDED if name not in keys.values]
    if missing and not _is_whole(keys):
        raise keys.error(
            f"the file leaves {', '.join(missing)} to the recipe: write them, or write the whole "
            "configuration that logger.save_config_filepath saves"
        )
    width = keys.integer(("hidden_size",), high=10**6)
    heads = keys.integer(("num_attention_heads",), high=10**5)
    depth = keys.integer(("num_layers",), high=10**5)
    inner = keys.integer(("ffn_hidden_size",), 4 * width, high=10**8)
    learned = keys.text("position_embedding_type", "learned_absolute") == "learned_absolute"
    if width % heads and keys.values.get("kv_channels") is None:
        raise keys.error(
            f"num_attention_heads {heads} does not divide hidden_size {width}: write a divisor, or "
            "kv_channels"
        )
    return MegatronModel(
        width=width,
        depth=depth,
        inner=inner,
        heads=heads,
        groups=keys.integer(("num_query_groups",), heads, high=10**5),
        channels=keys.integer(("kv_channels",), width // heads, high=10**6),
        gated=keys.boolean("gated_linear_unit", False),
        output_gate=keys.boolean("attention_output_gate", False),
        vocabulary=_vocabulary(keys),
        positions=keys.integer(("seq_length",), 1024, high=10**8) if learned else 0,
        tied=keys.boolean("share_embeddings_and_output_weights", True),
        experts=_experts(keys, depth, inner),
    )


def assumed(keys: Keys) -> Iterator[str]:
    """Yield sentences on what the file does not tell of the model."""
    left = [f"model.{name}" for name in _OF_THE_RECIPE if name not in keys.values]
    if left and not _is_whole(keys):
        yield (
            f"{', '.join(left)} are the recipe's where the file does not give them: the defaults "
            "of Megatron-Bridge's GPTModelProvider are taken"
        )
    if keys.values.get("vocab_size") is None:
        yield (
            "how many rows the embedding has is the tokenizer's to say, and shown as 0 here: "
            "model.vocab_size would tell"
        )


def _is_whole(keys: Keys) -> bool:
    """Return whether the section is one that Megatron-Bridge saved, with all its fields."""
    return "_target_" in keys.values


def _refuse(keys: Keys) -> None:
    target = str(keys.values.get("_target_", "")).rpartition(".")[2]
    if any(part in target for part in _NOT_OF_GPT):
        raise keys.error(
            f"{target[:60]} builds matrices that are not listed here: write the configuration of "
            "a GPT model"
        )
    for name in _REFUSED:
        if keys.values.get(name):
            raise keys.error(f"{name} builds matrices that are not listed here: remove it")
    if keys.values.get("perform_initialization") is False:
        raise keys.error("perform_initialization false draws nothing: write true")


def _vocabulary(keys: Keys) -> int:
    if keys.values.get("vocab_size") is None:
        return 0
    rows = keys.integer(("vocab_size",), high=10**8)
    if not keys.boolean("should_pad_vocab", False):
        return rows
    divisor = keys.integer(("make_vocab_size_divisible_by",), 128, high=10**6)
    return padded(rows, divisor, keys.integer(("tensor_model_parallel_size",), 1, high=10**5))


def _experts(keys: Keys, depth: int, inner: int) -> Experts | None:
    count = keys.integer(("num_moe_experts",), 0, low=0, high=10**5)
    if not count:
        return None
    layers = expert_layers(keys.values.get("moe_layer_freq", 1), depth)
    if layers is None:
        raise keys.error(f"moe_layer_freq is no number, nor a list of {depth} zeros and ones")
    shared = ("moe_shared_expert_intermediate_size",)
    return Experts(
        count=count,
        inner=keys.integer(("moe_ffn_hidden_size",), inner, high=10**8),
        layers=layers,
        grouped=keys.boolean("moe_grouped_gemm", False),
        shared=keys.integer(shared, 0, low=0, high=10**8),
        shared_gate=keys.boolean("moe_shared_expert_gate", False),
    )
