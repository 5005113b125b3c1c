"""Axolotl's YAML: the model in a folder, drawn anew, with its std set over config.json."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from critical.errors import CriticalError, ExportError
from critical.export import export
from critical.frameworks import Source
from critical.frameworks.axolotl import Axolotl
from critical.frameworks.documents.yaml_document import YamlDocument
from critical.frameworks.reading import Optimizer, Reading, Setting

YAML = """\
base_model: ./tiny-qwen # config.json and a tokenizer, no weights
# optionally
tokenizer_type: AutoTokenizer
reinit_weights: true

pretraining_dataset:
  - path: HuggingFaceFW/fineweb-edu
    type: pretrain
sequence_len: 2048
sample_packing: true

micro_batch_size: 2
num_epochs: 1
optimizer: adamw_torch_fused
learning_rate: 3e-4 # peak
weight_decay: 0.1
bf16: auto
"""
QWEN = {
    "model_type": "qwen2",
    "hidden_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 1024,
    "vocab_size": 512,
    "initializer_range": 0.02,
}
OVERRIDES = "overrides_of_model_config:\n  initializer_range: 0.01\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder that the YAML lies in."""
    (tmp_path / "tiny-qwen").mkdir()
    (tmp_path / "tiny-qwen" / "config.json").write_text(json.dumps(QWEN))
    return tmp_path


def source_of(text: str, folder: Path | None) -> Source:
    """Return a YAML as a source."""
    return Source(YamlDocument(text, "pretrain.yaml"), folder)


def read(text: str, folder: Path) -> Reading:
    """Read a YAML."""
    return Axolotl().read(source_of(text, folder))


def test_the_model_in_the_folder_is_read(folder: Path) -> None:
    """By its config.json, under the YAML's name, with the YAML's optimizer."""
    reading = read(YAML, folder)
    assert (reading.framework, reading.file_name, reading.model) == (
        "axolotl",
        "pretrain.yaml",
        "qwen2",
    )
    assert reading.std == Setting("initializer_range", 0.02, stated=True)
    assert {each.configured_std for each in reading.matrices} == {0.02}
    assert reading.optimizer == Optimizer(
        Setting("adam_epsilon", 1e-8, stated=False),
        Setting("weight_decay", 0.1, stated=True),
        decays_embeddings=True,
    )
    assert reading.remarks == ()


def test_what_is_set_over_the_config_json_wins(folder: Path) -> None:
    """Under either name of the key."""
    for overrides in (OVERRIDES, OVERRIDES.replace("overrides_of_model_config", "model_config")):
        reading = read(YAML + overrides, folder)
        assert {each.configured_std for each in reading.matrices} == {0.01}
        section = overrides.partition(":")[0]
        assert reading.std == Setting(f"{section}.initializer_range", 0.01, stated=True)
    added = read(f"{YAML}overrides_of_model_config:\n  tie_word_embeddings: true\n", folder)
    assert (added.tied, read(YAML, folder).tied) == (True, False)


def test_an_export_sets_the_std_over_the_config_json(folder: Path) -> None:
    """The last lines are new; the down-projection misses by 4^0.7, and the folder is untouched."""
    before = (folder / "tiny-qwen" / "config.json").read_bytes()
    edited = export("axolotl", source_of(YAML, folder), 0.7)
    std = 256**-0.7
    assert edited.text == f"{YAML}overrides_of_model_config:\n  initializer_range: {std!r}\n"
    assert (edited.report.key, edited.report.std) == (
        "overrides_of_model_config.initializer_range",
        std,
    )
    assert edited.report.worst_ratio == pytest.approx(4**0.7)
    assert export("axolotl", source_of(edited.text, folder), 0.7).text == edited.text
    assert (folder / "tiny-qwen" / "config.json").read_bytes() == before


def test_an_export_keeps_the_files_own_name_for_the_overrides(folder: Path) -> None:
    """Axolotl takes model_config as well, and both would be one too many."""
    text = YAML + OVERRIDES.replace("overrides_of_model_config", "model_config")
    edited = export("axolotl", source_of(text, folder), 0.7)
    assert edited.text == text.replace("0.01", repr(256**-0.7))


def test_a_folder_where_the_user_is_will_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Axolotl looks from where it is started; beside the YAML comes first."""
    elsewhere = tmp_path_factory.mktemp("configs")
    with pytest.raises(ExportError, match=r"is no folder here"):
        read(YAML, elsewhere)
    monkeypatch.chdir(folder)
    assert read(YAML, elsewhere) == read(YAML, folder)


def test_base_model_config_names_the_configuration(folder: Path) -> None:
    """As axolotl has it, where it is given."""
    text = YAML.replace(
        "base_model: ./tiny-qwen", "base_model: no/such\nbase_model_config: tiny-qwen"
    )
    assert read(text, folder).model == "qwen2"


@pytest.mark.parametrize(
    ("line", "decays"),
    [
        ("embedding_lr: 1e-4", False),
        ("embedding_lr_scale: 0.5", False),
        ("lr_groups: [{name: a, modules: [mlp], lr: 1e-4}]", False),
        ("adam_beta2: 0.95", True),
    ],
)
def test_embeddings_in_a_group_of_their_own_are_not_decayed(
    line: str, decays: bool, folder: Path
) -> None:
    """Axolotl's own optimizer groups give embeddings a weight decay of 0."""
    reading = read(f"{YAML}{line}\n", folder)
    assert reading.optimizer is not None
    assert reading.optimizer.decays_embeddings is decays


@pytest.mark.parametrize(
    ("name", "known", "decays"),
    [("paged_adamw_8bit", True, True), ("ao_adamw_8bit", True, None), ("muon", False, None)],
)
def test_other_optimizers(name: str, known: bool, decays: bool | None, folder: Path) -> None:
    """Adam's are known as far as they are the Trainer's; others have no ε of Adam's."""
    optimizer = read(YAML.replace("adamw_torch_fused", name), folder).optimizer
    assert (optimizer is not None) is known
    assert (optimizer and optimizer.decays_embeddings) is decays


def test_what_stays_undrawn_is_told(folder: Path) -> None:
    """Adapters, and rows for new tokens."""
    remarks = read(f"{YAML}adapter: lora\ntokens: ['<a>']\n", folder).remarks
    assert [each.split()[0] for each in remarks] == ["adapter", "rows"]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("reinit_weights: true\n", "", r"reinit_weights is not true, .*write reinit_weights: true"),
        ("reinit_weights: true", "reinit_weights: yes please", r"reinit_weights is the string"),
        ("./tiny-qwen", "Qwen/Qwen2-0.5B", r"base_model 'Qwen/Qwen2-0\.5B' is no folder here"),
        ("./tiny-qwen", '"a\\0b"', r"base_model 'a\\x00b' is no folder here"),
        ("./tiny-qwen", "x" * 5000, r"base_model 'xxx.{77}' is no folder here"),
        ("base_model: ./tiny-qwen", "base_model: [a]", r"base_model is a list: write a text"),
        ("bf16: auto", "overrides_of_model_config: 3", r"overrides_of_model_config is 3: write an"),
        ("bf16: auto", f"{OVERRIDES}model_config: {{}}", r"are the same key: keep one of them"),
        (
            "bf16: auto",
            "overrides_of_model_config: {hidden_size: 512}",
            r"overrides_of_model_config changes hidden_size, .*write it into config\.json",
        ),
        ("bf16: auto", "overrides_of_model_config: {vocab_size: many}", r"vocab_size is the str"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_in_a_sentence(
    old: str, new: str, sentence: str, folder: Path
) -> None:
    """A model that keeps its weights, one that is on the hub, and values that are none."""
    assert YAML.count(old) == 1
    with pytest.raises(CriticalError, match=sentence) as caught:
        read(YAML.replace(old, new), folder)
    assert "\n" not in str(caught.value)


def test_a_nested_language_model_is_refused(folder: Path) -> None:
    """What is set over the outer configuration does not reach the inner one; hf edits it there."""
    config = folder / "tiny-qwen" / "config.json"
    config.write_text(json.dumps({"model_type": "llava", "text_config": QWEN}))
    for text in (YAML, YAML + OVERRIDES):
        with pytest.raises(ExportError, match=r"text_config.*export .*config\.json alone, as hf"):
            read(text, folder)


@pytest.mark.parametrize(
    ("text", "own"),
    [
        (YAML, True),
        ("base_model: x\ndatasets: []\n", True),
        ("base_model: x\nmerge_method: slerp\n", False),
        ("model_name_or_path: x\nstage: pt\n", False),
        ("model: {model_config: {}, init_method: {}}\n", False),
    ],
)
def test_its_own_files_are_claimed(text: str, own: bool) -> None:
    """By base_model beside what mergekit, for one, does not have."""
    assert Axolotl().claims(YamlDocument(text, "a.yaml")) is own


def test_the_hook_is_a_plugin(folder: Path) -> None:
    """Named in the YAML, called once the model is built."""
    edited = export("axolotl", source_of(YAML, folder), 0.7)
    assert edited.hook is not None
    assert "plugins: [critical_init.AxolotlPlugin]" in edited.hook.usage
    module: Any = ModuleType("critical_init")
    exec(compile(edited.hook.text, edited.hook.file_name, "exec"), module.__dict__)
    torch.manual_seed(2)
    layer = nn.Linear(1024, 128, bias=False)
    module.AxolotlPlugin().post_model_build(cfg=None, model=layer)
    tolerance = 4 / math.sqrt(2 * layer.weight.numel())
    assert float(layer.weight.detach().std()) == pytest.approx(1024**-0.7, rel=tolerance)


def test_transformers_draws_what_is_set_over_its_configuration(folder: Path) -> None:
    """The two calls that Axolotl makes: an attribute set once the file is read, and from_config."""
    edited = export("axolotl", source_of(YAML, folder), 0.7)
    config = AutoConfig.from_pretrained(folder / "tiny-qwen")
    overrides = YamlDocument(edited.text, "pretrain.yaml").values["overrides_of_model_config"]
    for key, value in overrides.items():
        setattr(config, key, value)
    torch.manual_seed(6)
    model = AutoModelForCausalLM.from_config(config)
    weight = model.model.layers[0].mlp.down_proj.weight.detach()
    yielded = next(each.yielded for each in edited.report.matrices if "down_proj" in each.name)
    tolerance = 4 / math.sqrt(2 * weight.numel())
    assert float(weight.std()) == pytest.approx(yielded, rel=tolerance)
