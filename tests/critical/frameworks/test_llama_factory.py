"""LLaMA-Factory: config.json is edited, its YAML is read and says where to write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from critical.errors import ExportError
from critical.export import export
from critical.frameworks import Source
from critical.frameworks.documents.json_document import JsonDocument
from critical.frameworks.documents.yaml_document import YamlDocument
from critical.frameworks.llama_factory import LlamaFactory
from critical.frameworks.reading import Optimizer, Setting

YAML = """\
### model
model_name_or_path: models/tiny
train_from_scratch: true

### method
stage: pt
do_train: true
finetuning_type: full

### dataset
dataset: c4_demo
cutoff_len: 2048

### train
learning_rate: 3.0e-4
adam_epsilon: 1e-9
bf16: true
"""
LLAMA = {
    "model_type": "llama",
    "hidden_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "intermediate_size": 1024,
    "vocab_size": 512,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder that the YAML lies in."""
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    (tmp_path / "models" / "tiny" / "config.json").write_text(json.dumps(LLAMA))
    return tmp_path


def yaml_source(text: str, folder: Path) -> Source:
    """Return a YAML as a source."""
    return Source(YamlDocument(text, "pretrain.yaml"), folder)


def test_a_config_json_is_edited_and_the_yamls_part_is_said() -> None:
    """The std, and that without train_from_scratch nothing is drawn."""
    source = Source(JsonDocument(json.dumps(LLAMA), "config.json"))
    edited = export("llama-factory", source, 0.7)
    assert json.loads(edited.text) == {**LLAMA, "initializer_range": 256**-0.7}
    assert edited.report.framework == "llama-factory"
    assert "write train_from_scratch: true" in edited.report.could_not_express[-1]
    assert edited.hook is not None
    assert "NEW_FOLDER" in edited.hook.usage


def test_the_yaml_is_read_by_the_folder_that_it_names(folder: Path) -> None:
    """The model from there, the optimizer's ε from here."""
    reading = LlamaFactory().read(yaml_source(YAML + "resize_vocab: true\n", folder))
    assert (reading.file_name, reading.model, reading.width) == ("pretrain.yaml", "llama", 256)
    assert reading.optimizer == Optimizer(
        Setting("adam_epsilon", 1e-9, stated=True),
        Setting("weight_decay", 0.0, stated=False),
        decays_embeddings=True,
    )
    assert reading.remarks == ("rows that resize_vocab adds to the embeddings are drawn otherwise",)


def test_an_export_into_the_yaml_names_the_file_to_edit(folder: Path) -> None:
    """It has no key for a std."""
    with pytest.raises(ExportError, match=r"pretrain\.yaml has no key .*models/tiny/config\.json$"):
        export("llama-factory", yaml_source(YAML, folder), 0.7)
    edits = LlamaFactory().read(yaml_source(YAML, folder)).edits
    assert edits == str(folder / "models" / "tiny" / "config.json")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("train_from_scratch: true", "", r"train_from_scratch is not true, .*write train_from_sc"),
        ("models/tiny", "meta-llama/Llama-3.2-1B", r"'meta-llama/Llama-3\.2-1B' is no folder here"),
        ("model_name_or_path: models/tiny", "", r"model_name_or_path is missing: write it"),
    ],
)
def test_a_model_that_is_not_drawn_is_refused(
    old: str, new: str, sentence: str, folder: Path
) -> None:
    """Trained weights, a name on the hub, and none at all."""
    with pytest.raises(ExportError, match=sentence):
        LlamaFactory().read(yaml_source(YAML.replace(old, new), folder))


@pytest.mark.parametrize(
    ("text", "own"),
    [
        (YAML, True),
        ("model_name_or_path: x\noutput_dir: y\n", False),
        ("base_model: x\ndatasets: []\n", False),
    ],
)
def test_its_yaml_is_claimed(text: str, own: bool) -> None:
    """By keys that are its own; a config.json is transformers' until its user says otherwise."""
    assert LlamaFactory().claims(YamlDocument(text, "a.yaml")) is own
    assert not LlamaFactory().claims(JsonDocument(json.dumps(LLAMA), "config.json"))
