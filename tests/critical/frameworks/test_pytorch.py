"""Plain PyTorch: a config.json for the table, and the module for any model."""

from __future__ import annotations

import json

import pytest

from critical.errors import TargetError
from critical.export import export
from critical.frameworks import Source
from critical.frameworks.documents.json_document import JsonDocument
from critical.frameworks.hf import HuggingFace
from critical.frameworks.pytorch import PlainPyTorch

TEXT = json.dumps(
    {
        "model_type": "llama",
        "hidden_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "intermediate_size": 1024,
        "vocab_size": 512,
    }
)


def source_of(text: str = TEXT) -> Source:
    """Return a config.json as a source."""
    return Source(JsonDocument(text, "config.json"))


def test_the_matrices_are_transformers_and_no_key_is() -> None:
    """One's own code may draw otherwise, which is said; nothing is known of its optimizer."""
    reading, own = PlainPyTorch().read(source_of()), HuggingFace().read(source_of())
    assert reading.matrices == own.matrices
    assert (reading.framework, reading.std, reading.optimizer) == ("pytorch", None, None)
    assert reading.remarks[-1].endswith("a model's own code may draw others")


def test_an_export_is_the_hook_alone() -> None:
    """The file stays as it is, and every matrix is hooked."""
    edited = export("pytorch", source_of(), 0.7)
    assert edited.text == TEXT
    assert edited.report.key is None
    assert edited.hook is not None
    assert "critical_init.initialize(model)" in edited.hook.usage
    assert "GAMMA = 0.7\n" in edited.hook.text
    assert all(each.hooked == each.wanted for each in edited.report.matrices)


def test_no_file_is_claimed() -> None:
    """A config.json is transformers' until its user says otherwise."""
    assert not PlainPyTorch().claims(JsonDocument(TEXT, "config.json"))


def test_a_file_that_is_no_configuration_is_refused() -> None:
    """In the words of the target."""
    with pytest.raises(TargetError, match=r"model_type is missing"):
        PlainPyTorch().read(source_of("{}"))
