"""Trainers whose initialization leaves no place for γ: said why, and what to do instead."""

from __future__ import annotations

import pytest

from critical.errors import ExportError
from critical.export import export
from critical.frameworks import Source, framework
from critical.frameworks.documents.python_document import PythonDocument
from critical.frameworks.documents.yaml_document import YamlDocument

NANOCHAT = """\
# base_train, depth 20
depth = 20
device_batch_size = 32
embedding_lr = 0.2
unembedding_lr = 0.004
matrix_lr = 0.02
"""
MODDED = '''\
import torch
class NorMuon(torch.optim.Optimizer):
    """Muon with neuron-wise normalization."""
class Hyperparameters:
    vocab_size: int = 50257
args = Hyperparameters()
'''


@pytest.mark.parametrize(("name", "text"), [("nanochat", NANOCHAT), ("modded-nanogpt", MODDED)])
def test_the_reason_and_the_way_out_are_said(name: str, text: str) -> None:
    """In one sentence: zeros, Muon, and the two exports that serve the same model."""
    source = Source(PythonDocument(text, "train.py"))
    with pytest.raises(ExportError, match=r"at 0.*Muon.*--to nanogpt.*--to pytorch$") as caught:
        export(name, source, 0.7)
    assert str(caught.value).startswith(f"train.py: {name} ")
    reading = framework("nanogpt").read(Source(PythonDocument("", "train.py")))
    with pytest.raises(ExportError, match=r"at 0"):
        framework(name).changes(source, reading, 0.7)
    assert framework(name).hook(reading, 0.7) is None


@pytest.mark.parametrize(
    ("name", "text", "own"),
    [
        ("nanochat", NANOCHAT, True),
        ("nanochat", MODDED, False),
        ("nanochat", "depth = 20\n", False),
        ("nanochat", "n_layer = 6\nn_embd = 384\n", False),
        ("modded-nanogpt", MODDED, True),
        ("modded-nanogpt", NANOCHAT, False),
    ],
)
def test_their_own_files_are_claimed(name: str, text: str, own: bool) -> None:
    """So that somebody who brings one is told, and not that nobody knows it."""
    assert framework(name).claims(PythonDocument(text, "train.py")) is own
    assert not framework(name).claims(YamlDocument("matrix_lr: 1\nunembedding_lr: 2\n", "a.yaml"))
