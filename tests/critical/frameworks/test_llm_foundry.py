"""LLM Foundry's YAML: every initialization by its formula, and the nearest one to γ written."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from critical.errors import CriticalError, ExportError
from critical.export import Edited, export
from critical.frameworks import Source
from critical.frameworks.documents.yaml_document import YamlDocument
from critical.frameworks.llm_foundry import LlmFoundry
from critical.frameworks.llm_foundry_init import NAMES, Initialization, leaky_slope
from critical.frameworks.reading import DepthScaling, Optimizer, Reading, Setting
from critical.targets.config_keys import Keys

MPT = """\
variables:
  d_model: 1024
  max_seq_len: 2048
  run_name: mpt-350m # set by the launcher

# Run Name
run_name: ${variables.run_name}

model:
  name: mpt_causal_lm
  init_device: meta
  d_model: ${variables.d_model}
  n_heads: 16
  n_layers: 24
  expansion_ratio: 4
  max_seq_len: ${variables.max_seq_len}
  vocab_size: 50368
  attn_config:
    attn_impl: flash

tokenizer:
  name: EleutherAI/gpt-neox-20b

optimizer:
  name: decoupled_adamw
  lr: 3.0e-4
  betas:
  - 0.9
  - 0.95
  eps: 1e-08
  weight_decay: 0.0

fsdp_config:
  sharding_strategy: FULL_SHARD
"""
INIT = "    attn_impl: flash\n"
BLOCK = "model.transformer.blocks.*."
D, F, L, HEAD = 1024, 4096, 24, 64
SMALL = math.sqrt(2 / (5 * D))


def source_of(text: str = MPT, folder: Path | None = None) -> Source:
    """Return a YAML as a source."""
    return Source(YamlDocument(text, "mpt.yaml"), folder)


def with_init(fragment: str) -> str:
    """Return the configuration with an init_config in flow style."""
    return MPT.replace(INIT, f"{INIT}  init_config: {fragment}\n")


def read(text: str = MPT) -> Reading:
    """Read a configuration."""
    return LlmFoundry().read(source_of(text))


def stds(reading: Reading) -> dict[str, float]:
    """Return the std of every matrix by its short name."""
    names = {each.name: each.configured_std for each in reading.matrices}
    return {k.removeprefix(BLOCK).removesuffix(".weight"): v for k, v in names.items()}


def exported(gamma: float, text: str = MPT) -> Edited:
    """Export γ into a configuration."""
    return export("llm-foundry", source_of(text), gamma)


def test_the_matrices_have_llm_foundrys_names_shapes_and_stds() -> None:
    """Kaiming's √2/√fan_in by default, residual projections over √(2 · 24); the head is tied."""
    relu = math.sqrt(2)
    found: dict[str, object] = {
        each.name.removeprefix(BLOCK): (each.count, each.shape, each.fan_in, each.configured_std)
        for each in read().matrices
    }
    residual = math.sqrt(2 * L)
    assert found == {
        "model.transformer.wte.weight": (1, (50368, D), D, pytest.approx(relu / 32)),
        "model.transformer.wpe.weight": (1, (2048, D), D, pytest.approx(relu / 32)),
        "attn.Wqkv.weight": (L, (3 * D, D), D, pytest.approx(relu / 32)),
        "attn.out_proj.weight": (L, (D, D), D, pytest.approx(relu / 32 / residual)),
        "ffn.up_proj.weight": (L, (F, D), D, pytest.approx(relu / 32)),
        "ffn.down_proj.weight": (L, (D, F), F, pytest.approx(relu / 64 / residual)),
    }


def test_the_rest_of_the_reading() -> None:
    """A rule is no std; OmegaConf's 1e-08 is a number; every parameter is decayed."""
    reading = read()
    assert (reading.model, reading.width, reading.depth, reading.tied) == ("mpt", D, L, True)
    assert reading.std is None
    assert reading.norms is not None
    assert reading.norms.eps == Setting("model.norm_eps", 1e-5, stated=False)
    assert reading.depth_scaling == DepthScaling(
        f"std / {math.sqrt(48):.6g}", "model.init_config.init_div_is_residual: false"
    )
    assert reading.optimizer == Optimizer(
        Setting("optimizer.eps", 1e-8, stated=True),
        Setting("optimizer.weight_decay", 0.0, stated=True),
        decays_embeddings=True,
        decay_times_lr=False,
    )
    assert reading.remarks == ()


@pytest.mark.parametrize(
    ("fragment", "wqkv", "up", "down", "embedding"),
    [
        # (head, d) is what is drawn at once of the fused matrix, (4d, d) and (d, 4d) of the others.
        ("{name: baseline_, init_std: 0.02}", 0.02, 0.02, 0.02 / 48**0.5, 0.02),
        ("{name: baseline_, init_std: 2e-2, init_div_is_residual: 4}", 0.02, 0.02, 0.005, 0.02),
        ("{name: small_init_}", *[SMALL] * 2, SMALL / 48**0.5, SMALL),
        ("{name: neox_init_}", *[SMALL] * 2, 2 / L / D**0.5, SMALL),
        (
            "{name: kaiming_normal_, fan_mode: fan_out, init_nonlinearity: linear, "
            "init_div_is_residual: false, emb_init_std: 0.006}",
            *(HEAD**-0.5, F**-0.5, D**-0.5, 0.006),
        ),
        (
            "{name: kaiming_uniform_, init_nonlinearity: leaky_relu, init_gain: 3.0, "
            "init_div_is_residual: '2', emb_init_uniform_lim: 0.03}",
            *(0.2**0.5 / 32, 0.2**0.5 / 32, 0.2**0.5 / 128, 0.03 / 3**0.5),
        ),
        (
            "{name: xavier_normal_, init_gain: 0.5, init_div_is_residual: false, "
            "emb_init_uniform_lim: [-0.01, 0.05]}",
            *(0.5 * math.sqrt(2 / (D + HEAD)), *[0.5 * math.sqrt(2 / (D + F))] * 2, 0.06 / 12**0.5),
        ),
        ("{name: xavier_uniform_}", 0.0, 0.0, 0.0, 0.0),  # init_gain is 0 by default.
        ("{name: default_, emb_init_std: 1}", *[(3 * D) ** -0.5] * 2, (3 * F) ** -0.5, 1.0),
    ],
)  # fmt: skip
def test_every_initialization_is_read_by_its_formula(
    fragment: str, wqkv: float, up: float, down: float, embedding: float
) -> None:
    """Each with its gain, its fan and its own ways with residual projections and embeddings."""
    found = stds(read(with_init(fragment)))
    assert found["attn.Wqkv"] == pytest.approx(wqkv)
    assert found["ffn.up_proj"] == pytest.approx(up)
    assert found["ffn.down_proj"] == pytest.approx(down)
    assert found["model.transformer.wte"] == pytest.approx(embedding)


@pytest.mark.parametrize("name", [name for name in NAMES if name[0] in "kx"])
@pytest.mark.parametrize("how", ["relu", "leaky_relu", "linear", "tanh", "selu", "sigmoid"])
@pytest.mark.parametrize("fan_mode", ["fan_in", "fan_out"])
def test_formulas_are_torchs(name: str, how: str, fan_mode: str) -> None:
    """What torch.nn.init draws with the arguments that LLM Foundry hands it."""
    torch.manual_seed(9)
    weight, gain = torch.empty(384, 96), 0.7
    draw = getattr(nn.init, name)
    if name.startswith("kaiming"):
        draw(weight, a=gain, mode=fan_mode, nonlinearity=how)
    else:
        draw(weight, gain=gain)
    fragment = {
        "name": name,
        "init_gain": gain,
        "fan_mode": fan_mode,
        "init_nonlinearity": how,
        "init_div_is_residual": False,
    }
    init = Initialization.read(Keys(fragment, "", None, error=ExportError), 96, 2)
    tolerance = 4 / math.sqrt(2 * weight.numel())
    assert float(weight.std()) == pytest.approx(init.std(96, 384), rel=tolerance)


def test_an_export_takes_the_gain_and_says_by_how_much_it_misses() -> None:
    """At γ 0.7 the down-projection is 4^0.2 = 1.32× off, by one std it would be 4^0.7 = 2.64×."""
    edited = exported(0.7)
    report = edited.report
    slope = json.loads(edited.text.partition("init_gain: ")[2].partition("\n")[0])
    assert slope == pytest.approx(math.sqrt(2 / 0.25**2 - 1))  # 1024^(0.5 − 0.7) is 0.25.
    assert edited.text == MPT.replace(
        INIT,
        f"{INIT}  init_config:\n    name: kaiming_normal_\n    fan_mode: fan_in\n"
        f"    init_nonlinearity: leaky_relu\n    init_gain: {slope!r}\n"
        f"    init_div_is_residual: false\n    emb_init_std: {1024**-0.7!r}\n",
    )
    ratios = {each.name.removeprefix(BLOCK): each.ratio for each in report.matrices}
    assert ratios.pop("ffn.down_proj.weight") == pytest.approx(4**0.2)
    assert all(ratio == pytest.approx(1, rel=1e-9) for ratio in ratios.values())
    assert (report.key, report.std) == ("model.init_config.emb_init_std", 1024**-0.7)
    assert report.could_not_express == (
        f"init_gain {slope:.6g} is a leaky ReLU's slope, of gain 0.25, so that every matrix has "
        "0.25/√fan_in: at worst 1.32× off, while one std for all (baseline_) is 2.64× off",
    )
    assert exported(0.7, edited.text).text == edited.text


def test_where_no_slope_gives_the_gain_one_std_is_written() -> None:
    """A leaky ReLU's gain is √2 at most, so that γ is 0.45 at least at this width."""
    edited = exported(0.2)
    down = next(each for each in edited.report.matrices if "down_proj" in each.name)
    assert down.ratio == pytest.approx(4**0.2)
    assert edited.report.key == "model.init_config.init_std"
    assert edited.report.could_not_express == (
        "one std for all (baseline_) is at worst 1.32× off, while one gain for all would need more "
        "than √2",
    )


def test_a_model_whose_fan_ins_are_all_its_width_is_exact() -> None:
    """Then one std says it all, and nothing is said of another."""
    edited = exported(0.7, MPT.replace("expansion_ratio: 4", "expansion_ratio: 1"))
    assert edited.report.exact
    assert edited.report.could_not_express == ()
    assert edited.hook is None


@given(st.integers(2, 10**5), st.floats(0.05, 2))
def test_the_slope_gives_the_gain(width: int, gamma: float) -> None:
    """√(2/(1 + slope²)) is width^(0.5 − γ); there is none where that is over √2."""
    slope, gain = leaky_slope(width, gamma), width ** (0.5 - gamma)
    if slope is None:
        assert gain > math.sqrt(2) * (1 - 1e-9)
    else:
        assert math.sqrt(2 / (1 + slope**2)) == pytest.approx(gain, rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.floats(min_value=0.05, max_value=2))
def test_the_matrices_of_the_models_width_get_gamma(gamma: float) -> None:
    """By either initialization, embeddings and residual projections too."""
    report = exported(gamma).report
    assert all(each.exact for each in report.matrices if each.fan_in == D)
    wide = next(each for each in report.matrices if each.fan_in == F)
    by_gain = gamma > 0.5 - math.log(math.sqrt(2)) / math.log(D)  # Else it is over √2.
    assert wide.ratio == pytest.approx(4 ** (gamma - 0.5 if by_gain else gamma), rel=1e-9)


UNTIED = "  init_device: meta\n"


def test_an_untied_head_keeps_torchs_draw_off_the_meta_device() -> None:
    """init_config is applied to the transformer, and to the head only by FSDP, from meta."""
    untied = MPT.replace(UNTIED, "  init_device: cpu\n  tie_word_embeddings: false\n")
    edited = exported(0.7, untied)
    head = edited.report.matrices[-1]
    assert (head.name, head.kind) == ("model.lm_head.weight", "head")
    assert head.yielded == head.before == pytest.approx(1 / math.sqrt(3 * D))
    assert head.hooked is None
    assert edited.report.could_not_express[1].startswith("the untied head keeps torch's own draw")
    meta = exported(0.7, MPT.replace(UNTIED, f"{UNTIED}  tie_word_embeddings: false\n"))
    assert meta.report.matrices[-1].ratio == pytest.approx(1, rel=1e-9)
    assert meta.report.matrices[-1].hooked == meta.report.matrices[-1].wanted


@pytest.mark.parametrize(
    ("change", "shapes"),
    [
        (
            "    attn_type: grouped_query_attention\n    kv_n_heads: 4\n",
            {"attn.Wqkv": (1024 + 2 * 4 * 64, 1024)},
        ),
        ("    attn_type: multiquery_attention\n", {"attn.Wqkv": (1024 + 2 * 64, 1024)}),
        (
            "    fused_qkv: false\n  head_dim: 32\n",
            {"attn.Wq": (512, 1024), "attn.Wk": (512, 1024), "attn.out_proj": (1024, 512)},
        ),
        ("  ffn_config:\n    ffn_type: mptglu\n", {"ffn.gate_proj": (4096, 1024)}),
        ("  ffn_config:\n    ffn_hidden_size: 2816\n", {"ffn.down_proj": (1024, 2816)}),
        ("    rope: true\n", {"model.transformer.wpe": None}),
    ],
)
def test_shapes_follow_the_keys(change: str, shapes: dict[str, tuple[int, int] | None]) -> None:
    """Of grouped and separate heads, gated feed-forwards and learned positions."""
    matrices = read(MPT.replace(INIT, INIT + change)).matrices
    found = {m.name.removeprefix(BLOCK).removesuffix(".weight"): m.shape for m in matrices}
    assert {name: found.get(name) for name in shapes} == shapes


def test_keys_of_older_files_are_told() -> None:
    """They stand beside the model's, where the version that is known reads none of them."""
    remarks = read(MPT.replace("  n_heads: 16\n", "  n_heads: 16\n  init_std: 0.02\n")).remarks
    assert remarks == (
        "LLM Foundry 0.22 ignores model.init_std: what draws stands in model.init_config",
    )


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("mpt_causal_lm", "dbrx", r"model: name is 'dbrx': write mpt_causal_lm, or hf_causal_lm"),
        ("n_heads: 16", "n_heads: 15", r"n_heads 15 does not divide d_model 1024"),
        ("d_model: 1024", "d_model: ${variables.none}", r"model: d_model is the string"),
        (INIT, f"{INIT}    kv_dim: 64\n", r"attn_config: kv_dim gives blocks matrices"),
        (INIT, f"{INIT}  block_overrides: {{order: []}}\n", r"block_overrides gives blocks"),
        (INIT, f"{INIT}  ffn_config: {{ffn_type: mb_dmoe}}\n", r"ffn_type 'mb_dmoe' are not known"),
        (INIT, f"{INIT}  init_config: {{name: magic_}}\n", r"name 'magic_' is not known to draw"),
        (INIT, f"{INIT}  init_config: {{name: baseline_}}\n", r"init_std is missing: write one"),
        (
            INIT,
            f"{INIT}  init_config: {{name: critical_}}\n",
            r"'critical_' does not say with",
        ),
        (
            INIT,
            f"{INIT}  init_config: {{name: critical_5.0}}\n",
            r"write the NAME .* critical_0\.",
        ),
        (INIT, f"{INIT}  init_config: {{fan_mode: fan_up}}\n", r"fan_mode is 'fan_up': write"),
        (
            INIT,
            f"{INIT}  init_config: {{init_nonlinearity: gelu}}\n",
            r"one of linear.*leaky",
        ),
        (
            INIT,
            f"{INIT}  init_config: {{init_div_is_residual: 0}}\n",
            r"is no divisor: write",
        ),
        (INIT, f"{INIT}  init_config: {{emb_init_uniform_lim: [1]}}\n", r"is no limit: write"),
        ("expansion_ratio: 4", "expansion_ratio: 1.3", r"1\.3 times d_model 1024 is no whole"),
        ("expansion_ratio: 4", "expansion_ratio: 1.0e+308", r"1e\+308 times d_model 1024 is no"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(old: str, new: str, sentence: str) -> None:
    """It names the file, the section and the key."""
    assert MPT.count(old) == 1
    with pytest.raises(CriticalError, match=sentence) as caught:
        read(MPT.replace(old, new))
    assert str(caught.value).startswith("mpt.yaml, model")
    assert "\n" not in str(caught.value)


HF = """\
model:
  name: hf_causal_lm
  pretrained_model_name_or_path: my-llama # a folder
  pretrained: false
  config_overrides:
    rms_norm_eps: 1.0e-06
optimizer: {name: decoupled_lionw}
"""
LLAMA = {
    "model_type": "llama",
    "hidden_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "intermediate_size": 1024,
    "vocab_size": 512,
    "rms_norm_eps": 1e-5,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a model's own in it."""
    (tmp_path / "my-llama").mkdir()
    (tmp_path / "my-llama" / "config.json").write_text(json.dumps(LLAMA))
    return tmp_path


def test_a_hugging_face_model_is_read_from_its_folder_and_overridden(folder: Path) -> None:
    """The std goes to config_overrides, over the folder's config.json."""
    reading = LlmFoundry().read(source_of(HF, folder))
    assert (reading.model, reading.file_name) == ("llama", "mpt.yaml")
    assert reading.std == Setting("initializer_range", 0.02, stated=False)
    assert reading.norms is not None
    assert reading.norms.eps.value == 1e-6
    assert reading.optimizer is None
    edited = export("llm-foundry", source_of(HF, folder), 0.7)
    assert edited.text == HF.replace(
        "1.0e-06\n", f"1.0e-06\n    initializer_range: {256**-0.7!r}\n"
    )
    assert edited.report.key == "model.config_overrides.initializer_range"
    assert edited.report.std == 256**-0.7
    assert edited.hook is not None
    assert "python critical_init.py FOLDER NEW_FOLDER" in edited.hook.usage


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("  pretrained: false\n", "", r"pretrained is not false, .*write pretrained: false"),
        ("my-llama", "meta-llama/Llama-2-7b", r"'meta-llama/Llama-2-7b' is no folder here"),
        ("rms_norm_eps: 1.0e-06", "hidden_size: 512", r"config_overrides changes hidden_size"),
    ],
)
def test_a_hugging_face_model_that_is_not_drawn_is_refused(
    old: str, new: str, sentence: str, folder: Path
) -> None:
    """Trained weights, a name on the hub, and an override that comes too late."""
    with pytest.raises(ExportError, match=sentence):
        LlmFoundry().read(source_of(HF.replace(old, new), folder))


@pytest.mark.parametrize(
    ("text", "own"),
    [
        (MPT, True),
        (HF, True),
        ("model: {name: hf_t5}\n", False),
        ("model: {model_config: {}, init_method: {}}\n", False),
        ("model: mpt_causal_lm\n", False),
    ],
)
def test_its_own_files_are_claimed(text: str, own: bool) -> None:
    """By the model's name."""
    assert LlmFoundry().claims(YamlDocument(text, "mpt.yaml")) is own


@given(gamma=st.floats(0, 4, exclude_min=True))
@settings(max_examples=30, deadline=None)
def test_a_file_that_follows_the_hooks_usage_is_read_as_it_draws(gamma: float) -> None:
    """The name that the module registers tells γ, and every matrix has it, whatever else stands."""
    edited = exported(gamma)
    if edited.hook is None:  # Where the edit alone is exact.
        return
    name = re.search(r"name: (\S+) under model\.init_config", edited.hook.usage)
    assert name is not None
    text = re.sub(r"name: (baseline_|kaiming_normal_)", f"name: {name[1]}", edited.text)
    reading = read(text)
    assert reading.std is None and reading.depth_scaling is None
    for each in reading.matrices:
        assert each.configured_std == each.fan_in**-gamma
    assert "critical_init.py, which code_paths does not name, draws with γ" in reading.remarks[-1]
    named = read(f"code_paths: [critical_init.py]\n{text}")
    assert named.remarks[-1].startswith("critical_init.py, draws with γ")


def test_a_file_that_follows_the_hooks_usage_is_exported_anew() -> None:
    """With another γ: keys of LLM Foundry's own again, and a new module."""
    edited = exported(0.6, with_init("{name: critical_0.7}"))
    names = ("baseline_", "kaiming_normal_")
    assert yaml.safe_load(edited.text)["model"]["init_config"]["name"] in names
    assert edited.hook is not None and "critical_0.6 under" in edited.hook.usage


def test_the_hook_draws_by_the_last_dimension() -> None:
    """Which is the fan-in of a matrix, of a part of a fused one, and an embedding's width."""
    edited = exported(0.7)
    assert edited.hook is not None
    assert "code_paths: [critical_init.py]" in edited.hook.usage
    module: Any = ModuleType("critical_init")
    exec(compile(edited.hook.text, edited.hook.file_name, "exec"), module.__dict__)
    assert (module.NAME, module.GAMMA) == ("critical_0.7", 0.7)
    torch.manual_seed(4)
    fused = torch.zeros(384, 96)
    for start in range(0, 384, 32):
        module.draw(fused[start : start + 32])
    assert float(fused.std()) == pytest.approx(96**-0.7, rel=4 / math.sqrt(2 * fused.numel()))
    assert all(each.hooked == each.wanted for each in edited.report.matrices)
