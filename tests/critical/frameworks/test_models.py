"""Real transformers models from exported configurations: drawn as the report says, and by γ.

Each matrix's empirical std against what the report says it yields, and against fan_in^−γ once the
hook has drawn it; within max(4/√(2n), 0.5%), four of its own standard errors.
"""

from __future__ import annotations

import json
import math
import re
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from critical.export import Edited, export
from critical.frameworks import Source
from critical.frameworks.documents.json_document import JsonDocument
from critical.targets.layout import pattern

SHAPE: dict[str, Any] = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 344,
    "vocab_size": 320,
    "initializer_range": 0.02,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GPT2: dict[str, Any] = {
    "n_embd": 128,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 96,
    "vocab_size": 320,
    "initializer_range": 0.02,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS: dict[str, Any] = {"num_experts": 4, "moe_intermediate_size": 96}
LOCAL_EXPERTS: dict[str, Any] = {"num_local_experts": 4}
LINEAR_ATTENTION: dict[str, Any] = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 24,
}
NO_HEAD_DIM: dict[str, Any] = {k: v for k, v in SHAPE.items() if k != "head_dim"}
LATENT: dict[str, Any] = {
    **SHAPE,
    "num_key_value_heads": 4,
    "moe_intermediate_size": 48,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
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
FAMILIES: dict[str, dict[str, Any]] = {
    "deepseek_v3": LATENT,
    "gemma2": SHAPE,
    "gemma3_text": SHAPE,
    "gpt2": GPT2,
    "gpt_neox": SHAPE,
    "gpt_oss": {**SHAPE, **LOCAL_EXPERTS},
    "llama": SHAPE,
    "llama4_text": {**SHAPE, **LOCAL_EXPERTS, "intermediate_size_mlp": 400},
    "mistral": SHAPE,
    "mixtral": {**SHAPE, **LOCAL_EXPERTS},
    "olmo2": SHAPE,
    "opt": {**NO_HEAD_DIM, "initializer_range": ..., "init_std": 0.006, "ffn_dim": 344},
    "phi3": SHAPE,
    "qwen2": SHAPE,
    "qwen3": SHAPE,
    "qwen3_moe": {**SHAPE, **EXPERTS},
    "qwen3_next": {**SHAPE, **EXPERTS, **LINEAR_ATTENTION, "shared_expert_intermediate_size": 40},
    "smollm3": SHAPE,
    "starcoder2": NO_HEAD_DIM,
}
LEFT = ("linear_attn.conv1d.weight",)
NESTED: dict[str, Any] = {
    "model_type": "gemma3",
    "mm_tokens_per_image": 4,
    "text_config": {"model_type": "gemma3_text", **SHAPE, "initializer_range": 0.03},
    "vision_config": {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "image_size": 28,
        "patch_size": 14,
    },
}
HALVED = math.sqrt(2 * 2)  # GPT-2 divides c_proj by √(2 · layers).
GAMMAS = {"gpt2": (0.5, 0.7), "llama": (0.5, 0.95)}


def exported(family: str, gamma: float) -> Edited:
    """Export a tiny config.json of a family; ``...`` leaves a key out."""
    document = {"model_type": family, **FAMILIES[family]}
    text = json.dumps({k: v for k, v in document.items() if v is not ...}, indent=2)
    return export("hf", Source(JsonDocument(text, "config.json")), gamma)


def built(text: str, folder: Path) -> torch.nn.Module:
    """Build the model that a config.json describes, as a user does."""
    (folder / "config.json").write_text(text)
    torch.manual_seed(11)
    model: torch.nn.Module = AutoModelForCausalLM.from_config(
        AutoConfig.from_pretrained(folder), attn_implementation="eager"
    )
    return model


def module_of(edited: Edited) -> ModuleType:
    """Return an export's hook, imported."""
    assert edited.hook is not None
    hook = ModuleType("critical_init")
    exec(compile(edited.hook.text, edited.hook.file_name, "exec"), hook.__dict__)
    return hook


def matrices(model: torch.nn.Module) -> dict[str, list[torch.Tensor]]:
    """Return a model's matrices by name pattern, without biases and depthwise convolutions."""
    found: dict[str, list[torch.Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and not name.endswith(("bias", *LEFT)):
            found.setdefault(pattern(name), []).append(parameter.detach())
    return found


def assert_drawn(weights: list[torch.Tensor], std: float) -> None:
    """Compare the std of some matrices; a padding row of zeros is left out."""
    for weight in weights:
        values = weight.double()
        if weight.dim() == 2 and not values[0].any():
            values = values[1:]
        tolerance = max(4 / math.sqrt(2 * values.numel()), 0.005)
        assert float(values.std()) == pytest.approx(std, rel=tolerance)
        assert abs(float(values.mean())) < 5 * std / math.sqrt(values.numel())


@pytest.mark.parametrize(
    ("family", "gamma"),
    [(family, gamma) for family in FAMILIES for gamma in GAMMAS.get(family, (0.7,))],
)
def test_every_matrix_is_drawn_as_reported_and_then_by_gamma(
    family: str, gamma: float, tmp_path: Path
) -> None:
    """The edit gives what the report says, and the hook fan_in^−γ: every matrix, none left."""
    edited = exported(family, gamma)
    model = built(edited.text, tmp_path)
    found = matrices(model)
    assert found.keys() == {each.name for each in edited.report.matrices}
    for each in edited.report.matrices:
        assert each.count == len(found[each.name])
        assert each.shape == tuple(found[each.name][0].shape)
        assert_drawn(found[each.name], each.yielded)
    hook = module_of(edited)
    others = {k: v.clone() for k, v in model.named_parameters() if v.dim() == 1 or k.endswith(LEFT)}
    left = [name for name in others if name.endswith(LEFT)]
    with pytest.warns(UserWarning, match="left 1") if left else nullcontext():
        assert hook.initialize(model) == left
    for each in edited.report.matrices:
        assert each.wanted == pytest.approx(each.fan_in**-gamma)
        assert each.hooked == each.wanted
        assert_drawn(found[each.name], each.wanted)
    assert all(torch.equal(v, others[k]) for k, v in model.named_parameters() if k in others)


def test_gpt2s_residual_projections_are_a_control() -> None:
    """c_proj is 1/√(2·2) of the std, which the report says and the test above measures."""
    ratios = {each.name: each.ratio for each in exported("gpt2", 0.5).report.matrices}
    assert ratios["transformer.h.*.attn.c_attn.weight"] == 1
    assert ratios["transformer.h.*.attn.c_proj.weight"] == pytest.approx(1 / HALVED)
    assert ratios["transformer.h.*.mlp.c_proj.weight"] == pytest.approx(2 / HALVED)


def run(hook: ModuleType, *arguments: str) -> None:
    """Run the module as a script."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["critical_init.py", *arguments])
        hook.main()


def test_a_saved_checkpoint_is_drawn_by_gamma(tmp_path: Path) -> None:
    """For trainers that only load: the module run as a script writes a checkpoint."""
    edited = exported("llama", 0.6)
    (tmp_path / "config.json").write_text(edited.text)
    run(module_of(edited), str(tmp_path), str(tmp_path / "new"), "3")
    loaded = matrices(AutoModelForCausalLM.from_pretrained(tmp_path / "new"))
    for each in edited.report.matrices:
        assert_drawn(loaded[each.name], each.wanted)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "the following arguments are required: config_folder, new_folder"),
        (("in", "out", "one"), "argument seed: invalid int value: 'one'"),
        (("meta-llama/Llama-3.1-8B", "out"), "meta-llama/Llama-3.1-8B holds no config.json"),
        (("in", "in"), "in is there and not empty: write the path of a new folder"),
        (("in", "in/config.json"), "in/config.json is there and not empty"),
        (("bad", "out"), "bad is not drawn: "),
        (("nested", "out"), "nested is not drawn: it is multimodal: once it is built"),
    ],
)
def test_a_script_that_cannot_says_why_in_a_sentence(
    arguments: tuple[str, ...],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Status 2 and no traceback; nothing is looked for on the hub, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    edited = exported("llama", 0.6)
    texts = {"in": edited.text, "bad": '{"model_type": "none-such"}', "nested": json.dumps(NESTED)}
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
    with pytest.raises(SystemExit) as caught:
        run(module_of(edited), *arguments)
    assert caught.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"critical_init.py: error: {sentence}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("tied", [True, False])
def test_a_nested_language_model_is_drawn_as_reported_and_then_by_gamma(
    tied: bool, tmp_path: Path
) -> None:
    """Gemma 3 with its vision tower: text_config's key draws all but an untied head.

    That is drawn by the outer initializer_range, 0.02 where it is left out. The hook's usage names
    where to call it, and what else the model has stays as it was.
    """
    text = json.dumps({**NESTED, "tie_word_embeddings": tied}, indent=2)
    edited = export("hf", Source(JsonDocument(text, "config.json")), 0.7)
    assert json.loads(edited.text)["text_config"]["initializer_range"] == 128**-0.7
    (tmp_path / "config.json").write_text(edited.text)
    torch.manual_seed(11)
    model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(tmp_path))
    found = matrices(model)
    reported = {each.name: each for each in edited.report.matrices}
    language = {name for name in found if name.startswith(("model.language_model.", "lm_head."))}
    assert language == reported.keys()
    assert ("lm_head.weight" in language) is (not tied)
    for name, each in reported.items():
        assert each.before == (0.02 if name == "lm_head.weight" else 0.03)
        assert_drawn(found[name], each.yielded)
    assert all(
        each.yielded == 128**-0.7 for name, each in reported.items() if "lm_head" not in name
    )
    hook, others = module_of(edited), {name: found[name] for name in found.keys() - language}
    before = {name: [each.clone() for each in weights] for name, weights in others.items()}
    calls = re.findall(r"critical_init\.initialize\((.*?)\)", edited.report.hook_usage or "")
    assert calls == ["model.model.language_model", *(() if tied else ("model.lm_head",))]
    for path in calls:
        assert hook.initialize(model.get_submodule(path.removeprefix("model."))) == []
    for name, each in reported.items():
        assert_drawn(found[name], each.wanted)
    for name, weights in others.items():
        assert all(torch.equal(a, b) for a, b in zip(weights, before[name], strict=True))
