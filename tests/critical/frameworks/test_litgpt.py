"""LitGPT's YAML read by what ``litgpt pretrain`` draws, and the launcher for γ."""

from __future__ import annotations

import ast
import math
from importlib.util import find_spec
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
from critical.frameworks.litgpt_table import entry, table
from critical.frameworks.reading import Reading

CONFIG = """\
# The name of the model to pretrain. (type: Optional[str], default: null)
model_name: stories15M

# A ``litgpt.Config`` object to define the model architecture.
model_config:
  name: stories15M
  hf_config: {}
  scale_embeddings: false
  block_size: 256
  vocab_size: 32000
  padding_multiple: 64
  n_layer: 6
  n_head: 6
  n_query_groups: 3
  n_embd: 288
  rotary_percentage: 1.0
  parallel_residual: false
  bias: false
  norm_class_name: RMSNorm
  norm_eps: 1e-5
  mlp_class_name: LLaMAMLP
  intermediate_size: 768

out_dir: out/pretrain/stories15M
precision: bf16-mixed
data: TinyStories
train:
  global_batch_size: 512
  max_tokens: 9700000000
  tie_embeddings: true
optimizer:
  class_path: torch.optim.AdamW
  init_args:
    lr: 4e-4
    weight_decay: 0.1
    betas: [0.9, 0.95]
"""
PLAIN = math.sqrt(2 / (5 * 288))
LAST = 1 / (6 * math.sqrt(288))


def source(text: str = CONFIG) -> Source:
    """Return a pretraining's YAML file."""
    return Source(YamlDocument(text, "pretrain.yaml"))


def read(**changes: Any) -> Reading:
    """Return the reading of CONFIG with some keys of its model set; ``...`` drops one."""
    values = yaml.safe_load(CONFIG)
    model = {**values["model_config"], **changes}
    values["model_config"] = {key: value for key, value in model.items() if value is not ...}
    return framework("litgpt").read(source(yaml.safe_dump(values)))


def stds(reading: Reading) -> dict[str, float]:
    """Return the stds of a reading's matrices by their names in the block."""
    return {
        each.name.removeprefix("transformer.h.*.").removesuffix(".weight"): each.configured_std
        for each in reading.matrices
    }


def test_a_llama_is_read_as_litgpt_draws_it() -> None:
    """√(2 / 5·288) = 0.037268; projections 1 / (6 √288) = 0.0098209; the tied pair once."""
    reading = framework("litgpt").read(source())
    assert stds(reading) == {
        "lm_head": PLAIN,
        "attn.qkv": PLAIN,
        "attn.proj": LAST,
        "mlp.fc_1": PLAIN,
        "mlp.fc_2": PLAIN,
        "mlp.proj": LAST,
    }
    assert (round(PLAIN, 6), round(LAST, 7)) == (0.037268, 0.0098209)
    found = {each.name: each for each in reading.matrices}
    assert found["lm_head.weight"].shape == (32000, 288)
    assert found["lm_head.weight"].kind == "embedding"
    assert found["transformer.h.*.attn.qkv.weight"].shape == ((6 + 2 * 3) * 48, 288)
    assert found["transformer.h.*.mlp.proj.weight"].fan_in == 768
    assert (reading.tied, reading.std, reading.width, reading.depth) == (True, None, 288, 6)


def test_what_else_the_file_tells_is_read() -> None:
    """1e-5 is a text in YAML and a number in LitGPT; AdamW's decay reaches the embeddings."""
    reading = framework("litgpt").read(source())
    assert reading.norms is not None
    assert (reading.norms.eps.value, reading.norms.eps.stated) == (1e-5, True)
    assert reading.depth_scaling is not None
    assert reading.depth_scaling.formula == "1 / (6 · √width)"
    assert reading.optimizer is not None
    assert reading.optimizer.weight_decay.value == 0.1
    assert (reading.optimizer.eps.value, reading.optimizer.eps.stated) == (1e-8, False)
    assert reading.optimizer.decays_embeddings is True


def test_an_untied_model_has_both_and_its_vocabulary_is_padded() -> None:
    """32,001 words to a multiple of 64 are 32,064."""
    text = CONFIG.replace("tie_embeddings: true", "tie_embeddings: false")
    text = text.replace("vocab_size: 32000", "vocab_size: 32001")
    found = {each.name: each for each in framework("litgpt").read(source(text)).matrices}
    assert found["transformer.wte.weight"].shape == (32064, 288)
    assert found["lm_head.weight"].kind == "head"


def test_gpt_neox_scales_attention_alone() -> None:
    """GptNeoxMLP is not among the modules whose projection is narrower; its inner size is 4d."""
    reading = read(mlp_class_name="GptNeoxMLP", intermediate_size=...)
    found = stds(reading)
    assert (found["attn.proj"], found["mlp.fc"], found["mlp.proj"]) == (LAST, PLAIN, PLAIN)
    shapes = {each.name: each.shape for each in reading.matrices}
    assert shapes["transformer.h.*.mlp.fc.weight"] == (1152, 288)


def test_gemma_scales_its_embedding_and_olmo2_does_not_normalize_it() -> None:
    """√288 before the first norm; norm_1 false is no norm at all."""
    norms = read(mlp_class_name="GemmaMLP", scale_embeddings=True).norms
    assert norms is not None and norms.embedding_scale == pytest.approx(math.sqrt(288))
    norms = read(norm_1=False).norms
    assert norms is not None and norms.read_embedding is False


def test_experts_are_llama_mlps_and_the_first_blocks_dense() -> None:
    """Each expert's projection is scaled; the gate is not; shared experts are as wide as n."""
    reading = read(
        mlp_class_name="LLaMAMoE",
        n_expert=4,
        moe_intermediate_size=96,
        n_shared_expert=2,
        first_k_dense_replace=1,
    )
    found = {each.name: each for each in reading.matrices}
    experts = found["transformer.h.*.mlp.experts.*.proj.weight"]
    assert (experts.count, experts.shape, experts.configured_std) == (5 * 4, (288, 96), LAST)
    assert found["transformer.h.*.mlp.shared_experts.fc_1.weight"].shape == (192, 288)
    gate = found["transformer.h.*.mlp.gate.weight"]
    assert (gate.count, gate.kind, gate.configured_std) == (5, "other", PLAIN)
    assert found["transformer.h.*.mlp.fc_1.weight"].count == 1


def test_latent_attention_is_drawn_as_the_rest() -> None:
    """MultiheadLatentAttention is not CausalSelfAttention: nothing of it is scaled."""
    sizes = {"q_lora_rank": 96, "kv_lora_rank": 64, "qk_rope_head_dim": 16}
    sizes |= {"qk_nope_head_dim": 32, "v_head_dim": 40}
    reading = read(latent_attention=sizes)
    found = {each.name.split(".h.*.")[-1]: each for each in reading.matrices}
    assert found["attn.proj.weight"].configured_std == PLAIN
    assert found["attn.q_b_proj.weight"].shape == (6 * 48, 96)
    assert found["attn.kv_a_proj_with_mqa.weight"].shape == (80, 288)
    assert found["attn.kv_b_proj.weight"].shape == (6 * 72, 64)


def test_the_file_beside_a_checkpoint_is_read_alone() -> None:
    """model_config.yaml has the same keys at the top."""
    text = yaml.safe_dump(yaml.safe_load(CONFIG)["model_config"] | {"padded_vocab_size": 32000})
    assert framework("litgpt").claims(source(text).document)
    assert framework("litgpt").read(source(text)).matrices[1].name == "transformer.wte.weight"


@pytest.mark.parametrize(
    ("optimizer", "known"),
    [
        ("AdamW", True),
        ("torch.optim.Adam", True),
        ("bitsandbytes.optim.AdamW8bit", False),
        ({"class_path": "torch.optim.SGD", "init_args": {}}, False),
        (None, True),
    ],
)
def test_adam_is_told_from_others(optimizer: object, known: bool) -> None:
    """A name or a class path; null is LitGPT's AdamW."""
    values = yaml.safe_load(CONFIG) | {"optimizer": optimizer}
    reading = framework("litgpt").read(source(yaml.safe_dump(values)))
    assert (reading.optimizer is not None) is known


def test_an_export_leaves_the_file_and_hands_over_an_exact_launcher() -> None:
    """LitGPT has no key; with the launcher every matrix has fan_in^−γ."""
    edited = export("litgpt", source(), 0.7)
    assert edited.text == CONFIG
    assert edited.report.key is None and edited.hook is not None
    assert all(each.hooked == each.fan_in**-0.7 for each in edited.report.matrices)
    assert "python critical_init.py pretrain" in edited.hook.usage


@settings(deadline=None)
@given(st.floats(1e-3, 4))
def test_the_launcher_is_python_with_gamma_in_it_and_nothing_of_ours(gamma: float) -> None:
    """It parses, and holds the float to the last bit."""
    hook = framework("litgpt").hook(framework("litgpt").read(source()), gamma)
    assert hook is not None and f"\nGAMMA = {gamma!r}\n" in hook.text
    imports = [n for n in ast.walk(ast.parse(hook.text)) if isinstance(n, ast.ImportFrom)]
    assert not [each for each in imports if str(each.module).startswith("critical")]


def test_claims_are_for_litgpt_alone() -> None:
    """A pretraining's keys; neither LLaMA-Factory's, OLMo's nor Axolotl's."""
    chosen = framework("litgpt")
    assert chosen.claims(source().document)
    assert chosen.claims(YamlDocument("model_name: x\ntrain: {}\nout_dir: out", "x.yaml"))
    for text in (
        "model_name_or_path: x\noutput_dir: out",
        "model: {d_model: 8, n_layers: 2, mlp_ratio: 4}",
        "base_model: x\nmodel_name: y",
        "model: {model_config: {hidden_size: 8}}",
    ):
        assert not chosen.claims(YamlDocument(text, "x.yaml"))


@pytest.mark.skipif(find_spec("litgpt") is not None, reason="its table is read")
def test_a_name_alone_is_told_what_to_write() -> None:
    """The sizes stand in LitGPT's own table, which is read where LitGPT is installed."""
    assert table() is None
    text = "model_name: pythia-160m\nmodel_config:\ntrain: {}\nout_dir: out\n"
    sentence = r"'pythia-160m' has its sizes in LitGPT's own table: pip install litgpt beside crit"
    with pytest.raises(ExportError, match=sentence):
        framework("litgpt").read(source(text))
    with pytest.raises(ExportError, match=r"there is no model_name: write one, or the model's si"):
        framework("litgpt").read(source("train: {}\nout_dir: out\nprecision: 32\n"))


def test_a_model_is_found_by_either_of_its_names() -> None:
    """As LitGPT looks it up: its own first, then that on the hub, with its organization or not."""
    entries = (
        {"name": "tiny-llama-1.1b", "hf_config": {"org": "TinyLlama", "name": "TinyLlama-1.1B"}},
        {"name": "TinyLlama-1.1B"},
    )
    assert entry(entries, "tiny-llama-1.1b") is entries[0]
    assert entry(entries, "TinyLlama-1.1B") is entries[1]
    assert entry(entries, "TinyLlama/TinyLlama-1.1B") is entries[0]
    assert entry(entries[:1], "TinyLlama-1.1B") is entries[0]
    assert entry(entries, "llama") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mlp_class_name": "MyMLP"}, r"pretrain\.yaml, model_config: mlp_class_name 'MyMLP'"),
        ({"intermediate_size": ...}, "intermediate_size is missing: write it, as LitGPT's"),
        ({"n_embd": "wide"}, "n_embd is the string 'wide'"),
        ({"n_layer": 0}, "n_layer is 0: write a whole number from 1"),
        ({"mlp_class_name": "LLaMAMoE"}, "n_expert is missing"),
        (
            {"mlp_class_name": "LLaMAMoE", "n_expert": 8, "n_expert_groups": 2},
            "a router that litgpt pretrain leaves uninitialized",
        ),
        ({"latent_attention": {"q_lora_rank": 8}}, "latent_attention: kv_lora_rank is missing"),
    ],
)
def test_what_is_wrong_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    """One sentence: where, what, and what to write."""
    with pytest.raises(ExportError, match=message) as caught:
        read(**changes)
    assert "\n" not in str(caught.value)


@settings(deadline=None)
@given(
    st.sampled_from([*yaml.safe_load(CONFIG)["model_config"], "latent_attention", "n_expert"]),
    st.none() | st.booleans() | st.integers() | st.text("ab1e-") | st.just([]) | st.just({}),
)
def test_any_value_of_any_key_is_read_or_refused(key: str, value: object) -> None:
    """No other error than a sentence for the user."""
    try:
        read(**{key: value})
    except CriticalError as error:
        assert "\n" not in str(error)
