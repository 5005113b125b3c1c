"""The list of matrices is what transformers builds, and each std is what transformers draws."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from logging import Handler, LogRecord
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import logging

from critical.errors import TargetError
from critical.targets.layout import pattern
from critical.targets.matrices import LLAMA_LIKE, Matrix, matrices, rates
from critical.targets.meta_model import Recorder, build
from critical.targets.target import Target, parse_target

SHAPE: dict[str, Any] = {
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 160,
    "vocab_size": 320,
    "initializer_range": 0.013,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2: dict[str, Any] = {
    "model_type": "gpt2",
    "n_embd": 96,
    "n_layer": 3,
    "n_head": 6,
    "n_positions": 64,
    "vocab_size": 320,
    "initializer_range": 0.013,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS: dict[str, Any] = {
    "num_local_experts": 4,
    "num_experts": 4,
    "moe_intermediate_size": 48,
    "num_experts_per_tok": 2,
    "head_dim": 16,
}
LATENT: dict[str, Any] = {
    **EXPERTS,
    "num_key_value_heads": 6,
    "n_routed_experts": 4,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "q_lora_rank": 24,
    "kv_lora_rank": 20,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 12,
    "v_head_dim": 16,
    "head_dim": 8,
}


def target_of(model_type: str, **changes: object) -> Target:
    """Parse a tiny configuration of a family."""
    return parse_target(
        json.dumps({**SHAPE, "model_type": model_type, **changes}), f"{model_type}.json"
    )


def by_end(target: Target) -> dict[str, Matrix]:
    """Return a target's matrices by the last two parts of their names."""
    return {
        ".".join(each.name.removesuffix(".weight").split(".")[-2:]): each
        for each in matrices(target)
    }


def drawn(target: Target) -> dict[tuple[str, tuple[int, ...]], list[float]]:
    """Build a model for real and return the std of each parameter that is no vector."""
    torch.manual_seed(0)
    config = CONFIG_MAPPING[target.model_type].from_dict(dict(target.config))
    stds: dict[tuple[str, tuple[int, ...]], list[float]] = {}
    for name, parameter in AutoModelForCausalLM.from_config(config).named_parameters():
        if parameter.dim() > 1 and not name.endswith("bias"):
            key = (pattern(name), tuple(parameter.shape))
            stds.setdefault(key, []).append(float(parameter.detach().double().std()))
    return stds


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", sorted(LLAMA_LIKE))
def test_the_analytic_list_is_what_transformers_builds(family: str, tied: bool) -> None:
    """Names, counts, shapes, fan-ins, kinds and std agree, tied and untied."""
    target = target_of(family, tie_word_embeddings=tied)
    assert matrices(target) == build(target)
    assert [each.kind for each in matrices(target)].count("head") == (0 if tied else 1)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma"])
def test_heads_wider_than_the_model_have_their_own_fan_in(family: str) -> None:
    """With head_dim given, o_proj reads heads · head_dim."""
    target = target_of(family, head_dim=32)
    assert matrices(target) == build(target)
    assert by_end(target)["self_attn.o_proj"].fan_in == 6 * 32


def test_a_missing_key_means_what_it_means_to_transformers() -> None:
    """Left-out heads, head_dim and tying give the same matrices as transformers' defaults."""
    for family in ("llama", "gemma", "qwen3", "smollm3"):
        document = {**SHAPE, "model_type": family, "num_attention_heads": 32}
        del document["num_key_value_heads"]
        target = parse_target(json.dumps({**document, "hidden_size": 128}), "config.json")
        assert matrices(target) == build(target)


@pytest.mark.parametrize(
    "target",
    [
        parse_target(json.dumps(GPT2), "gpt2.json"),
        parse_target(json.dumps({**GPT2, "n_inner": 200, "model_type": "gpt_bigcode"}), "c.json"),
        target_of("gpt_neox"),
        target_of("opt", ffn_dim=160, init_std=0.006, word_embed_proj_dim=48),
        target_of("nanochat"),
        target_of("falcon", num_kv_heads=6, num_key_value_heads=None),
        target_of("qwen3_moe", **EXPERTS),
        target_of("mixtral", **EXPERTS),
        target_of("gpt_oss", **EXPERTS),
        target_of("deepseek_v3", **LATENT),
    ],
    ids=lambda target: target.model_type,
)
def test_every_other_family_is_recorded_as_it_draws(target: Target) -> None:
    """Each matrix of a model built for real has the recorded std, and none is left out."""
    real = drawn(target)
    recorded = {(each.name, each.shape): each for each in matrices(target)}
    assert recorded.keys() == real.keys()
    for key, matrix in recorded.items():
        assert matrix.count == len(real[key])
        size = float(torch.Size(matrix.shape).numel())
        for std in real[key]:
            tolerance = max(4 / (2 * size) ** 0.5, 0.005)
            assert std == pytest.approx(matrix.configured_std, rel=tolerance), key


def test_gpt2_is_stored_in_out_and_scales_its_residual_projections() -> None:
    """Conv1D's first dimension is the fan-in; c_proj is drawn with std / √(2 · layers)."""
    target = parse_target(json.dumps(GPT2), "gpt2.json")
    found = by_end(target)
    assert (found["attn.c_attn"].shape, found["attn.c_attn"].fan_in) == ((96, 288), 96)
    assert (found["mlp.c_proj"].shape, found["mlp.c_proj"].fan_in) == ((384, 96), 384)
    assert found["mlp.c_proj"].configured_std == pytest.approx(0.013 / 6**0.5)
    assert found["transformer.wpe"].fan_in == 96
    gammas = rates(target)
    assert gammas["transformer.h.*.attn.c_attn.weight"] == pytest.approx(target.reference_gamma)
    assert gammas["transformer.h.*.mlp.c_proj.weight"] > target.reference_gamma + 0.1


def test_experts_are_read_either_way_round() -> None:
    """(E, out, in) in Qwen3 and (E, in, out) in gpt_oss have the same fan-ins; routers theirs."""
    qwen, oss = target_of("qwen3_moe", **EXPERTS), target_of("gpt_oss", **EXPERTS)
    assert by_end(qwen)["experts.gate_up_proj"].shape == (4, 96, 96)
    assert by_end(oss)["experts.gate_up_proj"].shape == (4, 96, 320)
    assert by_end(qwen)["experts.down_proj"].fan_in == 48
    assert by_end(oss)["experts.down_proj"].fan_in == 160
    assert by_end(oss)["experts.gate_up_proj"].fan_in == 96
    assert by_end(oss)["mlp.router"].fan_in == 96
    assert not any("bias" in each.name for each in matrices(oss))


def test_latent_attention_has_fan_ins_of_its_own() -> None:
    """DeepSeek's second low-rank factors read their rank, not the width."""
    found = by_end(target_of("deepseek_v3", **LATENT))
    assert found["self_attn.q_b_proj"].fan_in == 24
    assert found["self_attn.kv_b_proj"].fan_in == 20
    assert found["self_attn.o_proj"].fan_in == 6 * 16
    assert {found[name].kind for name in found if name.startswith("self_attn")} == {"attention"}
    assert found["experts.down_proj"].kind == "feed_forward"


def test_the_rates_of_llama_are_one() -> None:
    """Where one std is drawn for all, every rate is the reference's."""
    target = target_of("llama")
    assert set(rates(target).values()) == {target.reference_gamma}


def test_the_wanted_std_is_by_fan_in() -> None:
    """γ 0.5 is the classic 1/√fan_in, per matrix."""
    found = by_end(target_of("llama"))
    assert found["mlp.down_proj"].wanted_std(0.5) == pytest.approx(160**-0.5)
    assert found["model.embed_tokens"].wanted_std(0.5) == pytest.approx(96**-0.5)


def test_a_configurations_own_code_is_never_run(tmp_path: Any) -> None:
    """auto_map, quantization and kernels that are not here change nothing."""
    plain = parse_target(json.dumps(GPT2), "gpt2.json")
    loaded = parse_target(
        json.dumps(
            {
                **GPT2,
                "auto_map": {"AutoModelForCausalLM": f"{tmp_path}--modeling.Evil"},
                "quantization_config": {"quant_method": "none-such"},
                "_attn_implementation": "flash_attention_2",
                "torch_dtype": "float8",
            }
        ),
        "gpt2.json",
    )
    assert build(loaded) == build(plain)


def test_no_random_number_is_drawn_and_nothing_is_allocated() -> None:
    """A model of 70 billion parameters is listed without touching torch's generator."""
    before = torch.get_rng_state()
    found = build(
        target_of(
            "gpt_neox",
            hidden_size=8192,
            num_hidden_layers=80,
            num_attention_heads=64,
            num_key_value_heads=64,
            intermediate_size=32768,
            vocab_size=50432,
        )
    )
    assert sum(each.count * torch.Size(each.shape).numel() for each in found) > 6e10
    assert torch.equal(before, torch.get_rng_state())


def test_transformers_says_nothing_meanwhile() -> None:
    """Its advice is for who trains the model; how much it says is as before afterwards."""
    said: list[str] = []

    class Keeping(Handler):
        """Keeps what is logged."""

        def emit(self, record: LogRecord) -> None:
            said.append(record.getMessage())

    handler = Keeping()
    logging.set_verbosity_warning()
    logging.add_handler(handler)
    assert build(target_of("bert"))
    logging.remove_handler(handler)
    assert said == []
    assert logging.get_verbosity() == logging.WARNING


def test_a_depthwise_convolution_is_no_matrix() -> None:
    """Qwen3-Next's conv1d filters each channel by four numbers; its projections are listed."""
    tiny = {**EXPERTS, "shared_expert_intermediate_size": 48, "num_hidden_layers": 4}
    found = by_end(target_of("qwen3_next", **tiny))
    assert {"linear_attn.in_proj_qkvz", "self_attn.q_proj"} <= found.keys()
    assert not any("conv1d" in name for name in found)


@pytest.mark.parametrize(
    ("draw", "std"),
    [
        (lambda weight: torch.nn.init.normal_(weight, std=0.3), 0.3),
        (lambda weight: weight.normal_(), 1.0),
        (lambda weight: torch.nn.init.kaiming_uniform_(weight, a=5**0.5), 1 / (3 * 48) ** 0.5),
        (lambda weight: weight.uniform_(), 1 / 12**0.5),
        (torch.nn.init.zeros_, 0.0),
        (lambda weight: torch.nn.init.constant_(weight, 3.0), 0.0),
        (lambda weight: weight.normal_()[3].zero_(), 1.0),
        (lambda weight: weight.normal_()[:8].zero_(), None),
        (lambda weight: weight.normal_().mul_(0.1), None),
        (lambda weight: torch.nn.init.trunc_normal_(weight, std=0.3), None),
        (lambda weight: weight[:, :24].normal_(), None),
        (lambda weight: weight.sum(), None),
    ],
)
def test_a_draw_is_recorded_or_admitted_to_be_unknown(
    draw: Callable[[torch.Tensor], object], std: float | None
) -> None:
    """The last draw over the whole matrix counts; what is no plain draw is None, never a guess."""
    weight = torch.empty(64, 48, device="meta")
    with Recorder() as recorder:
        draw(weight)
    assert recorder.std(weight) == (None if std is None else pytest.approx(std))


def test_without_transformers_the_install_command_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Llama needs no transformers; another family says how to get it."""
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert len(matrices(target_of("llama"))) == 9
    with pytest.raises(TargetError, match=r'^gpt_neox\.json: .*pip install "critical\[hf\]"$'):
        matrices(target_of("gpt_neox"))


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (target_of("none-such"), r"transformers knows no model_type 'none-such'"),
        (target_of("t5gemma2_encoder"), r"cannot build this t5gemma2_encoder as a decoder"),
        (target_of("gpt_neox", hidden_act="none-such"), r"cannot build this gpt_neox.*none-such"),
        (target_of("gpt_neox", layer_norm_eps=1), r"cannot build this gpt_neox.*layer_norm_eps"),
        (target_of("jamba", mamba_d_state=8), r"A_log of shape .*how transformers draws it"),
    ],
)
def test_what_cannot_be_listed_is_refused_by_name(target: Target, sentence: str) -> None:
    """An unknown family, a configuration that does not build, a parameter that is no matrix."""
    with pytest.raises(TargetError, match=sentence) as caught:
        matrices(target)
    assert "\n" not in str(caught.value)
