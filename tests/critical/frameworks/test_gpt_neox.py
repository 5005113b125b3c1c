"""GPT-NeoX's YAML in flow and block style: its methods' stds, and γ in their place."""

from __future__ import annotations

import math

import pytest
import yaml

from critical.errors import ExportError
from critical.export import export
from critical.frameworks.documents.yaml_document import YamlDocument
from critical.frameworks.framework import Source
from critical.frameworks.gpt_neox import GptNeoX
from critical.frameworks.reading import Reading

SMALL = """\
# GPT-2 pretraining setup
{
   # parallelism settings ( you will want to change these based on your cluster setup )
   "pipe_parallel_size": 1,
   "model_parallel_size": 1,

   # model settings
   "num_layers": 12,
   "hidden_size": 768,
   "num_attention_heads": 12,
   "seq_length": 2048,
   "max_position_embeddings": 2048,
   "pos_emb": "rotary",
   "no_weight_tying": true,

   # init methods
   "init_method": "small_init",
   "output_layer_init_method": "wang_init",   # of GPT-J

   "optimizer": {
     "type": "Adam",
     "params": {
       "lr": 0.0006,
       "betas": [0.9, 0.95],
       "eps": 1.0e-8,
     }
   },
   "zero_optimization": {
    "stage": 1,
    "contiguous_gradients": True,
  },
   "weight_decay": 0.01,
   "init_method_std": 0.02
}
"""
BLOCK = """\
# Llama-like, in block style
pipe-parallel-size: 0
num-layers: 16
hidden-size: 1024
num-attention-heads: 16
num-kv-heads: 4
norm: rmsnorm
activation: swiglu
intermediate-size: 8192
max-position-embeddings: 512
"""


def source(text: str) -> Source:
    return Source(YamlDocument(text, "small.yml"))


def read(text: str) -> Reading:
    return GptNeoX().read(source(text))


def test_small_and_wang_init_have_their_own_formulas() -> None:
    """√(2 / (5 · 768)) and 2 / (12 · √768), whatever init_method_std says."""
    reading = read(SMALL)
    small, wang = math.sqrt(2 / 3840), 2 / (12 * math.sqrt(768))
    stds = {each.name: each.configured_std for each in reading.matrices}
    assert stds == pytest.approx(
        {
            "0.word_embeddings.weight": small,
            "*.attention.query_key_value.weight": small,
            "*.attention.dense.weight": wang,
            "*.mlp.linear1.weight": small,
            "*.mlp.linear2.weight": wang,
            "16.final_linear.weight": small,
        }
    )
    assert [(each.count, each.shape) for each in reading.matrices] == [
        (1, (0, 768)),
        (12, (2304, 768)),
        (12, (768, 768)),
        (12, (3072, 768)),
        (12, (768, 3072)),
        (1, (0, 768)),
    ]
    assert reading.remarks[0] == "init_method_std does nothing with small_init and wang_init"
    assert reading.depth_scaling is not None
    assert reading.depth_scaling.formula == "2 / (12 · √768)"
    assert reading.depth_scaling.remedy == "output_layer_init_method: small_init"
    assert reading.norms is not None and reading.norms.eps.value == 1e-5
    assert reading.optimizer is not None
    assert reading.optimizer.weight_decay.value == 0.01
    assert (reading.optimizer.eps.value, reading.optimizer.eps.stated) == (1e-8, True)


def test_the_defaults_are_normal_and_scaled_normal() -> None:
    """0.02 and 0.02 / √32; a gated unit has a third of the intermediate size on each side."""
    reading = read(BLOCK)
    found = {each.name: (each.shape, each.configured_std) for each in reading.matrices}
    narrow = pytest.approx(0.02 / math.sqrt(32))
    assert found == {
        "sequential.0.word_embeddings.weight": ((0, 1024), 0.02),
        "sequential.0.position_embeddings.weight": ((512, 1024), 0.02),
        "sequential.*.attention.query_key_value.weight": ((1024 + 2 * 256, 1024), 0.02),
        "sequential.*.attention.dense.weight": ((1024, 1024), narrow),
        "sequential.*.mlp.linear1.weight": ((5462, 1024), 0.02),
        "sequential.*.mlp.linear2.weight": ((1024, 2730), narrow),
    }
    assert reading.tied
    assert reading.norms is None
    assert reading.std is not None and not reading.std.stated
    assert reading.optimizer is not None and reading.optimizer.weight_decay.value == 0.1


@pytest.mark.parametrize(
    ("text", "rows", "inner"),
    [
        ("intermediate-size: 4096\nactivation: gelu", 4096, 4096),
        ("activation: geglu", 2730, 1365),
        ("expansion_factor: 3.5\nactivation: swiglu", 2390, 1194),
        ("intermediate_size: 8192\nactivation: swiglu\nmlp_multiple_of: 256", 5632, 2816),
        ("intermediate_size: 100\nactivation: relu\nmlp_multiple_of: 64", 128, 128),
    ],
)
def test_the_feed_forward_has_the_sizes_that_neox_gives_it(
    text: str, rows: int, inner: int
) -> None:
    """Two thirds of the size for a gated unit's two halves, rounded up to the multiples."""
    base = BLOCK.replace("intermediate-size: 8192\n", "").replace("activation: swiglu\n", "")
    by_name = {each.name.rpartition(".mlp.")[2]: each.shape for each in read(base + text).matrices}
    assert by_name["linear1.weight"] == (rows, 1024)
    assert by_name["linear2.weight"] == (1024, inner)


def test_an_export_keeps_flow_style_and_comments() -> None:
    """All three keys stand where they stood."""
    edited = export("gpt-neox", source(SMALL), 0.7)
    std = 768**-0.7
    assert edited.text == (
        SMALL.replace('"small_init"', '"normal"')
        .replace('"wang_init"', '"normal"')
        .replace('"init_method_std": 0.02', f'"init_method_std": {std!r}')
    )
    assert [each.name for each in edited.report.matrices if not each.exact] == [
        "*.mlp.linear2.weight"
    ]
    assert edited.report.worst_ratio == pytest.approx(4**0.7)
    assert "refuses a key that two of its files give" in edited.report.could_not_express[0]
    assert edited.hook is not None
    assert "('*.attention.dense', 768, False), ('*.mlp.linear2', 3072, False)" in edited.hook.text


def test_new_keys_are_spelled_as_the_files_other_keys() -> None:
    """With dashes in older files; GPT-NeoX takes both."""
    edited = export("gpt-neox", source(BLOCK), 0.5)
    assert edited.text == BLOCK + (
        '"init-method": normal\n"output-layer-init-method": normal\n"init-method-std": 0.03125\n'
    )
    flow = SMALL.replace('   "init_method": "small_init",\n', "")
    assert yaml.safe_load(export("gpt-neox", source(flow), 0.5).text)["init_method"] == "normal"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"{BLOCK}init_method_std: 0.1\ninit-method-std: 0.2", "gives init_method_std and init-m"),
        (f"{BLOCK}init_method: xavier_normal", "init_method 'xavier_normal' draws by the shape of"),
        (f"{BLOCK}use_mup: true", "use_mup draws by µP's own rule"),
        (f"{BLOCK}mlp_type: llama", "mlp_type is of an older GPT-NeoX"),
        (f"{BLOCK}moe_num_experts: 8", "moe_num_experts builds experts"),
        (f"{BLOCK}te_mha: true", "te_mha builds matrices that are not listed here: remove it"),
        (f"{BLOCK}attention_config: [[[flash, mamba], 8]]", "attention_config has mamba layers"),
        (f"{BLOCK}expansion_factor: 4", "intermediate_size and expansion_factor are both given"),
        (f"{BLOCK}init_method_std: 2e-2", "YAML reads init_method_std 2e-2 as a text: write 2.0e"),
        (BLOCK.replace("hidden-size: 1024\n", ""), "hidden_size is missing: write it, into the s"),
        (BLOCK.replace("heads: 4", "heads: 5"), "num_attention_heads 16 and num_kv_heads 5 do not"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(text: str, sentence: str) -> None:
    """In one sentence that names the file."""
    with pytest.raises(ExportError, match=rf"^small\.yml.*{sentence}"):
        read(text)


def test_only_its_own_files_are_claimed() -> None:
    """A file of data paths, or another framework's, is not."""
    framework = GptNeoX()
    assert framework.claims(YamlDocument(SMALL, "a.yml"))
    assert framework.claims(YamlDocument(BLOCK, "a.yml"))
    assert not framework.claims(YamlDocument("data_path: a\nvocab_file: b", "a.yml"))
    assert not framework.claims(YamlDocument("num_layers: 1\nhidden_size: 2", "a.yml"))


@pytest.mark.parametrize(
    ("keys", "known"),
    [
        ("norm: rmsnorm", False),
        ("norm: rmsnorm\nrmsnorm_fusion: true", True),
        ("norm: te_rmsnorm", True),
        ("norm: layernorm", True),
        ("norm: scalenorm", False),
    ],
)
def test_an_epsilon_that_is_not_added_to_a_mean_square_is_not_taken_for_one(
    keys: str, known: bool
) -> None:
    """GPT-NeoX's RMSNorm is x / (RMS + ε), and its ScaleNorm clamps; fused ones are as torch's."""
    reading = read(
        f"num_layers: 2\nhidden_size: 64\nnum_attention_heads: 4\npos_emb: rotary\n{keys}"
    )
    assert (reading.norms is not None) is known
    told = [each for each in reading.remarks if "adds rms_norm_epsilon (1e-08) to the RMS" in each]
    assert len(told) == (keys == "norm: rmsnorm")


def test_a_gated_unit_of_no_size_is_refused() -> None:
    """Two thirds of 1, halved, are 0."""
    with pytest.raises(ExportError, match=r"intermediate_size 1 is too small for a gated unit"):
        read(BLOCK.replace("intermediate-size: 8192", "intermediate-size: 1"))
