"""An exported config.json: every other byte untouched, and what the reading says of the model."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from critical.errors import ExportError, TargetError
from critical.export import Edited, ExportReport, export
from critical.frameworks import FRAMEWORKS, Source, framework
from critical.frameworks import hf as hf_module
from critical.frameworks.documents.json_document import JsonDocument
from critical.frameworks.hf import HuggingFace
from critical.frameworks.hf_attention import GATED, NORMED
from critical.frameworks.reading import DepthScaling, Reading
from critical.targets import families
from critical.targets.family_kinds import FAMILY_KINDS
from critical.targets.layout import Matrix
from critical.targets.target import parse_target

EXAMPLE = Path(__file__).parents[3] / "examples" / "llama-small.json"
SHAPE: dict[str, Any] = {
    "hidden_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "intermediate_size": 688,
    "vocab_size": 512,
    "initializer_range": 0.02,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GPT2: dict[str, Any] = {
    "n_embd": 256,
    "n_layer": 2,
    "n_head": 8,
    "n_positions": 128,
    "vocab_size": 512,
    "initializer_range": 0.02,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": GPT2,
    "opt": {**SHAPE, "head_dim": ..., "initializer_range": ..., "init_std": 0.006, "ffn_dim": 688},
}
MOE: dict[str, Any] = {
    "num_experts": 4,
    "moe_intermediate_size": 192,
    "num_dense_layers": 1,
    "layer_types": ["full_attention", "full_attention"],
}


def config_of(family: str, **changes: object) -> str:
    """Return the text of a tiny config.json of a family; ``...`` leaves a key out."""
    document = {"model_type": family, **FAMILIES.get(family, SHAPE), **changes}
    return json.dumps({k: v for k, v in document.items() if v is not ...}, indent=2) + "\n"


def source_of(text: str, name: str = "config.json") -> Source:
    """Return a config.json as a source."""
    return Source(JsonDocument(text, name))


def exported(text: str, gamma: float, name: str = "config.json") -> Edited:
    """Export γ into the text of a config.json."""
    return export("hf", source_of(text, name), gamma)


def read(family: str, **changes: object) -> Reading:
    """Read a tiny config.json."""
    return HuggingFace().read(source_of(config_of(family, **changes)))


def test_the_classic_initialization_is_a_control() -> None:
    """At γ 0.5 a square matrix gets 1/√width, and the down-projection √(inner/width) of its own."""
    report = exported(config_of("llama"), 0.5).report
    assert report.std == 1 / 16
    assert report.key == "initializer_range"
    assert report.worst_ratio == pytest.approx(math.sqrt(688 / 256))


def test_gpt2s_residual_projections_are_a_control() -> None:
    """c_proj gets 1/√(2 · layers) of the std besides what its fan-in asks for, and it is told."""
    report = exported(config_of("gpt2"), 0.5).report
    ratios = {each.name.removeprefix("transformer.h.*."): each.ratio for each in report.matrices}
    assert ratios["attn.c_attn.weight"] == 1
    assert ratios["attn.c_proj.weight"] == pytest.approx(0.5)
    assert ratios["mlp.c_proj.weight"] == pytest.approx(1.0)
    assert report.could_not_express == (
        "gpt2 draws its residual projections with std / √(2 · 2), and no key turns that off",
    )
    assert exported(config_of("gpt2"), 0.7).report.worst_ratio == pytest.approx(0.5)
    assert read("gpt2").depth_scaling == DepthScaling("std / √(2 · 2)", None)
    assert read("llama").depth_scaling is None


def test_the_summary_counts_what_is_exact_and_names_what_is_not() -> None:
    """Of an untied Llama of two layers, the two down-projections miss."""
    edited = exported(config_of("llama"), 0.7)
    assert edited.report.summary() == (
        "exact for 14 of 16 matrices (fan-in 256); "
        "2 down_proj get 2.00× the recommended std (fan-in 688)"
    )
    assert edited.report.could_not_express == ()
    assert edited.hook is not None
    assert edited.report.hook_usage == edited.hook.usage


def test_a_model_whose_fan_ins_are_all_its_width_is_exact() -> None:
    """With the feed-forward as wide as the model, nothing is missed and nothing is said."""
    edited = exported(config_of("llama", intermediate_size=256), 0.7)
    assert edited.report.summary() == "exact for 16 of 16 matrices (fan-in 256)"
    assert edited.report.could_not_express == ()
    assert edited.hook is None


def test_the_document_is_json_with_every_ratio() -> None:
    """The report survives JSON, and holds what the summary is drawn from."""
    report = exported(config_of("llama"), 0.7).report
    document = json.loads(json.dumps(report.to_document(), allow_nan=False))
    assert document["framework"] == "hf"
    assert document["std"] == 256**-0.7
    assert document["worst_ratio"] == report.worst_ratio
    assert document["summary"] == report.summary()
    down = next(each for each in document["matrices"] if "down_proj" in each["name"])
    assert down["ratio"] == pytest.approx((688 / 256) ** 0.7)
    assert (down["exact"], down["count"], down["shape"]) == (False, 2, [256, 688])
    assert (down["before"], down["hooked"]) == (0.02, pytest.approx(688**-0.7))


def test_a_matrix_drawn_at_zero_is_the_worst() -> None:
    """A ratio of 0 is infinitely far from 1, and no key moves it."""
    report = exported(config_of("afmoe", **MOE), 0.7).report
    assert report.worst_ratio == 0
    assert "1 gate gets 0× the recommended std" in report.summary()
    assert report.could_not_express == (
        "afmoe draws model.layers.*.mlp.router.gate.weight at 0, whatever the key says",
    )


def test_the_example_changes_in_one_line() -> None:
    """A file as transformers saves it differs from its edit in one line only."""
    text = EXAMPLE.read_text()
    edited = exported(text, 0.7, EXAMPLE.name)
    changed = [
        pair
        for pair in zip(text.split("\n"), edited.text.split("\n"), strict=True)
        if len(set(pair)) > 1
    ]
    assert changed == [
        ('  "initializer_range": 0.02,', '  "initializer_range": 0.012691443693066183,')
    ]
    assert edited.report.std == 512**-0.7


def test_opt_is_given_its_own_key() -> None:
    """The std goes to init_std, and no initializer_range is added."""
    edited = exported(config_of("opt"), 0.7)
    document = json.loads(edited.text)
    assert document["init_std"] == 256**-0.7
    assert "initializer_range" not in document
    assert edited.report.matrices[0].exact


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["initializer_range", "a", '"b"', "ε"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
EXTRAS = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6).map(lambda key: f"x-{key}"),
    JSON_VALUES,
    max_size=4,
)
INDENTS = st.sampled_from([None, 0, 2, 4, "\t"])
SENTINEL = 0.012345678987654321


@settings(max_examples=60, deadline=None)
@given(
    gamma=st.floats(0.3, 1.2),
    extras=EXTRAS,
    indent=INDENTS,
    separators=st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")]),
    escaped=st.booleans(),
    newline=st.sampled_from(["\n", "\r\n"]),
    end=st.sampled_from(["", "\n", " \n\n"]),
    data=st.data(),
)
def test_every_byte_but_the_number_is_untouched(
    gamma: float,
    extras: dict[str, Any],
    indent: int | str | None,
    separators: tuple[str, str],
    escaped: bool,
    newline: str,
    end: str,
    data: st.DataObject,
) -> None:
    """However a file is laid out, and whatever else it holds; read back, it gives γ again."""
    document = {"model_type": "llama", **SHAPE, **extras, "initializer_range": SENTINEL}
    keys = data.draw(st.permutations(list(document)))
    text = json.dumps(
        {key: document[key] for key in keys},
        indent=indent,
        separators=separators,
        ensure_ascii=escaped,
    )
    text = newline.join(text.split("\n")) + end
    edited = exported(text, gamma).text
    assert edited == text.replace(repr(SENTINEL), repr(256**-gamma))
    assert parse_target(edited, "config.json").reference_gamma == pytest.approx(gamma, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(gamma=st.floats(0.3, 1.2), extras=EXTRAS, indent=INDENTS)
def test_a_missing_key_is_put_last_and_nothing_else_changes(
    gamma: float, extras: dict[str, Any], indent: int | str | None
) -> None:
    """One member is inserted, spaced as its neighbours; without it the text is as it was."""
    document = {"model_type": "llama", **SHAPE, **extras}
    del document["initializer_range"]
    text = json.dumps(document, indent=indent) + "\n"
    edited = exported(text, gamma).text
    value = re.escape(repr(256**-gamma))
    inserted = re.search(rf',(\s*)"initializer_range": {value}(?=\s*\}}\n\Z)', edited)
    assert inserted is not None
    assert edited[: inserted.start()] + edited[inserted.end() :] == text
    assert list(json.loads(edited)) == [*document, "initializer_range"]
    assert inserted[1] == (" " if indent is None else "\n" + json_indent(indent))


def json_indent(indent: int | str) -> str:
    """Return the indentation that json.dumps writes."""
    return indent if isinstance(indent, str) else " " * indent


def test_exporting_twice_is_exporting_once() -> None:
    """An edited file exported again at the same γ is the same file."""
    once = exported(config_of("qwen3"), 0.8).text
    assert exported(once, 0.8).text == once


def test_an_unknown_framework_lists_those_there_are() -> None:
    """The message quotes the name and shows the valid ones."""
    with pytest.raises(ExportError, match=r"framework 'hg' is not known: write one of .*hf"):
        framework("hg")
    assert {name: each.name for name, each in FRAMEWORKS.items()}["hf"] == "hf"


@pytest.mark.parametrize("gamma", [0.0, -0.5, 4.5, math.nan, math.inf])
def test_a_gamma_that_is_no_exponent_is_refused(gamma: float) -> None:
    """A std of 0 would become 0.02 in transformers; no γ that underflows gets that far."""
    with pytest.raises(ExportError, match=r"is not in \(0, 4\]: write one, as 0\.7"):
        exported(config_of("llama"), gamma)


LLAVA: dict[str, Any] = {
    "model_type": "llava",
    "text_config": json.loads(config_of("llama")) | {"rms_norm_eps": 1e-5},
    "vision_config": {
        "model_type": "clip_vision_model",
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "image_size": 28,
        "patch_size": 14,
    },
}


def test_a_nested_language_model_is_read_as_the_whole_model_draws_it() -> None:
    """LLaVA's head: by text_config's std where the outer file has none, else by the outer one."""
    for outer, std in (({}, 0.02), ({"initializer_range": 0.05}, 0.05)):
        reading = HuggingFace().read(source_of(json.dumps({**LLAVA, **outer})))
        stds = {each.name: each.configured_std for each in reading.matrices}
        assert stds.pop("lm_head.weight") == std
        assert set(stds.values()) == {0.02}
        assert all(name.startswith("model.language_model.") for name in stds)
        assert reading.std is not None and reading.std.key == "text_config.initializer_range"
        assert reading.norms is not None and reading.norms.eps.key == "text_config.rms_norm_eps"
        assert any(each.startswith("only the language model in") for each in reading.remarks)
    assert HuggingFace().read(source_of(json.dumps({**LLAVA, "tie_word_embeddings": True}))).tied


def test_a_nested_language_model_whose_whole_is_not_known_gets_a_hook_only() -> None:
    """Its head is left out and said to be; nothing is written, and the hook is called on parts."""
    text = json.dumps({"model_type": "none-such", "text_config": LLAVA["text_config"]})
    reading = HuggingFace().read(source_of(text))
    assert reading.std is None
    assert not any(each.kind == "head" for each in reading.matrices)
    assert any(
        re.search(r"head of its own .* is not known here: .*'none-such'", each)
        for each in reading.remarks
    )
    edited = exported(text, 0.7)
    assert (edited.text, edited.report.key) == (text, None)
    assert "no key is written" in edited.report.could_not_express[0]
    assert edited.hook is not None and "on the language model, and on its head" in edited.hook.usage


@pytest.mark.parametrize("to", ["llama-factory", "flame"])
def test_other_frameworks_send_a_nested_language_model_to_hf(to: str) -> None:
    """How they draw one is not known here."""
    with pytest.raises(ExportError, match=rf"text_config, which {to} .*: audit or export it as hf"):
        export(to, source_of(json.dumps(LLAVA)), 0.7)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", r"^config\.json is not JSON at line 1"),
        ('{"hidden_size": 1, "hidden_size": 1}', r"gives the key 'hidden_size' twice"),
        ("[]", r"holds a list"),
        ("{}", r"model_type is missing"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(text: str, sentence: str) -> None:
    """The sentence is the target's own."""
    with pytest.raises(TargetError, match=sentence):
        exported(text, 0.7)


def test_a_family_that_ignores_its_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no matrix takes the std that was written, no file is handed out."""
    fixed = (Matrix("lm_head.weight", 1, (512, 256), 256, "head", 0.03),)
    monkeypatch.setattr(hf_module, "matrices", lambda target: fixed)
    with pytest.raises(ExportError, match=r"llama draws no matrix with initializer_range"):
        exported(config_of("llama"), 0.7)


def test_reports_compare_by_value() -> None:
    """The same export gives an equal report."""
    first: ExportReport = exported(config_of("llama"), 0.7).report
    assert first == exported(config_of("llama"), 0.7).report


@pytest.mark.parametrize(
    ("document", "own"),
    [
        ({"model_type": "llama"}, True),
        ({"text_config": {"model_type": "llama"}}, True),
        ({"model_type": "mamba"}, True),  # Of flash-linear-attention and of transformers.
        ({"model_type": "gla"}, False),
        ({"model_type": "transformer"}, False),
        ({"model": {"d_model": 64}}, False),
        ({"text_config": "llama"}, False),
    ],
)
def test_a_config_json_is_claimed_by_its_family(document: dict[str, Any], own: bool) -> None:
    """Those of families that flash-linear-attention alone knows are flame's."""
    assert HuggingFace().claims(JsonDocument(json.dumps(document), "config.json")) is own


@pytest.mark.parametrize(
    ("family", "changes", "key", "eps", "stated"),
    [
        ("llama", {}, "rms_norm_eps", 1e-6, False),
        ("llama", {"rms_norm_eps": 1e-5}, "rms_norm_eps", 1e-5, True),
        ("gpt2", {}, "layer_norm_epsilon", 1e-5, False),
        ("starcoder2", {"head_dim": ...}, "norm_epsilon", 1e-5, False),
        ("gpt_neox", {"layer_norm_eps": 1e-6}, "layer_norm_eps", 1e-6, True),
        # LayerNorm's own, whatever a key of another family's says.
        ("opt", {"layer_norm_eps": 1e-3}, "ε of opt's LayerNorm, which no key sets", 1e-5, False),
    ],
)
def test_the_norms_epsilon_has_its_familys_key(
    family: str, changes: dict[str, Any], key: str, eps: float, stated: bool
) -> None:
    """The key that a user would write, where the file leaves it out too."""
    norms = read(family, **changes).norms
    assert norms is not None
    assert (norms.eps.key, norms.eps.value, norms.eps.stated) == (key, eps, stated)


@pytest.mark.parametrize(
    ("family", "changes", "read_embedding", "scale"),
    [
        ("llama", {}, True, 1.0),
        ("gemma2", {}, True, 16.0),  # √256
        ("olmo2", {}, False, 1.0),  # Its norms follow attention and feed-forward.
        ("granite", {"embedding_multiplier": 12.0}, True, 12.0),
    ],
)
def test_what_reads_the_embedding_is_known(
    family: str, changes: dict[str, Any], read_embedding: bool, scale: float
) -> None:
    """And what multiplies it before."""
    norms = read(family, **changes).norms
    assert norms is not None
    assert (norms.read_embedding, norms.embedding_scale) == (read_embedding, scale)


@pytest.mark.parametrize(
    ("family", "changes", "qk_norm", "gated"),
    [
        ("llama", {}, False, False),
        ("llama", {"attn_output_gate": True}, False, True),
        ("qwen3", {}, True, False),
        ("cohere", {"use_qk_norm": False}, False, False),
        ("stablelm", {"qk_layernorm": True}, True, False),
        ("afmoe", MOE, True, True),
        ("gpt_neo", {"attention_types": [[["global"], 2]]}, None, None),
    ],
)
def test_what_holds_attention_logits_is_known(
    family: str, changes: dict[str, Any], qk_norm: bool | None, gated: bool | None
) -> None:
    """By the family and by its keys; None where neither tells."""
    attention = read(family, **changes).attention
    assert (attention.qk_norm, attention.gated) == (qk_norm, gated)


@pytest.mark.parametrize("family", sorted(GATED | NORMED))
def test_families_said_to_have_norms_and_gates_have_them(family: str) -> None:
    """Looked for in the model that transformers builds: q_norm, and a gate of attention's own."""
    few: dict[str, Any] = {"num_hidden_layers": 4}
    if family == "dots1":
        few |= {"n_routed_experts": 4, "n_shared_experts": 1}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**few))
    attention = [m for name, m in model.named_modules() if name.endswith("self_attn")]
    assert all(hasattr(each, "q_norm") and hasattr(each, "k_norm") for each in attention)
    gates = [
        hasattr(each, "gate_proj") or each.q_proj.out_features == 2 * each.o_proj.in_features
        for each in attention
    ]
    assert attention
    assert all(gates) if family in GATED else not any(gates)


@pytest.mark.parametrize(
    ("value", "remark"),
    [
        (0.0, "transformers reads initializer_range 0 as 0.02"),
        (0, "transformers reads initializer_range 0 as 0.02"),
        (None, "initializer_range is null, which transformers 5 refuses: taken is 0.02"),
    ],
)
def test_a_std_that_is_read_as_another_is_told(value: object, remark: str) -> None:
    """It does not count as stated."""
    reading = read("llama", initializer_range=value)
    assert reading.std is not None
    assert (reading.std.value, reading.std.stated) == (0.02, False)
    assert reading.remarks == (remark,)


def test_an_unknown_placement_of_norms_is_told_and_nothing_taken_for_it() -> None:
    """Of a family that is read from transformers alone: exaone4's norms read no embedding."""
    for reading in (read("gpt_neo", attention_types=[[["global"], 2]]), read("exaone4")):
        assert reading.remarks == (f"how {reading.model} places its norms is not known here",)
        assert reading.norms is None


def test_an_epsilon_that_is_left_out_is_the_familys_own() -> None:
    """qwen2_moe's is 1e-6 in transformers, and the usual 1e-5 is not taken for it."""
    experts = {"num_experts": 4, "moe_intermediate_size": 192, "head_dim": ...}
    for eps in ({}, {"rms_norm_eps": 1e-6}):
        norms = read("qwen2_moe", **experts, num_key_value_heads=4, **eps).norms
        assert norms is not None
        assert (norms.eps.value, norms.eps.stated) == (1e-6, bool(eps))
    assert FAMILY_KINDS.keys() <= families.FAMILIES.keys()


def test_a_family_ties_by_default_as_transformers_has_it() -> None:
    """ernie4_5's does, though no table here says so: there is one matrix for both ends."""
    reading = read("ernie4_5")
    assert [each.kind for each in reading.matrices].count("head") == 0
    assert reading.tied
    assert not read("ernie4_5", tie_word_embeddings=False).tied
