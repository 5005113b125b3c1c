"""nanoGPT's config/train_*.py: read for the shape, kept as it is, and a hook for train.py."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from critical.errors import ExportError
from critical.export import Edited, export
from critical.frameworks import Source
from critical.frameworks.documents.python_document import PythonDocument
from critical.frameworks.documents.yaml_document import YamlDocument
from critical.frameworks.nanogpt import NanoGPT
from critical.frameworks.reading import Attention, DepthScaling, Optimizer, Reading, Setting

CHARACTERS = """\
# train a miniature character-level shakespeare model
# good for debugging and playing on macbooks and such

out_dir = 'out-shakespeare-char'
eval_interval = 250 # keep frequent because we'll overfit
eval_iters = 200
log_interval = 10 # don't print too too often
always_save_checkpoint = False

dataset = 'shakespeare_char'
gradient_accumulation_steps = 1
batch_size = 64
block_size = 256 # context of up to 256 previous characters

# baby GPT model :)
n_layer = 6
n_head = 6
n_embd = 384
dropout = 0.2

learning_rate = 1e-3 # with baby networks can afford to go a bit higher
max_iters = 5000
beta2 = 0.99
"""
GPT2 = """\
# config for training GPT-2 (124M) down to very nice loss of ~2.85 on 1 node of 8X A100 40GB
wandb_log = True
wandb_run_name='gpt2-124M'

batch_size = 12
block_size = 1024
gradient_accumulation_steps = 5 * 8

max_iters = 600000
lr_decay_iters = 600000
eval_interval = 1000
weight_decay = 1e-2
"""


def source_of(text: str) -> Source:
    """Return a configuration as a source."""
    return Source(PythonDocument(text, "train_gpt.py"))


def read(text: str) -> Reading:
    """Read a configuration."""
    return NanoGPT().read(source_of(text))


def exported(text: str, gamma: float = 0.7) -> Edited:
    """Export γ into a configuration."""
    return export("nanogpt", source_of(text), gamma)


def test_the_shape_is_read_from_the_assignments() -> None:
    """Of the tied embedding, positions, and blocks whose projections are 0.02/√(2 · 6)."""
    narrow = pytest.approx(0.02 / math.sqrt(12))
    found: dict[str, object] = {
        each.name.removeprefix("transformer."): (
            each.count,
            each.shape,
            each.fan_in,
            each.configured_std,
        )
        for each in read(CHARACTERS).matrices
    }
    assert found == {
        "wte.weight": (1, (50304, 384), 384, 0.02),
        "wpe.weight": (1, (256, 384), 384, 0.02),
        "h.*.attn.c_attn.weight": (6, (1152, 384), 384, 0.02),
        "h.*.attn.c_proj.weight": (6, (384, 384), 384, narrow),
        "h.*.mlp.c_fc.weight": (6, (1536, 384), 384, 0.02),
        "h.*.mlp.c_proj.weight": (6, (384, 1536), 1536, narrow),
    }


def test_what_is_left_out_is_train_pys_default() -> None:
    """GPT-2: 12 blocks of 768; a decay of 0.1 unless the file has another."""
    reading = read(GPT2)
    assert (reading.width, reading.depth, reading.tied) == (768, 12, True)
    assert reading.std is None
    assert reading.norms is not None
    assert reading.norms.eps.value == 1e-5
    assert reading.attention == Attention(qk_norm=False, gated=False)
    assert reading.depth_scaling == DepthScaling(
        "0.02 / √(2 · 12)", "in model.py, delete the loop over c_proj.weight"
    )
    assert reading.optimizer == Optimizer(
        Setting("eps of AdamW in model.py", 1e-8, stated=False),
        Setting("weight_decay", 0.01, stated=True),
        decays_embeddings=True,
    )
    default = read(CHARACTERS).optimizer
    assert default is not None
    assert default.weight_decay == Setting("weight_decay", 0.1, stated=False)
    assert reading.remarks[0].startswith("the vocabulary is 50304 unless")


def test_an_export_is_the_hook_alone() -> None:
    """The file stays as it is, and the report says what nanoGPT draws without the hook."""
    edited = exported(CHARACTERS, 0.5)
    assert edited.text == CHARACTERS
    assert (edited.report.key, edited.report.std) == (None, None)
    ratios = {each.name.removeprefix("transformer."): each.ratio for each in edited.report.matrices}
    assert ratios["wte.weight"] == pytest.approx(0.02 * math.sqrt(384))
    assert ratios["h.*.attn.c_proj.weight"] == pytest.approx(0.02 * math.sqrt(384) / math.sqrt(12))
    assert edited.hook is not None
    assert "right after model = GPT(gptconf)" in edited.hook.usage
    assert all(each.hooked == each.wanted for each in edited.report.matrices)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("init_from = 'gpt2-xl'\n", r"init_from is 'gpt2-xl', .*write init_from = 'scratch'"),
        (
            "n_layer = int('6')\n",
            r"n_layer is set in line 1 to what only running .*write the value",
        ),
        ("if big:\n    n_embd = 1600\n", r"n_embd is set in line 1 to what only running"),
        ("from base import *\nn_layer = 6\n", r"n_head is set in line 1 to what only running"),
        ("n_embd = 384\nn_head = 5\n", r"n_head 5 does not divide n_embd 384: write a divisor"),
        ("n_embd = 384.0\n", r"n_embd is 384\.0: write a whole number"),
        ("n_layer = '12'\n", r"n_layer is the string '12'"),
        ("n_layer = \n", r"train_gpt\.py is not Python at line 1"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(text: str, sentence: str) -> None:
    """A checkpoint, a value that running alone would tell, and values that are none."""
    with pytest.raises(ExportError, match=sentence):
        read(text)


@pytest.mark.parametrize(
    ("text", "own"),
    [
        (CHARACTERS, True),
        (GPT2, True),
        ("n_layer = 6\nn_embd = 384\n", True),
        ("batch_size = 4\nlearning_rate = 1e-3\n", False),
        (GPT2 + "depth = 20\n", False),
        (GPT2 + "matrix_lr = 0.02\n", False),
    ],
)
def test_its_own_files_are_claimed(text: str, own: bool) -> None:
    """By several names of train.py's, and none of nanochat's."""
    assert NanoGPT().claims(PythonDocument(text, "train.py")) is own
    assert not NanoGPT().claims(YamlDocument("n_layer: 6\nn_embd: 384\n", "a.yaml"))


class Block(nn.Module):
    """A block's matrices, called as nanoGPT calls them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, bias=False)
        self.attn = nn.ModuleDict(
            {
                "c_attn": nn.Linear(width, 3 * width, bias=False),
                "c_proj": nn.Linear(width, width, bias=False),
            }
        )
        self.mlp = nn.ModuleDict(
            {
                "c_fc": nn.Linear(width, 4 * width, bias=False),
                "c_proj": nn.Linear(4 * width, width, bias=False),
            }
        )


class Gpt(nn.Module):
    """A model's matrices, called as nanoGPT calls them."""

    def __init__(self, width: int, depth: int, vocabulary: int, context: int) -> None:
        super().__init__()
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(vocabulary, width),
                "wpe": nn.Embedding(context, width),
                "h": nn.ModuleList([Block(width) for _ in range(depth)]),
            }
        )
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self.transformer["wte"].weight = self.lm_head.weight


def test_the_hook_draws_every_matrix_of_such_a_model() -> None:
    """Tied embedding and residual projections too, none left."""
    edited = exported("n_layer = 2\nn_head = 4\nn_embd = 64\nblock_size = 128\n")
    assert edited.hook is not None
    module: Any = ModuleType("critical_init")
    exec(compile(edited.hook.text, edited.hook.file_name, "exec"), module.__dict__)
    torch.manual_seed(8)
    model = Gpt(64, 2, 300, 128)
    assert module.initialize(model) == []
    parameters = dict(model.named_parameters())
    for each in edited.report.matrices:
        weight = parameters[each.name.replace("*", "1")].detach()
        tolerance = 4 / math.sqrt(2 * weight.numel())
        assert float(weight.std()) == pytest.approx(each.wanted, rel=tolerance)
