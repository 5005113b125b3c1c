"""OLMo-core's config.json read by its init methods, edited, and read back."""

from __future__ import annotations

import ast
import json
import math
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from critical.errors import CriticalError, ExportError
from critical.export import export
from critical.frameworks import framework
from critical.frameworks.documents.json_document import JsonDocument
from critical.frameworks.documents.yaml_document import YamlDocument
from critical.frameworks.framework import Source
from critical.frameworks.reading import Reading
from critical.frameworks.truncation import TRUNCATED_AT_3

NORM = '{"name": "rms", "eps": 1e-06, "bias": false, "_CLASS_": "olmo_core.nn.layer_norm.X"}'
CONFIG = f"""\
{{
  "model": {{
    "d_model": 2048,
    "vocab_size": 100352,
    "n_layers": 16,
    "block": {{
      "sequence_mixer": {{"name": "default", "n_heads": 16, "n_kv_heads": 4, "bias": false,
        "qk_norm": {NORM},
        "_CLASS_": "olmo_core.nn.attention.AttentionConfig", "type": "attention"}},
      "layer_norm": {NORM},
      "feed_forward": {{"hidden_size": 8192, "name": "default", "bias": false}},
      "name": "reordered_norm"
    }},
    "lm_head": {{"name": "default", "layer_norm": {NORM}, "bias": false}},
    "name": "default",
    "dtype": "float32",
    "init_method": "normal",
    "init_seed": 0,
    "init_std": 0.02,
    "tie_word_embeddings": false,
    "_CLASS_": "olmo_core.nn.transformer.config.TransformerConfig"
  }},
  "train_module": {{
    "optim": {{
      "group_overrides": [{{"params": ["embeddings.weight"], "opts": {{"weight_decay": 0.0}}}}],
      "lr": 0.0004, "betas": [0.9, 0.95], "weight_decay": 0.1,
      "_CLASS_": "olmo_core.optim.adamw.SkipStepAdamWConfig", "type": "skip_step_adamw"
    }}
  }},
  "init_seed": 12536
}}
"""


def source(text: str) -> Source:
    """Return a run's config.json."""
    return Source(JsonDocument(text, "config.json"))


def read(**changes: Any) -> Reading:
    """Return the reading of CONFIG with some keys of its model set."""
    values = json.loads(CONFIG)
    values["model"].update(changes)
    return framework("olmo-core").read(source(json.dumps(values)))


def block(**changes: Any) -> dict[str, Any]:
    """Return CONFIG's block with some keys set."""
    found: dict[str, Any] = json.loads(CONFIG)["model"]["block"]
    return {**found, **changes}


def stds(reading: Reading) -> dict[str, float]:
    """Return the nominal stds of a reading's matrices by their last names, uncut."""
    return {
        each.name.removesuffix(".weight"): each.configured_std / TRUNCATED_AT_3
        for each in reading.matrices
    }


def test_normal_draws_everything_with_one_std_cut_at_3() -> None:
    """0.9866 × 0.02, shapes (out, in), four key and value heads of 128."""
    reading = read()
    assert {each.configured_std for each in reading.matrices} == {0.02 * TRUNCATED_AT_3}
    found = {each.name: each for each in reading.matrices}
    assert found["blocks.*.attention.w_k.weight"].shape == (512, 2048)
    assert found["blocks.*.attention.w_k.weight"].count == 16
    assert found["blocks.*.feed_forward.w2.weight"].fan_in == 8192
    assert found["embeddings.weight"].kind == "embedding"
    assert found["lm_head.w_out.weight"].shape == (100352, 2048)
    assert sum(each.count for each in reading.matrices) == 2 + 7 * 16


def test_embeddings_have_a_std_of_their_own_where_it_is_given() -> None:
    """embedding_init_std is for them alone; the head keeps init_std."""
    found = stds(read(embedding_init_std=0.5))
    assert found["embeddings"] == pytest.approx(0.5)
    assert found["lm_head.w_out"] == pytest.approx(0.02)


def test_llama_divides_outputs_by_the_depth() -> None:
    """w_out, w2 and w3 by √32 at 16 blocks; N(0, 1) embeddings uncut; the head 1/√2048."""
    reading = read(init_method="llama")
    found = stds(reading)
    for name in ("attention.w_out", "feed_forward.w2", "feed_forward.w3"):
        assert found[f"blocks.*.{name}"] == pytest.approx(0.02 / math.sqrt(32))
    assert found["blocks.*.feed_forward.w1"] == pytest.approx(0.02)
    assert found["embeddings"] * TRUNCATED_AT_3 == 1.0
    assert found["lm_head.w_out"] == pytest.approx(2048**-0.5)
    assert reading.depth_scaling is not None
    assert reading.depth_scaling.formula == "std / √(2 · 16)"


def test_llama_depth_divides_each_block_by_its_own() -> None:
    """The first block by √2, the last by √32; one entry a block."""
    found = stds(read(init_method="llama_depth"))
    assert found["blocks.0.attention.w_out"] == pytest.approx(0.02 / math.sqrt(2))
    assert found["blocks.15.feed_forward.w3"] == pytest.approx(0.02 / math.sqrt(32))
    assert "blocks.*.attention.w_q" in found


def test_fan_in_and_normalized_do_not_use_init_std() -> None:
    """1/√fan_in of each; and 1/√width with residual outputs by the depth."""
    fan_in = read(init_method="fan_in", embed_scale=4.0)
    found = stds(fan_in)
    assert found["blocks.*.feed_forward.w2"] == pytest.approx(8192**-0.5)
    assert found["embeddings"] * TRUNCATED_AT_3 == pytest.approx(0.25)
    assert fan_in.std is None and fan_in.depth_scaling is None
    normalized = read(init_method="normalized")
    found = stds(normalized)
    assert found["blocks.*.feed_forward.w3"] == pytest.approx(2048**-0.5)
    assert found["blocks.*.feed_forward.w2"] == pytest.approx(2048**-0.5 / math.sqrt(32))
    assert normalized.std is None
    assert normalized.depth_scaling is not None
    remedy = "model.init_method: normal and model.init_std: 0.0220971, which the rest has now"
    assert normalized.depth_scaling.remedy == remedy


def test_gates_fused_projections_and_head_dimensions_are_read() -> None:
    """A gate is a matrix of one row a head, or one a channel; fused_v2 has w_qkv."""
    mixer = block()["sequence_mixer"]
    gated = {**mixer, "gate": {"granularity": "headwise"}, "head_dim": 64}
    found = {each.name: each.shape for each in read(block=block(sequence_mixer=gated)).matrices}
    assert found["blocks.*.attention.w_g.weight"] == (16, 2048)
    assert found["blocks.*.attention.w_out.weight"] == (2048, 1024)
    gated["gate"]["granularity"] = "elementwise"
    reading = read(block=block(sequence_mixer=gated))
    found = {each.name: each.shape for each in reading.matrices}
    assert found["blocks.*.attention.w_g.weight"] == (1024, 2048)
    assert reading.attention.gated is True
    fused = {**mixer, "name": "fused_v2"}
    found = {each.name: each.shape for each in read(block=block(sequence_mixer=fused)).matrices}
    assert found["blocks.*.attention.w_qkv.weight"] == (16 * 128 + 2 * 512, 2048)


def test_an_older_file_calls_its_mixer_attention() -> None:
    """OLMo-core 2 wrote ``attention``, and 3 still reads it."""
    old = block()
    old["attention"] = old.pop("sequence_mixer")
    assert read(block=old).matrices == read().matrices


def test_named_blocks_and_overrides_are_resolved_block_by_block() -> None:
    """The pattern goes round to n_layers; an override takes a block's place."""
    local = block(feed_forward={"hidden_size": 4096})
    named = read(block={"a": block(), "b": local}, block_pattern=["a", "b", "b"], n_layers=4)
    counts = {each.fan_in: each.count for each in named.matrices if each.name.endswith("w2.weight")}
    assert counts == {8192: 2, 4096: 2}
    assert named.norms is not None and named.norms.eps.key == "model.block.a.layer_norm.eps"
    overridden = read(block_overrides={"3": local})
    counts = {e.fan_in: e.count for e in overridden.matrices if e.name.endswith("w2.weight")}
    assert counts == {8192: 15, 4096: 1}


@pytest.mark.parametrize(
    ("name", "reads"),
    [("default", True), ("default_scaled", True), ("peri_norm", True), ("reordered_norm", False)],
)
def test_whether_a_norm_reads_the_embedding_depends_on_the_block(name: str, reads: bool) -> None:
    """Reordered norms read what attention gives; an embedding norm reads it always."""
    norms = read(block=block(name=name), embed_scale=8.0).norms
    assert norms is not None and norms.read_embedding is reads
    assert (norms.eps.value, norms.eps.key) == (1e-6, "model.block.layer_norm.eps")
    assert norms.embedding_scale == 8.0
    norms = read(block=block(name=name), embedding_norm={"name": "rms"}).norms
    assert norms is not None and norms.read_embedding
    assert (norms.eps.value, norms.eps.stated) == (1e-5, False)


def test_the_optimizer_is_read_with_its_groups() -> None:
    """ε is AdamW's default; embeddings are excluded from decay by a group's pattern."""
    optimizer = framework("olmo-core").read(source(CONFIG)).optimizer
    assert optimizer is not None
    assert (optimizer.eps.value, optimizer.eps.stated) == (1e-8, False)
    assert optimizer.weight_decay.key == "train_module.optim.weight_decay"
    assert optimizer.decays_embeddings is False
    decaying = CONFIG.replace('"embeddings.weight"', '"blocks.*"')
    optimizer = framework("olmo-core").read(source(decaying)).optimizer
    assert optimizer is not None and optimizer.decays_embeddings is True


def test_an_export_sets_two_numbers_and_leaves_every_other_byte() -> None:
    """γ 0.7 at 2048: 2048^−0.7 / 0.9866 = 0.0048746; w2's ratio is 4^0.7 = 2.639."""
    edited = export("olmo-core", source(CONFIG), 0.7)
    assert edited.text == CONFIG.replace(
        '"init_std": 0.02,', f'"init_std": {2048**-0.7 / TRUNCATED_AT_3!r},'
    ).replace(
        '"_CLASS_": "olmo_core.nn.transformer.config.TransformerConfig"\n',
        '"_CLASS_": "olmo_core.nn.transformer.config.TransformerConfig",\n'
        f'    "embedding_init_std": {2048**-0.7 / TRUNCATED_AT_3!r}\n',
    )
    report = edited.report
    assert report.key == "model.init_std" and report.std == pytest.approx(0.0048746, rel=1e-5)
    assert [m.name for m in report.matrices if not m.exact] == ["blocks.*.feed_forward.w2.weight"]
    assert report.worst_ratio == pytest.approx(4**0.7)
    assert "--model.init_std=0.00487" in report.could_not_express[0]
    assert edited.hook is not None


def test_an_export_turns_another_init_method_into_normal() -> None:
    """Llama's depth scaling is gone once the edited text is read back."""
    edited = export("olmo-core", source(CONFIG.replace('"normal"', '"llama"')), 0.7)
    after = framework("olmo-core").read(source(edited.text))
    assert json.loads(edited.text)["model"]["init_method"] == "normal"
    assert after.depth_scaling is None
    assert [each.configured_std for each in after.matrices] == pytest.approx([2048**-0.7] * 9)


def test_yaml_is_read_and_edited_with_its_comments() -> None:
    """OLMo-core reads the same from YAML."""
    text = "# our 1B\n" + yaml.safe_dump(json.loads(CONFIG), sort_keys=False)
    edited = export("olmo-core", Source(YamlDocument(text, "run.yaml")), 0.5)
    assert edited.text.startswith("# our 1B\n")
    assert yaml.safe_load(edited.text)["model"]["embedding_init_std"] == pytest.approx(
        2048**-0.5 / TRUNCATED_AT_3
    )


def test_a_tied_model_has_no_head_of_its_own() -> None:
    """The embedding is drawn once, and serves as both."""
    reading = read(tie_word_embeddings=True)
    assert reading.tied and not [each for each in reading.matrices if each.kind == "head"]


@settings(deadline=None)
@given(st.floats(0.05, 2), st.sampled_from([256, 768, 2048, 5120]))
def test_every_matrix_that_reads_the_width_is_exact(gamma: float, width: int) -> None:
    """With one std nothing else can be, and nothing else is."""
    values = json.loads(CONFIG)
    values["model"].update(d_model=width, n_layers=2)
    report = export("olmo-core", source(json.dumps(values)), gamma).report
    assert all(each.exact for each in report.matrices if each.fan_in == width)
    assert all(each.hooked == each.fan_in**-gamma for each in report.matrices)


@settings(deadline=None)
@given(st.floats(1e-3, 4))
def test_the_hook_is_python_with_gamma_in_it_and_nothing_of_ours(gamma: float) -> None:
    """It parses, holds the float to the last bit, and imports OLMo-core and torch alone."""
    hook = framework("olmo-core").hook(read(), gamma)
    assert hook is not None and f"\nGAMMA = {gamma!r}\n" in hook.text
    imports = [n for n in ast.walk(ast.parse(hook.text)) if isinstance(n, ast.ImportFrom)]
    assert not [each for each in imports if str(each.module).startswith("critical")]


def test_claims_are_for_olmo_core_alone() -> None:
    """A class name or a block with sizes; neither old OLMo nor LLM Foundry."""
    chosen = framework("olmo-core")
    assert chosen.claims(source(CONFIG).document)
    for text in (
        "model: {d_model: 8, n_layers: 2, mlp_ratio: 4}",
        "model: {name: mpt_causal_lm, d_model: 8, n_layers: 2, n_heads: 2}",
        "model: gpt2",
    ):
        assert not chosen.claims(YamlDocument(text, "x.yaml"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "normalized"}, r"config\.json, model: name 'normalized' is normalized after"),
        ({"name": "moe_fused_v2"}, "name 'moe_fused_v2' is not known here"),
        ({"init_method": "xavier"}, "init_method 'xavier' is not known here: write one of normal"),
        ({"init_std": -0.1}, "init_std is -0.1: write a number above 0"),
        ({"init_std": "small"}, "init_std is the string 'small'"),
        ({"d_model": None}, "d_model is null: write it, as in the config.json of an OLMo-core run"),
        ({"n_layers": 10**9}, "n_layers is 1000000000: write a whole number from 1 to 1000"),
        ({"block": {}}, "block is missing"),
        ({"block": [1]}, "block is a list: write an object"),
        ({"block": block(name="moe")}, "model.block: block 'moe' is not known here"),
        ({"block": block(feed_forward=None)}, "model.block.feed_forward: hidden_size is missing"),
        ({"block": block(feed_forward={"name": "normalized"})}, "feed-forward is not known here"),
        ({"block": block(sequence_mixer={"type": "gated_delta_net"})}, "mixer is not known here"),
        (
            {"block": block(sequence_mixer={"_CLASS_": "olmo_core.x.KDAConfig"})},
            "sequence_mixer: this sequence mixer is not known here",
        ),
        ({"block": block(sequence_mixer={"name": "normalized"})}, "attention 'normalized' is not"),
        ({"block_pattern": ["a"]}, "block_pattern names blocks that block does not have"),
    ],
)
def test_what_is_not_known_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    """One sentence: where, what, and what is known."""
    with pytest.raises(ExportError, match=message) as caught:
        read(**changes)
    assert "\n" not in str(caught.value)


def test_a_file_without_a_model_is_told_so() -> None:
    """The sentence says where one is found."""
    with pytest.raises(ExportError, match=r"there is no model: write it, as in the config\.json"):
        framework("olmo-core").read(source("{}"))


@settings(deadline=None)
@given(
    st.sampled_from([*json.loads(CONFIG)["model"], "embed_scale", "block_pattern", "optim"]),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.just([]),
)
def test_any_value_of_any_key_is_read_or_refused(key: str, value: object) -> None:
    """No other error than a sentence for the user."""
    try:
        read(n_layers=2, **({} if key == "n_layers" else {key: value}))
    except CriticalError as error:
        assert "\n" not in str(error)
