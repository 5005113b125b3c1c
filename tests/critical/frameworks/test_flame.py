"""flame: flash-linear-attention's own transformer by formula, transformers' as they are."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from critical.errors import CriticalError, ExportError
from critical.export import export
from critical.frameworks import Source
from critical.frameworks.documents.json_document import JsonDocument
from critical.frameworks.fla_families import OF_FLA_ONLY
from critical.frameworks.flame import Flame
from critical.frameworks.reading import Attention, Reading, Setting

TRANSFORMER: dict[str, Any] = {
    "attention_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "fuse_cross_entropy": True,
    "fuse_norm": True,
    "hidden_act": "swish",
    "hidden_size": 1024,
    "initializer_range": 0.02,
    "max_position_embeddings": 8192,
    "model_type": "transformer",
    "num_heads": 16,
    "num_hidden_layers": 24,
    "norm_eps": 1e-06,
    "tie_word_embeddings": False,
    "use_cache": True,
    "vocab_size": 32000,
}


def source_of(**changes: object) -> Source:
    """Return flame's own configs/transformer_340M.json with some keys changed, or left out by …."""
    document = {k: v for k, v in (TRANSFORMER | changes).items() if v is not ...}
    return Source(JsonDocument(json.dumps(document, indent=4) + "\n", "transformer_340M.json"))


def read(**changes: object) -> Reading:
    """Read it."""
    return Flame().read(source_of(**changes))


def test_flas_transformer_has_the_matrices_of_a_llama() -> None:
    """Feed-forwards of int(1024 · 4 · 2/3) = 2730, up to 11 · 256; nothing is scaled by depth."""
    reading = read(num_kv_heads=4)
    block = "model.layers.*."
    assert {
        each.name.removeprefix(block).removesuffix(".weight"): (each.count, each.shape, each.fan_in)
        for each in reading.matrices
    } == {
        "model.embeddings": (1, (32000, 1024), 1024),
        "attn.q_proj": (24, (1024, 1024), 1024),
        "attn.k_proj": (24, (256, 1024), 1024),
        "attn.v_proj": (24, (256, 1024), 1024),
        "attn.o_proj": (24, (1024, 1024), 1024),
        "mlp.gate_proj": (24, (2816, 1024), 1024),
        "mlp.up_proj": (24, (2816, 1024), 1024),
        "mlp.down_proj": (24, (1024, 2816), 2816),
        "lm_head": (1, (32000, 1024), 1024),
    }
    assert {each.configured_std for each in reading.matrices} == {0.02}
    assert reading.depth_scaling is None
    assert reading.std == Setting("initializer_range", 0.02, stated=True)
    assert reading.norms is not None
    assert reading.norms.eps == Setting("norm_eps", 1e-6, stated=True)
    assert reading.attention == Attention(qk_norm=False, gated=False)
    assert reading.remarks == ("flame raises vocab_size to the tokenizer's where that is larger",)


def test_what_a_file_leaves_out_is_flas_default() -> None:
    """2048 wide, 24 blocks, 32 heads, 0.02, untied."""
    reading = Flame().read(Source(JsonDocument('{"model_type": "transformer"}', "c.json")))
    assert (reading.width, reading.depth, reading.tied) == (2048, 24, False)
    assert reading.std == Setting("initializer_range", 0.02, stated=False)
    shapes = {each.name.rpartition(".weight")[0]: each.shape for each in reading.matrices}
    # int(2048 · 4 · 2/3) = 5461, up to 22 · 256.
    assert shapes["model.layers.*.mlp.down_proj"] == (2048, 5632)


@pytest.mark.parametrize(
    ("changes", "name", "shape"),
    [
        ({"intermediate_size": 3000}, "mlp.up_proj", (3000, 1024)),
        ({"hidden_ratio": 3}, "mlp.up_proj", (2048, 1024)),
        ({"hidden_size": 64, "num_heads": 4}, "mlp.up_proj", (256, 64)),
    ],
)
def test_the_feed_forwards_size(changes: dict[str, Any], name: str, shape: tuple[int, int]) -> None:
    """Given, or ⅔ · hidden_ratio · width up to a multiple of 256."""
    found = {each.name: each.shape for each in read(**changes).matrices}
    assert found[f"model.layers.*.{name}.weight"] == shape


def test_an_export_changes_one_line() -> None:
    """And says where flame takes the file, and which call of its own the hook follows."""
    source = source_of(tie_word_embeddings=True, qk_norm=True)
    edited = export("flame", source, 0.7)
    assert edited.text == source.document.text.replace("0.02", repr(1024**-0.7))
    assert edited.report.worst_ratio == pytest.approx((2816 / 1024) ** 0.7)
    assert not any("lm_head" in each.name for each in edited.report.matrices)
    assert "--model.config" in edited.report.could_not_express[-1]
    assert edited.hook is not None
    assert "after model.post_init()" in edited.hook.usage
    assert all(each.hooked == each.wanted for each in edited.report.matrices)


@settings(max_examples=30, deadline=None)
@given(st.floats(min_value=0.05, max_value=2))
def test_an_exported_gamma_reads_back(gamma: float) -> None:
    """γ_eq of every matrix of the width's fan-in is γ."""
    report = export("flame", source_of(), gamma).report
    for each in report.matrices:
        if each.fan_in == 1024:
            assert -math.log(each.yielded) / math.log(1024) == pytest.approx(gamma)


def test_a_family_of_transformers_is_read_as_transformers_has_it() -> None:
    """Flame builds whatever AutoModelForCausalLM knows."""
    changes = {"model_type": "llama", "num_attention_heads": 16, "intermediate_size": 2816}
    edited = export("flame", source_of(**changes), 0.7)
    assert edited.report.matrices[0].name == "model.embed_tokens.weight"
    assert edited.report.std == 1024**-0.7


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model_type": "gla"}, r"flash-linear-attention's gla are not known here, .*transformer"),
        ({"attnres_block_size": 4}, r"attnres_block_size adds projections that must start at 0"),
        ({"num_heads": 15}, r"do not divide hidden_size 1024: write divisors"),
        ({"initializer_range": 0.0}, r"initializer_range is 0\.0: write a positive number"),
        ({"initializer_range": "0.02"}, r"initializer_range is the string '0\.02'"),
        ({"model_type": ...}, r"model_type is missing"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(
    changes: dict[str, Any], sentence: str
) -> None:
    """A family that is not known, matrices that must start at 0, and values that are none."""
    with pytest.raises(CriticalError, match=sentence) as caught:
        read(**changes)
    assert str(caught.value).startswith("transformer_340M.json: ")


def test_a_refusal_is_an_export_error() -> None:
    """So that the command ends with status 2 and one sentence."""
    with pytest.raises(ExportError):
        export("flame", source_of(model_type="rwkv7"), 0.7)


def test_its_own_families_are_claimed() -> None:
    """Those that transformers does not know under the same name."""
    for family in ("transformer", "gla", "llama", "mamba"):
        document = source_of(model_type=family).document
        assert Flame().claims(document) is (family in OF_FLA_ONLY)
    assert not Flame().claims(source_of(model_type=["gla"]).document)
    assert not OF_FLA_ONLY & set(CONFIG_MAPPING)
