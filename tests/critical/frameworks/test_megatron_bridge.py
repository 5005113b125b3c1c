"""Megatron-Bridge's YAML: overrides of a recipe, and configurations that it saved whole."""

from __future__ import annotations

import pytest
import yaml

from critical.errors import ExportError
from critical.export import export
from critical.frameworks.documents.yaml_document import YamlDocument
from critical.frameworks.framework import Source
from critical.frameworks.megatron_bridge import MegatronBridge
from critical.frameworks.reading import Reading

OVERRIDES = """\
# Overrides for pretrain.py --config-file
train:
  train_iters: 1000   # steps
  global_batch_size: 256

model:
  num_layers: 32
  hidden_size: 2048
  ffn_hidden_size: 5632
  num_attention_heads: 16
  num_query_groups: 4
  gated_linear_unit: true
  share_embeddings_and_output_weights: false
  position_embedding_type: rope
  tensor_model_parallel_size: 2
  init_method_std: 0.01   # as Llama 3's recipe

optimizer:
  lr: 3e-4
  adam_eps: 1e-8
  weight_decay: 0.1
"""
SAVED = """\
_target_: megatron.bridge.training.config.ConfigContainer
checkpoint:
  _target_: megatron.bridge.training.config.CheckpointConfig
  pretrained_checkpoint: null
model:
  _target_: megatron.bridge.models.qwen.qwen_provider.Qwen3MoEModelProvider
  attention_output_gate: false
  embedding_init_method:
    _args_: []
    _partial_: true
    _target_: torch.nn.init.normal_
    mean: 0.0
    std: 0.05
  embedding_init_method_std: 0.05
  ffn_hidden_size: 1024
  gated_linear_unit: true
  hidden_size: 512
  init_method:
    _args_: []
    _partial_: true
    _target_: torch.nn.init.normal_
    mean: 0.0
    std: 0.02
  init_method_std: 0.02
  kv_channels: 128
  layernorm_epsilon: 1.0e-06
  moe_ffn_hidden_size: 256
  moe_grouped_gemm: true
  moe_layer_freq: 1
  num_attention_heads: 8
  num_layers: 8
  num_moe_experts: 16
  num_query_groups: 2
  output_layer_init_method:
    _args_: []
    _partial_: true
    _target_: torch.nn.init.normal_
    mean: 0.0
    std: 0.005
  position_embedding_type: rope
  qk_layernorm: true
  share_embeddings_and_output_weights: true
  should_pad_vocab: true
  tensor_model_parallel_size: 2
  vocab_size: 1000
"""


def source(text: str) -> Source:
    return Source(YamlDocument(text, "conf.yaml"))


def read(text: str) -> Reading:
    return MegatronBridge().read(source(text))


def test_overrides_are_read_and_what_the_recipe_decides_is_remarked() -> None:
    """Outputs are drawn with 0.01 / √64; ε may be a text of YAML 1.1."""
    reading = read(OVERRIDES)
    stds = {each.name.rpartition(".")[0]: each.configured_std for each in reading.matrices}
    assert stds == {
        "embedding.word_embeddings": 0.01,
        "decoder.layers.*.self_attention.linear_qkv": 0.01,
        "decoder.layers.*.self_attention.linear_proj": pytest.approx(0.00125),
        "decoder.layers.*.mlp.linear_fc1": 0.01,
        "decoder.layers.*.mlp.linear_fc2": pytest.approx(0.00125),
        "output_layer": 0.01,
    }
    assert reading.matrices[1].shape == (2048 + 2 * 4 * 128, 2048)
    assert reading.depth_scaling is not None
    assert reading.depth_scaling.remedy == "model.output_layer_init_method with a std of its own"
    assert reading.optimizer is not None and reading.optimizer.eps.value == 1e-8
    assert reading.remarks[0].startswith(
        "model.kv_channels, model.attention_output_gate, model.num"
    )


def test_an_export_gives_the_outputs_a_std_of_their_own() -> None:
    """The partial is what Megatron-Bridge makes a function of; only 5632 is off, by 2.75^0.7."""
    edited = export("megatron-bridge", source(OVERRIDES), 0.7)
    std = 2048**-0.7
    assert edited.text == OVERRIDES.replace(
        "0.01   # as Llama 3's recipe\n",
        f"{std!r}   # as Llama 3's recipe\n"
        "  output_layer_init_method:\n"
        '    _target_: "torch.nn.init.normal_"\n'
        "    _partial_: true\n"
        "    mean: 0.0\n"
        f"    std: {std!r}\n",
    )
    inexact = [each for each in edited.report.matrices if not each.exact]
    assert [each.name for each in inexact] == ["decoder.layers.*.mlp.linear_fc2.weight"]
    assert inexact[0].ratio == pytest.approx(2.75**0.7)
    assert edited.hook is not None and "apply(config.model)" in edited.hook.usage


def test_a_saved_configuration_is_drawn_with_its_partials() -> None:
    """They take the place of the stds; the vocabulary is padded to 128 · 2."""
    reading = read(SAVED)
    layer = "decoder.layers.*."
    found = {
        each.name: (each.count, each.shape, each.fan_in, each.configured_std)
        for each in reading.matrices
    }
    assert found == {
        "embedding.word_embeddings.weight": (1, (1024, 512), 512, 0.05),
        f"{layer}self_attention.linear_qkv.weight": (8, (1024 + 512, 512), 512, 0.02),
        f"{layer}self_attention.linear_proj.weight": (8, (512, 1024), 1024, 0.005),
        f"{layer}mlp.router.weight": (8, (16, 512), 512, 0.02),
        f"{layer}mlp.experts.linear_fc1.weight*": (128, (512, 512), 512, 0.02),
        f"{layer}mlp.experts.linear_fc2.weight*": (128, (512, 256), 256, 0.005),
    }
    assert reading.std is not None and reading.std.key == "model.init_method.std"
    assert reading.depth_scaling is not None  # 0.02 / √16
    assert reading.tied and reading.attention.qk_norm


def test_an_export_sets_the_partials_too() -> None:
    """All four numbers, and nothing else."""
    edited = export("megatron-bridge", source(SAVED), 0.5)
    std = 512**-0.5
    values, before = yaml.safe_load(edited.text)["model"], yaml.safe_load(SAVED)["model"]
    for name in ("init_method", "output_layer_init_method", "embedding_init_method"):
        assert values.pop(name) == {**before.pop(name), "std": std}
    stds = {"init_method_std": std, "embedding_init_method_std": std}
    assert values == {**before, **stds}
    by_name = {each.name.rpartition(".")[0]: each.ratio for each in edited.report.matrices}
    assert by_name["decoder.layers.*.self_attention.linear_proj"] == pytest.approx(2**0.5)
    assert by_name["decoder.layers.*.mlp.experts.linear_fc2"] == pytest.approx(0.5**0.5)


def test_a_null_function_keeps_megatrons_depth_scaling() -> None:
    """The note says what to remove."""
    text = OVERRIDES.replace("model:\n", "model:\n  output_layer_init_method: null\n")
    edited = export("megatron-bridge", source(text), 0.7)
    assert (
        "remove the line model.output_layer_init_method: null" in edited.report.could_not_express[0]
    )
    ratio = {each.name: each.ratio for each in edited.report.matrices}
    assert ratio["decoder.layers.*.self_attention.linear_proj.weight"] == pytest.approx(1 / 8)


def test_an_embedding_std_that_equals_the_other_leaves_the_given_function() -> None:
    """As __post_init__ has it: only one that differs makes a function of its own."""
    init = "init_method: {_target_: torch.nn.init.normal_, _partial_: true, mean: 0.0, std: 0.5}"
    text = OVERRIDES.replace("  init_method_std: 0.01 ", f"  {init}\n  init_method_std: 0.01 ")
    assert read(text).matrices[0].configured_std == 0.5
    own = text.replace("model:\n", "model:\n  embedding_init_method_std: 0.25\n")
    assert read(own).matrices[0].configured_std == 0.25
    assert read(own).optimizer is not None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("model:\n  init_method_std: 0.01\n", "the file leaves hidden_size, num_layers, .* to the"),
        (OVERRIDES.replace("  gated_linear_unit: true\n", ""), "leaves gated_linear_unit to the r"),
        (OVERRIDES.replace("hidden_size: 2048", "hidden_size: wide"), "hidden_size is the string"),
        (SAVED.replace("Qwen3MoE", "NemotronH"), "NemotronHModelProvider builds matrices that are"),
        (SAVED.replace("  kv", "  multi_latent_attention: true\n  kv"), "multi_latent_attention b"),
        (SAVED.replace("torch.nn.init.normal_", "torch.nn.init.uniform_"), "it is no partial of"),
        (SAVED.replace("freq: 1", "freq: [1, 0]"), "moe_layer_freq is no number, nor a list of 8"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(text: str, sentence: str) -> None:
    """The sentence names the file and the section."""
    with pytest.raises(ExportError, match=rf"conf\.yaml, model.*{sentence}"):
        read(text)


def test_only_its_own_files_are_claimed() -> None:
    """NeMo 1 and Hugging Face have like keys."""
    framework = MegatronBridge()
    assert framework.claims(YamlDocument(OVERRIDES, "a.yaml"))
    assert framework.claims(YamlDocument(SAVED, "a.yaml"))
    assert not framework.claims(YamlDocument(f"trainer: {{}}\n{OVERRIDES}", "a.yaml"))
    assert not framework.claims(YamlDocument("model: {hidden_size: 1, num_layers: 2}", "a.yaml"))
    assert not framework.claims(YamlDocument("model: gpt2", "a.yaml"))
