"""nanotron's YAML: one std, divided for row-parallel linears, and written without the division."""

from __future__ import annotations

import math
import re
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from critical.errors import ExportError
from critical.export import Edited, export
from critical.frameworks import Source
from critical.frameworks.documents.yaml_document import YamlDocument
from critical.frameworks.nanotron import Nanotron
from critical.frameworks.nanotron_model import EMBEDDING
from critical.frameworks.reading import DepthScaling, Optimizer, Reading, Setting

LLAMA = """\
checkpoints:
  checkpoint_interval: 1000
  checkpoints_path: checkpoints
  resume_checkpoint_path: null
general:
  project: pretrain
  run: llama_%date_%jobid
  seed: 42
model:
  ddp_bucket_cap_mb: 25
  dtype: bfloat16
  init_method:
    std: 0.025 # as SmolLM
  make_vocab_size_divisible_by: 64
  model_config:
    hidden_act: silu
    hidden_size: 1024
    initializer_range: 0.02
    intermediate_size: 4096
    is_llama_config: true
    num_attention_heads: 16
    num_hidden_layers: 8
    num_key_value_heads: 4
    rms_norm_eps: 1.0e-05
    tie_word_embeddings: false
    vocab_size: 49000
optimizer:
  accumulate_grad_in_fp32: true
  clip_grad: 1.0
  learning_rate_scheduler:
    learning_rate: 0.0003 # linear warm-up
  optimizer_factory:
    adam_beta1: 0.9
    adam_beta2: 0.95
    adam_eps: 1.0e-08
    name: adamW
    torch_adam_is_fused: true
  weight_decay: 0.01
  weight_decay_exclude_named_params:
  - .*token_embedding.*
parallelism:
  dp: 8
  pp: 1
  tp: 2
tokens:
  sequence_length: 2048
"""
BLOCK = "model.decoder.*.pp_block."


def source_of(text: str = LLAMA) -> Source:
    """Return a YAML as a source."""
    return Source(YamlDocument(text, "config.yaml"))


def read(*changes: tuple[str, str]) -> Reading:
    """Read the configuration with some texts replaced, each of which is there once."""
    return Nanotron().read(changed(*changes))


def changed(*changes: tuple[str, str]) -> Source:
    """Return the configuration with some texts replaced, each of which is there once."""
    text = LLAMA
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return source_of(text)


def exported(*changes: tuple[str, str]) -> Edited:
    """Export γ 0.7 into the configuration."""
    return export("nanotron", changed(*changes), 0.7)


def by_name(reading: Reading) -> dict[str, tuple[int, tuple[int, ...], int, float]]:
    """Return (count, shape, fan-in, std) of every matrix."""
    return {
        each.name.removeprefix(BLOCK).removesuffix(".weight"): (
            each.count,
            each.shape,
            each.fan_in,
            each.configured_std,
        )
        for each in reading.matrices
    }


def test_the_matrices_have_nanotrons_names_shapes_and_stds() -> None:
    """Fused queries, keys and values of 16 + 2 · 4 heads of 64; rows padded to 64 · tp."""
    narrow = pytest.approx(0.025 / 4)  # √(2 · 8 layers)
    assert by_name(read()) == {
        EMBEDDING.removesuffix(".weight"): (1, (49024, 1024), 1024, 0.025),
        "attn.qkv_proj": (8, (1536, 1024), 1024, 0.025),
        "attn.o_proj": (8, (1024, 1024), 1024, narrow),
        "mlp.gate_up_proj": (8, (8192, 1024), 1024, 0.025),
        "mlp.down_proj": (8, (1024, 4096), 4096, narrow),
        "model.lm_head.pp_block": (1, (49024, 1024), 1024, 0.025),
    }


def test_the_rest_of_the_reading() -> None:
    """Norms, depth scaling and its remedy, optimizer, and the key that does nothing."""
    reading = read()
    assert (reading.model, reading.width, reading.depth, reading.tied) == ("llama", 1024, 8, False)
    assert reading.std == Setting("model.init_method.std", 0.025, stated=True)
    assert reading.norms is not None
    assert reading.norms.eps == Setting("model.model_config.rms_norm_eps", 1e-5, stated=True)
    assert reading.depth_scaling == DepthScaling(
        "std / √(2 · 8)", "model.init_method.scaling_method: NONE"
    )
    assert reading.optimizer == Optimizer(
        Setting("optimizer.optimizer_factory.adam_eps", 1e-8, stated=True),
        Setting("optimizer.weight_decay", 0.01, stated=True),
        decays_embeddings=False,
    )
    assert reading.remarks == ("model.model_config.initializer_range does nothing in nanotron",)


def test_an_export_writes_the_std_and_turns_the_division_off() -> None:
    """Two lines change; the down-projection misses by (4096/1024)^0.7, and the rest is exact."""
    edited = exported()
    report = edited.report
    assert edited.text == LLAMA.replace(
        "    std: 0.025 # as SmolLM\n",
        f"    std: {1024**-0.7!r} # as SmolLM\n    scaling_method: NONE\n",
    )
    ratios = {each.name.removeprefix(BLOCK): each.ratio for each in report.matrices}
    assert ratios.pop("mlp.down_proj.weight") == pytest.approx(4**0.7)
    assert set(ratios.values()) == {1.0}
    assert report.could_not_express == (
        "nanotron 0.4 from PyPI has no scaling_method, refuses the key, and always divides: "
        "install nanotron from its repository",
    )
    again = export("nanotron", source_of(edited.text), 0.7)
    assert again.text == edited.text
    assert again.report.could_not_express == ()


@settings(max_examples=30, deadline=None)
@given(st.floats(min_value=0.05, max_value=2))
def test_an_exported_gamma_reads_back(gamma: float) -> None:
    """Whatever it is, every matrix of fan-in 1024 has it; YAML reads the number as a number."""
    edited = export("nanotron", source_of(), gamma)
    assert yaml.safe_load(edited.text)["model"]["init_method"]["std"] == 1024**-gamma
    assert all(each.exact for each in edited.report.matrices if each.fan_in == 1024)


def test_no_scaling_is_read_as_such() -> None:
    """As are the method's name in small letters and the default written out."""
    none = read(("    std: 0.025", "    scaling_method: none\n    std: 0.025"))
    assert none.depth_scaling is None
    assert {each.configured_std for each in none.matrices} == {0.025}
    stated = read(("    std: 0.025", "    scaling_method: NUM_LAYERS\n    std: 0.025"))
    assert stated == read()


def test_tied_embeddings_on_both_ends_of_a_pipeline_are_averaged() -> None:
    """Two draws of std σ, averaged, have σ/√2; neither edit nor hook changes that."""
    tied = ("tie_word_embeddings: false", "tie_word_embeddings: true")
    alone = read(tied)
    assert by_name(alone)[EMBEDDING.removesuffix(".weight")][3] == 0.025
    assert not any("lm_head" in each.name for each in alone.matrices)
    edited = exported(tied, ("  pp: 1", "  pp: 2"))
    embedding = edited.report.matrices[0]
    assert embedding.ratio == pytest.approx(1 / math.sqrt(2))
    assert embedding.hooked is None
    assert "nanotron averages the draws of tied embeddings" in edited.report.could_not_express[1]


def test_the_optimizer_of_nanotron_0_4_is_read() -> None:
    """Where the factory's keys stand beside weight_decay, and nothing is excluded."""
    factory = re.compile(r"  optimizer_factory:\n(    .*\n)+  weight_decay: 0.01\n(  .*\n)+?(?=p)")
    old = "  adam_eps: 1.0e-06\n  weight_decay: 0.1\n"
    reading = Nanotron().read(source_of(factory.sub(old, LLAMA)))
    assert reading.optimizer == Optimizer(
        Setting("optimizer.adam_eps", 1e-6, stated=True),
        Setting("optimizer.weight_decay", 0.1, stated=True),
        decays_embeddings=True,
    )


@pytest.mark.parametrize(
    ("pattern", "decays"),
    [
        (r".*token_embedding.*", False),
        (r".*layernorm.*", True),
        (r"model\.token_position_embeddings", False),
        (r"lm_head", True),  # re.match: only where the name starts with it.
        (r"'(a+)+$'", None),  # What it excludes is not tried out.
    ],
)
def test_which_parameters_are_spared_from_decay(pattern: str, decays: bool | None) -> None:
    """Patterns of plain text are understood, others are not run."""
    reading = read(("  - .*token_embedding.*", f"  - {pattern}"))
    assert reading.optimizer is not None
    assert reading.optimizer.decays_embeddings is decays


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("    std: 0.025 # as SmolLM", "    path: ckpt", r"model\.init_method: path starts from"),
        ("    std: 0.025 # as SmolLM", "    use_mup: true", r"use_mup draws by µP's own rule"),
        ("    std: 0.025 # as SmolLM", "    {}", r"std is missing: write one, as 0\.02"),
        ("std: 0.025", "std: 1e-2", r"YAML reads std 1e-2 as a text: write 1.0e-2"),
        ("std: 0.025", "std: -1.0", r"std is -1\.0: write a number above 0"),
        (
            "    std: 0.025",
            "    scaling_method: LAYER_INDEX\n    std: 0.025",
            r"'LAYER_INDEX'.*NONE",
        ),
        ("is_llama_config", "is_starcoder2_config", r"is_starcoder2_config builds a model whose"),
        ("    is_llama_config", "    moe_config: {top_k: 2}\n    is_qwen2_config", r"moe_config"),
        ("num_attention_heads: 16", "num_attention_heads: 15", r"do not divide hidden_size 1024"),
        ("hidden_size: 1024", "hidden_size: wide", r"hidden_size is the string 'wide'"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(old: str, new: str, sentence: str) -> None:
    """It names the file, the section and the key."""
    with pytest.raises(ExportError, match=sentence) as caught:
        read((old, new))
    assert str(caught.value).startswith("config.yaml, model.")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "own"),
    [
        (LLAMA, True),
        ("model: {model_config: {}}\n", False),
        ("model: {init_config: {}, name: mpt_causal_lm}\n", False),
        ("model: llama\n", False),
        ("base_model: x\n", False),
    ],
)
def test_its_own_files_are_claimed(text: str, own: bool) -> None:
    """By the two sections that no other framework has."""
    assert Nanotron().claims(YamlDocument(text, "config.yaml")) is own


class TensorParallelRowLinear(nn.Linear):
    """Built as nanotron's is: its in_features are its shard's."""

    def __init__(self, in_features: int, out_features: int, world_size: int) -> None:
        super().__init__(in_features // world_size, out_features, bias=False)
        self.world_size = world_size


def test_the_hook_draws_after_the_models_own_draw() -> None:
    """With the fan-in of the whole matrix where a process holds a shard of it."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down_proj = TensorParallelRowLinear(1024, 128, world_size=4)

        def init_model_randomly(self, config: object) -> None:
            nn.init.ones_(self.down_proj.weight)

    edited = exported()
    assert edited.hook is not None
    assert 'critical_init.after(LlamaForTraining, "init_model_randomly")' in edited.hook.usage
    hook: Any = ModuleType("critical_init")
    exec(compile(edited.hook.text, edited.hook.file_name, "exec"), hook.__dict__)
    hook.after(Model, "init_model_randomly")
    torch.manual_seed(3)
    model = Model()
    model.init_model_randomly(config=None)
    tolerance = 4 / math.sqrt(2 * 128 * 256)
    assert float(model.down_proj.weight.detach().std()) == pytest.approx(1024**-0.7, rel=tolerance)
