"""Proxies of the target's own family: they are built small, drawn, trained and looked into."""

from __future__ import annotations

import builtins
import json
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from critical.trials import ProxyRun, Scale
from critical.trials.architecture import Architecture, Kinds
from critical.trials.errors import ModelError, SettingsError
from critical.trials.hf_config import scaled_config, thinned
from critical.trials.hf_model import (
    HFDecoder,
    norms,
    norms_that_read_the_embedding,
    notes,
)
from critical.trials.initialization import initialize
from critical.trials.mixture import VOCABULARY
from critical.trials.timing import trial_seconds
from critical.trials.training import ProxyTraining, TrainingRecipe, build_model, fingerprint

Make = Callable[..., ProxyRun]
SCALE = Scale(32, 2, 4, 8_000)
LLAMA: dict[str, Any] = {
    "hidden_size": 512,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 1376,
    "vocab_size": 32_000,
    "pad_token_id": 31_999,
    "eos_token_id": 2,
    "torch_dtype": "bfloat16",
}
GPT: dict[str, Any] = {"n_embd": 512, "n_layer": 8, "n_head": 8, "vocab_size": 50_257}
EXPERTS = {
    **LLAMA, "num_local_experts": 8, "num_experts": 16, "n_routed_experts": 16,
    "num_experts_per_tok": 4, "moe_intermediate_size": 256,
}  # fmt: skip
TARGETS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "qwen3": {**LLAMA, "head_dim": 128},
    "gemma2": {**LLAMA, "head_dim": 128, "query_pre_attn_scalar": 128},
    "gemma3_text": {**LLAMA, "head_dim": 128},
    "olmo2": LLAMA,
    "gpt2": GPT,
    "gpt_neox": {key: value for key, value in LLAMA.items() if "key_value" not in key},
    "phi": {**LLAMA, "partial_rotary_factor": 0.4},
    "bloom": {**LLAMA, "n_layer": 8, "n_head": 8},
    "mixtral": EXPERTS,
    "qwen3_moe": EXPERTS,
    "gpt_oss": {**EXPERTS, "head_dim": 64},
    "ernie4_5_moe": EXPERTS,
    "deepseek_v3": {
        **EXPERTS, "num_key_value_heads": 8, "q_lora_rank": 96, "kv_lora_rank": 64,
        "qk_rope_head_dim": 32, "qk_nope_head_dim": 64, "v_head_dim": 64,
    },
}  # fmt: skip


def config(family: str, **changes: object) -> str:
    """Return the text of a target's config.json."""
    return json.dumps({"model_type": family, **TARGETS.get(family, LLAMA), **changes})


def recipe_of(family: str, tasks_only: TrainingRecipe, **changes: Any) -> TrainingRecipe:
    """Return a recipe whose proxies are the family's own."""
    return replace(tasks_only, model="hf", hf_config=config(family), target_width=512, **changes)


def run_of(settings: str = "target", gamma: float = 0.5) -> ProxyRun:
    """Return a run of the smallest scale."""
    return ProxyRun(gamma, None, SCALE, seed=3, settings=settings)


def built(family: str, settings: str = "target", **changes: Any) -> HFDecoder:
    """Build a family's own proxy."""
    return HFDecoder.of_run(
        config(family, **changes),
        run_of(settings),
        Architecture(norm_eps=1e-5),
        target_width=512,
        vocabulary=96,
        longest=32,
    )


def tokens(n: int, t: int) -> torch.Tensor:
    """Random sequences. Shape (n, t)."""
    return torch.randint(96, (n, t), generator=torch.Generator().manual_seed(0))


def eps_of(norm: nn.Module) -> float:
    """Return the ε of a norm."""
    return float(getattr(norm, "eps", getattr(norm, "variance_epsilon", math.nan)))


@pytest.mark.parametrize("family", TARGETS)
def test_every_matrix_is_drawn_and_trains(family: str, tasks_only: TrainingRecipe) -> None:
    """Three steps with a finite loss, in which every weight gets a gradient."""
    training = ProxyTraining(recipe_of(family, tasks_only), run_of())
    model = training._model
    drawn = initialize(model, 0.5)
    assert drawn.left == ()
    matrices = {name for name, p in model.named_parameters() if p.ndim >= 2}
    assert {m.name for m in drawn.drawn} == {name for name in matrices if "_bias" not in name}
    for step in (1, 2, 3):
        training.advance(step)
    measured = training.measure(max(training.looks))
    assert math.isfinite(measured.loss)
    assert {"sink/0", "sink/1"} <= measured.extras.keys()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@torch.no_grad()
@pytest.mark.parametrize("family", TARGETS)
def test_it_answers_like_the_built_in_proxy(family: str) -> None:
    """Logits at the last positions of each group, alone or among others, and causal ones."""
    model = built(family)
    initialize(model, 0.3)
    groups = [tokens(3, 9), tokens(1, 16)]
    first, second = model(groups, [1, 16])
    assert (first.shape, second.shape) == ((3, 1, 96), (1, 16, 96))
    torch.testing.assert_close(model(groups[:1], [9])[0][:, -1:], first, rtol=1e-4, atol=1e-4)
    changed = groups[1].clone()
    changed[:, 8] = (changed[:, 8] + 1) % 96
    after = model([changed], [16])[0]
    torch.testing.assert_close(after[:, :8], second[:, :8], rtol=1e-4, atol=1e-4)
    assert (after[:, 8:] - second[:, 8:]).abs().max() > 1e-4
    shares = model.first_token_attention(groups[0])
    assert shares.shape == (2,)
    assert ((shares > 0) & (shares < 1)).all()


def test_the_scale_is_the_proxys_and_the_proportions_the_targets() -> None:
    """Width, depth, heads, key and value heads, head dimension, feed-forward and vocabulary."""
    small = scaled_config(config("qwen3"), SCALE, vocabulary=96, longest=32)
    assert (small.hidden_size, small.num_hidden_layers, small.vocab_size) == (32, 2, 96)
    assert (small.num_attention_heads, small.num_key_value_heads, small.head_dim) == (4, 1, 16)
    assert small.intermediate_size == 88
    assert (small.pad_token_id, small.bos_token_id, small.eos_token_id) == (None, None, None)
    assert len(small.layer_types) == 2


def test_a_table_of_positions_is_as_long_as_the_longest_sequence() -> None:
    """Not as the target's, most of whose rows no proxy would train; rotary ones stay."""
    learned = scaled_config(config("gpt2"), SCALE, vocabulary=96, longest=32)
    rotary = scaled_config(config("llama"), SCALE, vocabulary=96, longest=32)
    assert learned.n_positions == 32
    assert rotary.max_position_embeddings == 2048


def test_a_few_experts_stay_and_two_of_them_are_used() -> None:
    """With one alone, its weight would be 1 and the router would learn nothing."""
    small = scaled_config(config("qwen3_moe"), SCALE, vocabulary=96, longest=32)
    assert (small.num_experts, small.num_experts_per_tok) == (4, 2)
    assert small.moe_intermediate_size == 16


@pytest.mark.parametrize(
    ("values", "count", "expected"),
    [
        ("aaaaaaaa", 2, "aa"),
        ("abababab", 3, "aba"),
        ("aaabaaab", 2, "ab"),
        ("aaabaaab", 4, "aaab"),
        ("aabbc", 3, "abc"),
        ("abc", 2, "ab"),
        ("ab", 4, "abab"),
    ],
)
def test_every_kind_of_layer_stays(values: str, count: int, expected: str) -> None:
    """The first layer of each, as far as there is room, and the earliest others."""
    assert "".join(thinned(values, count)) == expected


@pytest.mark.parametrize("rope", [{"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}, None])
def test_rotary_positions_are_kept(rope: dict[str, object] | None) -> None:
    """As the target scales them; a part of a head stays an even number of dimensions."""
    small = scaled_config(config("llama", rope_parameters=rope), SCALE, vocabulary=96, longest=32)
    assert small.rope_parameters["rope_type"] == ("default" if rope is None else "yarn")
    partial = scaled_config(config("phi"), SCALE, vocabulary=96, longest=32)
    assert int(8 * partial.rope_parameters["partial_rotary_factor"]) == 4


def test_relaxed_has_hardly_an_eps_in_any_norm() -> None:
    """In blocks, in queries and keys, and at the end."""
    found = [eps_of(norm) for norm in norms(built("qwen3", "relaxed").model)]
    assert found == [1e-12] * 9
    assert {eps_of(norm) for norm in norms(built("qwen3").model)} == {1e-6}


@pytest.mark.parametrize(
    ("family", "reading"),
    [
        ("llama", ["input_layernorm"]),
        ("gemma2", ["input_layernorm"]),
        ("gpt2", ["ln_1"]),
        ("gpt_neox", ["input_layernorm", "post_attention_layernorm"]),
        ("bloom", ["word_embeddings_layernorm"]),
        ("olmo2", []),
    ],
)
def test_the_norms_that_read_the_embedding_are_found(family: str, reading: list[str]) -> None:
    """Whatever their names, by what they are given."""
    model = built(family).model
    names = {module: name.rpartition(".")[2] for name, module in model.named_modules()}
    assert [names[norm] for norm in norms_that_read_the_embedding(model, 2)] == reading


def test_carried_scales_the_eps_of_those_alone() -> None:
    """By (512 / 32)^2γ, which at γ = 0.5 is 16."""
    found = [eps_of(norm) for norm in norms(built("llama", "carried").model)]
    assert found[0] == pytest.approx(1.6e-4)
    assert found[1:] == [1e-6] * 4


@pytest.mark.parametrize("family", ["olmo2", "olmo"])
def test_carried_is_refused_where_it_changes_nothing(family: str) -> None:
    """No norm reads the embedding, or its ε is written into the family's code."""
    with pytest.raises(SettingsError, match="carried changes nothing in this target"):
        built(family, "carried")


def test_norms_that_follow_are_refused_before_anything_is_built() -> None:
    """The architecture says so already."""
    architecture = Architecture(kinds=Kinds(placement="post"))
    with pytest.raises(SettingsError, match="carried changes nothing in this target"):
        HFDecoder.of_run(
            "{}", run_of("carried"), architecture, target_width=512, vocabulary=96, longest=32
        )


def test_layers_without_attention_weights_have_no_share() -> None:
    """Of a family that mixes kinds of layers, none is known."""
    model = built("lfm2", layer_types=["conv", "full_attention"] * 4, conv_L_cache=3)
    assert model.first_token_attention(tokens(2, 5)).isnan().all()


def test_the_same_run_is_the_same_to_the_bit(tasks_only: TrainingRecipe) -> None:
    """Whatever the global random state, after a trip through pickle, with experts too."""
    recipe = recipe_of("mixtral", tasks_only)
    run = replace(run_of(), scale=Scale(16, 1, 2, 6_000))
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = list(recipe(run))
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    assert list(pickle.loads(pickle.dumps(recipe))(run)) == first


@pytest.mark.parametrize("family", ["mixtral", "ernie4_5_moe"])
def test_it_goes_on_where_it_was_interrupted(family: str, tasks_only: TrainingRecipe) -> None:
    """The state of every parameter is taken out and put back, of one without a gradient too."""
    recipe = recipe_of(family, tasks_only)
    whole, first, second = (ProxyTraining(recipe, run_of()) for _ in range(3))
    for step in (1, 2):
        whole.advance(step)
    first.advance(1)
    state = {name: tensor.clone() for name, tensor in first.state().items()}
    assert second.restore(state)
    second.advance(2)
    assert second.measure(2).loss == whole.measure(2).loss


def test_a_trial_is_timed(tasks_only: TrainingRecipe) -> None:
    """Also of a family that needs four heads at least."""
    recipe = replace(
        recipe_of("llama", tasks_only),
        hf_config=json.dumps({"model_type": "codegen", **GPT, "rotary_dim": 32}),
    )
    assert trial_seconds(recipe, run_of()).trial_seconds > 0


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("bert", {}),
        ("bert", {"initializer_range": 1e-4}),
        ("electra", {}),
        ("gemma3_text", {"use_bidirectional_attention": True}),
    ],
)
def test_a_model_that_sees_later_tokens_is_refused(family: str, changes: dict[str, Any]) -> None:
    """Its loss would be of what it is shown, however small its own weights are drawn."""
    with pytest.raises(ModelError, match=r"attends to later tokens.*config of a causal decoder"):
        built(family, **changes)


@pytest.mark.parametrize("family", ["llama", "mixtral", "mamba", "rwkv"])
def test_looking_for_later_tokens_changes_no_weight(family: str) -> None:
    """What γ does not draw keeps what the family has drawn, and causal ones are let through."""
    found = built(family, initializer_range=1e-4).model
    small = scaled_config(config(family, initializer_range=1e-4), SCALE, vocabulary=96, longest=32)
    torch.manual_seed(run_of().seed)
    plain = AutoModelForCausalLM.from_config(small, attn_implementation="eager")
    for (name, parameter), expected in zip(
        found.named_parameters(), plain.parameters(), strict=True
    ):
        assert torch.equal(parameter, expected), name


def test_a_decoder_like_bert_is_built() -> None:
    """An encoder's family may be configured as one."""
    assert isinstance(built("bert", is_decoder=True), HFDecoder)


def test_carried_needs_blocks_to_look_for_norms() -> None:
    """The message names the model, not an iterator that has ended."""
    with pytest.raises(SettingsError, match="cannot find the blocks of LlamaForCausalLM"):
        norms_that_read_the_embedding(built("llama").model, 7)


def test_what_gamma_and_settings_do_not_reach_is_noted() -> None:
    """Kinds of tensors that are not known, and norms whose ε is fixed."""
    assert notes(config("llama")) == ()
    (fixed,) = notes(config("olmo"))
    assert "no ε that can be set" in fixed
    (left,) = notes(config("jetmoe", head_dim=64))
    assert "γ does not draw tensors of the family's own kinds" in left


def test_the_code_that_a_configuration_names_is_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither downloaded nor imported, for it is the file's author's and not the user's."""
    (tmp_path / "evil.py").write_text("raise SystemExit('it was run')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    named = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}
    model = built("llama", auto_map=named, _name_or_path=str(tmp_path))
    assert type(model.model).__module__.startswith("transformers.")
    assert "evil" not in sys.modules


@pytest.mark.parametrize("place", [(), ("rope_parameters",), ("vision_config", "layers")])
def test_what_names_code_is_left_out_wherever_it_stands(place: tuple[str, ...]) -> None:
    """Kernels of the hub and implementations that may be some, in configurations within it too."""
    named: dict[str, Any] = {
        "attn_implementation": "somebody/kernel", "_experts_implementation_internal": "x/y",
        "use_kernels": True, "kernel_config": {"kernel_mapping": {"RMSNorm": "x/y:RMSNorm"}},
        "auto_map": {"AutoConfig": "x/y--c.C"},
    }  # fmt: skip
    for key in reversed(place):
        named = {key: {"rope_type": "default", "rope_theta": 1e4, **named}}
    small = scaled_config(config("llama", **named), SCALE, vocabulary=96, longest=32)
    text = json.dumps(small.to_dict())
    assert "kernel" not in text
    assert "x/y" not in text


def test_the_hub_is_off_before_transformers_is_imported() -> None:
    """In a process of its own, whatever its environment says: both libraries read it at once."""
    code = (
        "from critical.trials.hf_config import family_of; family_of('llama')\n"
        "from huggingface_hub.constants import HF_HUB_OFFLINE\n"
        "from transformers.integrations.hub_kernels import _kernels_enabled\n"
        "print(HF_HUB_OFFLINE, _kernels_enabled)"
    )
    environment = {**os.environ, "USE_HUB_KERNELS": "1", "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "False"]


def test_another_version_of_transformers_is_another_run(
    tasks_only: TrainingRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checkpoints do not fit, where the built-in proxy's still do."""
    own = recipe_of("llama", tasks_only)
    before = [fingerprint(recipe, run_of()) for recipe in (own, tasks_only)]
    monkeypatch.setattr("importlib.metadata.version", lambda _: "4.0.0")
    after = [fingerprint(recipe, run_of()) for recipe in (own, tasks_only)]
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"model_type": "nobody"}', "transformers knows no model_type 'nobody'"),
        (config("llama", hidden_act="nothing"), "cannot build a llama of width 32 and 4 heads: "),
        (config("llama", rms_norm_eps="x"), "cannot build a llama of width 32 and 4 heads: "),
        (json.dumps({"model_type": "codegen", **GPT}), "leave --proxy hf out"),
    ],
)
def test_what_cannot_be_built_is_said(text: str, message: str) -> None:
    """In a sentence, with a way out."""
    scale = SCALE if "codegen" not in text else replace(SCALE, heads=2)
    with pytest.raises(ModelError, match=message):
        HFDecoder.of_run(
            text, replace(run_of(), scale=scale), Architecture(), target_width=None,
            vocabulary=96, longest=32,
        )  # fmt: skip


def test_without_transformers_the_extra_is_named(
    tasks_only: TrainingRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what to install, or what to leave out."""
    load = builtins.__import__

    def refuse(name: str, *arguments: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "transformers":
            raise ImportError(name)
        return load(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ModelError, match=r'pip install "critical\[hf\]"'):
        build_model(recipe_of("llama", tasks_only), run_of())


def test_the_recipe_decides_which_model_is_built(tasks_only: TrainingRecipe) -> None:
    """The family's own has the recipe's vocabulary."""
    own = build_model(recipe_of("llama", tasks_only), run_of())
    assert isinstance(own, HFDecoder)
    assert cast(Any, own.model).config.vocab_size == VOCABULARY
    assert not isinstance(build_model(tasks_only, run_of()), HFDecoder)
