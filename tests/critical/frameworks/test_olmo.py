"""Old OLMo's YAML read by its init functions, edited, and read back."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from critical.errors import CriticalError, ExportError
from critical.export import export
from critical.frameworks import framework
from critical.frameworks.documents.yaml_document import YamlDocument
from critical.frameworks.framework import Source
from critical.frameworks.reading import Reading
from critical.frameworks.truncation import TRUNCATED_AT_3

CONFIG = """\
run_name: OLMo-7B
seed: 6198
dry_run: false

wandb:
  name: ${run_name}

model:
  d_model: 4096
  n_heads: 32
  n_layers: 32
  mlp_hidden_size: 22016   # 2 × 11008, for SwiGLU
  weight_tying: false
  alibi: false
  rope: true
  block_type: sequential
  layer_norm_type: default
  activation_type: swiglu
  include_bias: false
  vocab_size: 50280
  embedding_size: 50304
  max_sequence_length: 2048
  init_device: meta
  init_fn: mitchell        # Wortsman's
  init_std: 0.02           # not used by mitchell

optimizer:
  name: adamw
  learning_rate: 3.0e-4
  weight_decay: 0.1
  betas: [0.9, 0.95]

path: ${oc.env:HOME}/runs
"""


def source(text: str = CONFIG) -> Source:
    """Return a run's YAML file."""
    return Source(YamlDocument(text, "OLMo-7B.yaml"))


def read(**changes: Any) -> Reading:
    """Return the reading of CONFIG with some keys of its model set; ``...`` drops one."""
    values = yaml.safe_load(CONFIG)
    values["model"].update(changes)
    values["model"] = {key: value for key, value in values["model"].items() if value is not ...}
    return framework("olmo").read(source(yaml.safe_dump(values)))


def stds(reading: Reading) -> dict[str, float]:
    """Return the stds of a reading's matrices by their last names."""
    return {
        each.name.removeprefix("transformer.").removesuffix(".weight"): each.configured_std
        for each in reading.matrices
    }


def test_normal_draws_everything_with_one_std() -> None:
    """0.02 uncut; att_proj fuses Q, K and V, ff_proj gate and up."""
    reading = read(init_fn="normal")
    assert set(stds(reading).values()) == {0.02}
    found = {each.name: each for each in reading.matrices}
    assert found["transformer.blocks.*.att_proj.weight"].shape == (3 * 4096, 4096)
    assert found["transformer.blocks.*.ff_proj.weight"].shape == (22016, 4096)
    assert found["transformer.blocks.*.ff_out.weight"].fan_in == 11008
    assert found["transformer.ff_out.weight"].kind == "head"
    assert found["transformer.wte.weight"].shape == (50304, 4096)
    assert sum(each.count for each in reading.matrices) == 2 + 4 * 32


def test_mitchell_is_fan_in_by_depth_cut_at_3() -> None:
    """1/√4096 = 1/64; outputs 1/√(2 · fan_in · (block + 1)); all × 0.9866."""
    reading = framework("olmo").read(source())
    found = stds(reading)
    assert found["wte"] == pytest.approx(TRUNCATED_AT_3 / 64)
    assert found["blocks.*.att_proj"] == pytest.approx(TRUNCATED_AT_3 / 64)
    assert found["blocks.0.attn_out"] == pytest.approx(TRUNCATED_AT_3 / math.sqrt(2 * 4096))
    assert found["blocks.31.ff_out"] == pytest.approx(TRUNCATED_AT_3 / math.sqrt(64 * 11008))
    assert reading.std is None and reading.depth_scaling is not None
    # Within no cut: 1/64 cut at ±3 std is 0.9866 of it.
    std = "0.0154153"
    assert reading.depth_scaling.remedy == (
        f"model.init_fn: normal and model.init_std: {std}, which the rest has now"
    )
    remedied = stds(read(init_fn="normal", init_std=float(std)))
    assert remedied["blocks.*.attn_out"] == pytest.approx(found["blocks.*.att_proj"], rel=1e-5)


def test_full_megatron_divides_outputs_by_the_depth() -> None:
    """init_std / √64 at 32 blocks; the head 1/√width; embeddings scaled up if asked for."""
    reading = read(init_fn="full_megatron", init_std=0.006, scale_emb_init=True)
    found = stds(reading)
    assert found["blocks.*.attn_out"] == pytest.approx(0.006 / 8 * TRUNCATED_AT_3)
    assert found["blocks.*.ff_proj"] == pytest.approx(0.006 * TRUNCATED_AT_3)
    assert found["ff_out"] == pytest.approx(TRUNCATED_AT_3 / 64)
    assert found["wte"] == pytest.approx(0.006 * 64 * TRUNCATED_AT_3)
    found = stds(read(init_fn="full_megatron", scale_emb_init=True, emb_init_std=0.5))
    assert found["wte"] == pytest.approx(0.5 * TRUNCATED_AT_3)


def test_a_cutoff_factor_narrows_normal_too() -> None:
    """At ±2 std a normal has 0.8796 of its std."""
    assert stds(read(init_fn="normal", init_cutoff_factor=2))["wte"] == pytest.approx(
        0.02 * 0.8796256610342398
    )


def test_defaults_are_olmos() -> None:
    """Nothing but sizes: GPT-2's vocabulary, tied, position embeddings, mlp_ratio 4, normal."""
    text = "model: {d_model: 768, n_layers: 2, mlp_ratio: 4}"
    reading = framework("olmo").read(source(text))
    found = {each.name: each for each in reading.matrices}
    assert found["transformer.wpe.weight"].shape == (1024, 768)
    assert found["transformer.wpe.weight"].kind == "embedding"
    assert found["transformer.wte.weight"].shape == (50304, 768)
    assert found["transformer.blocks.*.ff_out.weight"].fan_in == 1536
    assert reading.tied and reading.std is not None
    assert (reading.std.value, reading.std.stated) == (0.02, False)
    assert "wpe" in reading.remarks[0]
    assert reading.optimizer is None


def test_heads_blocks_and_activations_are_olmos() -> None:
    """Few key heads; Llama's blocks with three projections; GELU does not halve; groups."""
    few = {each.name: each.shape for each in read(init_fn="normal", n_kv_heads=8).matrices}
    assert few["transformer.blocks.*.att_proj.weight"] == (4096 + 2 * 8 * 128, 4096)
    llama = read(init_fn="normal", block_type="llama", multi_query_attention=True)
    found = {each.name: each.shape for each in llama.matrices}
    assert found["transformer.blocks.*.k_proj.weight"] == (128, 4096)
    gelu = read(init_fn="normal", activation_type="gelu", mlp_hidden_size=16384)
    found = {each.name: each.shape for each in gelu.matrices}
    assert found["transformer.blocks.*.ff_out.weight"] == (4096, 16384)
    grouped = stds(read(block_group_size=4))
    assert grouped["block_groups.7.3.attn_out"] == pytest.approx(TRUNCATED_AT_3 / 512)
    assert "block_groups.*.*.att_proj" in grouped


@pytest.mark.parametrize(
    ("changes", "reads"),
    [
        ({}, True),
        ({"norm_after": True}, False),
        ({"norm_after": True, "embedding_layer_norm": True}, True),
        ({"norm_after": True, "block_type": "llama"}, True),
    ],
)
def test_whether_a_norm_reads_the_embedding(changes: dict[str, Any], reads: bool) -> None:
    """Norms after attention do not, unless the embedding has one; Llama's blocks have none."""
    norms = read(**changes, layer_norm_eps="1e-6").norms
    assert norms is not None and norms.read_embedding is reads
    assert (norms.eps.value, norms.eps.stated) == (1e-6, True)


def test_the_optimizer_is_adamw_or_unknown() -> None:
    """ε is 1e-5 where nothing is said; embeddings are decayed only where asked for."""
    optimizer = framework("olmo").read(source()).optimizer
    assert optimizer is not None
    assert (optimizer.eps.value, optimizer.eps.stated) == (1e-5, False)
    assert optimizer.weight_decay.value == 0.1 and optimizer.decays_embeddings is False
    asked = CONFIG.replace(
        "  weight_decay: 0.1\n", "  weight_decay: 0.1\n  decay_embeddings: yes\n"
    )
    optimizer = framework("olmo").read(source(asked)).optimizer
    assert optimizer is not None and optimizer.decays_embeddings is True
    older = asked.replace("decay_embeddings: yes", "no_decay_norm_and_bias: false")
    optimizer = framework("olmo").read(source(older)).optimizer
    assert optimizer is not None and optimizer.decays_embeddings is True
    lion = CONFIG.replace("name: adamw", "name: lionw")
    assert framework("olmo").read(source(lion)).optimizer is None


def test_an_export_makes_it_normal_and_keeps_every_comment() -> None:
    """γ 0.7 at 4096: 4096^−0.7 = 0.0029604; ff_out's ratio (11008 / 4096)^0.7 = 1.998."""
    edited = export("olmo", source(), 0.7)
    assert "init_fn: normal        # Wortsman's" in edited.text
    assert f"  init_std: {4096**-0.7!r}           # not used by mitchell\n" in edited.text
    assert f"  emb_init_std: {4096**-0.7!r}\n" in edited.text
    assert "  mlp_hidden_size: 22016   # 2 × 11008, for SwiGLU\n" in edited.text
    report = edited.report
    assert report.std == pytest.approx(0.0029604, rel=1e-4)
    missed = [each for each in report.matrices if not each.exact]
    assert [each.name for each in missed] == ["transformer.blocks.*.ff_out.weight"]
    assert missed[0].ratio == pytest.approx((11008 / 4096) ** 0.7)
    assert edited.hook is not None and "reset_parameters" in edited.hook.usage
    assert "with FSDP.summon_full_params(dist_model)" in edited.hook.usage


def test_an_export_within_a_cut_writes_what_is_cut_to_gamma() -> None:
    """init_cutoff_factor stays, and init_std is wider by as much as it takes away."""
    text = CONFIG.replace("init_fn: mitchell", "init_cutoff_factor: 3\n  init_fn: mitchell")
    edited = export("olmo", source(text), 0.7)
    written = yaml.safe_load(edited.text)["model"]
    assert written["init_std"] == pytest.approx(4096**-0.7 / TRUNCATED_AT_3)
    assert written["init_cutoff_factor"] == 3
    assert edited.report.matrices[0].exact
    assert "±3 std" in edited.report.could_not_express[0]


def test_references_are_read_and_stay_in_the_file() -> None:
    """OmegaConf's ${…} is what stands there; the edit replaces nothing but its own keys."""
    text = CONFIG.replace("d_model: 4096", "d_model: ${sizes.width}") + "sizes: {width: 1024}\n"
    reading = framework("olmo").read(source(text))
    assert reading.width == 1024
    edited = export("olmo", source(text), 0.7)
    assert "d_model: ${sizes.width}" in edited.text
    assert edited.report.std == pytest.approx(1024**-0.7)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.05, 2), st.sampled_from([None, 1.5, 2.0, 3.0]))
def test_every_matrix_that_reads_the_width_is_exact(gamma: float, cut: float | None) -> None:
    """Whatever the cut, what is drawn is width^−γ."""
    values = yaml.safe_load(CONFIG)
    values["model"].update(n_layers=2, init_cutoff_factor=cut)
    report = export("olmo", source(yaml.safe_dump(values)), gamma).report
    assert all(each.exact for each in report.matrices if each.fan_in == 4096)
    assert not all(each.exact for each in report.matrices)


def test_claims_are_for_old_olmo_alone() -> None:
    """LLM Foundry's model has a name, OLMo-core's a block."""
    chosen = framework("olmo")
    assert chosen.claims(source().document)
    for text in (
        "model: {name: mpt_causal_lm, d_model: 8, n_layers: 2, mlp_ratio: 4}",
        "model: {d_model: 8, n_layers: 2, block: {}, init_method: normal}",
        "model: {d_model: 8, n_layers: 2}",
        "model_name: pythia-14m",
    ):
        assert not chosen.claims(YamlDocument(text, "x.yaml"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init_fn": "fan_in"}, r"OLMo-7B\.yaml, model: init_fn 'fan_in' is not one that ai2-olmo"),
        ({"init_fn": "kaiming_normal"}, "write one of normal, mitchell, full_megatron"),
        ({"init_std": 0}, "init_std is 0.0: write a number above 0"),
        ({"emb_init_std": -1}, "emb_init_std is -1.0: write a number above 0"),
        ({"init_cutoff_factor": -1}, "init_cutoff_factor is not above 0"),
        ({"init_fn": "normal", "init_cutoff_factor": 0}, "init_cutoff_factor is not above 0"),
        ({"d_model": "${gone.away}"}, "d_model is the string"),
        ({"rope": "on it"}, "rope is the string 'on it': write true or false"),
        ({"mlp_hidden_size": 1}, "mlp_hidden_size 1 is too small for swiglu: write an even one"),
    ],
)
def test_what_is_wrong_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    """One sentence: where, what, and what to write."""
    with pytest.raises(ExportError, match=message) as caught:
        read(**changes)
    assert "\n" not in str(caught.value)


@settings(deadline=None)
@given(
    st.sampled_from([*yaml.safe_load(CONFIG)["model"], "emb_init_std", "n_kv_heads", "alibi"]),
    st.none() | st.booleans() | st.integers() | st.text("${}.ab1e-") | st.just([]),
)
def test_any_value_of_any_key_is_read_or_refused(key: str, value: object) -> None:
    """No other error than a sentence for the user."""
    try:
        read(**({"n_layers": 2} | {key: value}))
    except CriticalError as error:
        assert "\n" not in str(error)
