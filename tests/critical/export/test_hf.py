"""An exported config.json: every other byte untouched, and the report true of real models."""

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
from transformers import AutoConfig, AutoModelForCausalLM

from critical.errors import ExportError, TargetError
from critical.export import FRAMEWORKS, ExportReport, export
from critical.export import hf as hf_module
from critical.layout import Matrix, pattern
from critical.target import parse_target

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
    "gemma": SHAPE,
    "gemma2": SHAPE,
    "gpt2": GPT2,
    "gpt_neox": SHAPE,
    "llama": SHAPE,
    "mistral": SHAPE,
    "olmo2": SHAPE,
    "opt": {**SHAPE, "initializer_range": ..., "init_std": 0.006, "ffn_dim": 688},
    "qwen2": SHAPE,
    "qwen3": SHAPE,
    "qwen3_moe": {**SHAPE, "num_experts": 4, "moe_intermediate_size": 192},
    "smollm3": SHAPE,
}


def config_of(family: str, **changes: object) -> str:
    """Return the text of a tiny config.json of a family; ``...`` leaves a key out."""
    document = {"model_type": family, **FAMILIES.get(family, SHAPE), **changes}
    return json.dumps({k: v for k, v in document.items() if v is not ...}, indent=2) + "\n"


def drawn(text: str, folder: Path) -> dict[str, list[torch.Tensor]]:
    """Build the model that a config.json describes, as a user does, and return its matrices."""
    (folder / "config.json").write_text(text)
    torch.manual_seed(11)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    found: dict[str, list[torch.Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            found.setdefault(pattern(name), []).append(parameter.detach())
    return found


@pytest.mark.parametrize("gamma", [0.5, 0.7, 0.95])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_real_model_has_the_std_that_the_report_says(
    family: str, gamma: float, tmp_path: Path
) -> None:
    """Every matrix that transformers draws from the edited file, within its sampling error."""
    edited, report = export("hf", config_of(family), "config.json", gamma)
    found = drawn(edited, tmp_path)
    assert found.keys() == {each.name for each in report.matrices}
    for each in report.matrices:
        assert each.count == len(found[each.name])
        for weight in found[each.name]:
            tolerance = max(4 / math.sqrt(2 * weight.numel()), 0.005)
            assert float(weight.double().std()) == pytest.approx(each.yielded, rel=tolerance)
            assert each.wanted == pytest.approx(each.fan_in**-gamma)


def test_the_classic_initialization_is_a_control() -> None:
    """At γ 0.5 a square matrix gets 1/√width, and the down-projection √(inner/width) of its own."""
    _, report = export("hf", config_of("llama"), "config.json", 0.5)
    assert report.std == 1 / 16
    assert report.worst_ratio == pytest.approx(math.sqrt(688 / 256))


def test_gpt2s_residual_projections_are_a_control() -> None:
    """c_proj gets 1/√(2 · layers) of the std, on top of what its fan-in asks for."""
    _, report = export("hf", config_of("gpt2"), "config.json", 0.5)
    ratios = {each.name.removeprefix("transformer.h.*."): each.ratio for each in report.matrices}
    assert ratios["attn.c_attn.weight"] == 1
    assert ratios["attn.c_proj.weight"] == pytest.approx(0.5)
    assert ratios["mlp.c_proj.weight"] == pytest.approx(1.0)
    assert export("hf", config_of("gpt2"), "c", 0.7)[1].worst_ratio == pytest.approx(0.5)


def test_the_summary_counts_what_is_exact_and_names_what_is_not() -> None:
    """Of an untied Llama of two layers, the two down-projections miss."""
    _, report = export("hf", config_of("llama"), "config.json", 0.7)
    assert report.summary() == (
        "exact for 14 of 16 matrices (fan-in 256); "
        "2 down_proj get 2.00× the recommended std (fan-in 688)"
    )
    assert len(report.could_not_express) == 1


def test_a_model_whose_fan_ins_are_all_its_width_is_exact() -> None:
    """With the feed-forward as wide as the model, nothing is missed and nothing is said."""
    _, report = export("hf", config_of("llama", intermediate_size=256), "config.json", 0.7)
    assert report.summary() == "exact for 16 of 16 matrices (fan-in 256)"
    assert report.could_not_express == ()


def test_the_document_is_json_with_every_ratio() -> None:
    """The report survives JSON, and holds what the summary is drawn from."""
    _, report = export("hf", config_of("llama"), "config.json", 0.7)
    document = json.loads(json.dumps(report.to_document(), allow_nan=False))
    assert document["framework"] == "hf"
    assert document["std"] == 256**-0.7
    assert document["worst_ratio"] == report.worst_ratio
    assert document["summary"] == report.summary()
    down = next(each for each in document["matrices"] if "down_proj" in each["name"])
    assert down["ratio"] == pytest.approx((688 / 256) ** 0.7)
    assert (down["exact"], down["count"], down["shape"]) == (False, 2, [256, 688])


def test_a_matrix_drawn_at_zero_is_the_worst() -> None:
    """A ratio of 0 is infinitely far from 1."""
    _, report = export("hf", config_of("afmoe", **MOE), "config.json", 0.7)
    assert report.worst_ratio == 0
    assert "1 gate gets 0× the recommended std" in report.summary()


MOE: dict[str, Any] = {
    "num_experts": 4,
    "moe_intermediate_size": 192,
    "num_dense_layers": 1,
    "layer_types": ["full_attention", "full_attention"],
}


def test_the_example_changes_in_one_line() -> None:
    """A file as transformers saves it differs from its edit in one line only."""
    text = EXAMPLE.read_text()
    edited, report = export("hf", text, EXAMPLE.name, 0.7)
    changed = [
        pair
        for pair in zip(text.split("\n"), edited.split("\n"), strict=True)
        if len(set(pair)) > 1
    ]
    assert changed == [
        ('  "initializer_range": 0.02,', '  "initializer_range": 0.012691443693066183,')
    ]
    assert report.std == 512**-0.7


def test_opt_is_given_its_own_key() -> None:
    """The std goes to init_std, and no initializer_range is added."""
    edited, report = export("hf", config_of("opt"), "config.json", 0.7)
    document = json.loads(edited)
    assert document["init_std"] == 256**-0.7
    assert "initializer_range" not in document
    assert report.matrices[0].exact


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


@settings(max_examples=150, deadline=None)
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
    edited, _ = export("hf", text, "config.json", gamma)
    assert edited == text.replace(repr(SENTINEL), repr(256**-gamma))
    assert parse_target(edited, "config.json").reference_gamma == pytest.approx(gamma, abs=1e-12)


@settings(max_examples=80, deadline=None)
@given(gamma=st.floats(0.3, 1.2), extras=EXTRAS, indent=INDENTS)
def test_a_missing_key_is_put_last_and_nothing_else_changes(
    gamma: float, extras: dict[str, Any], indent: int | str | None
) -> None:
    """One member is inserted, spaced as its neighbours; without it the text is as it was."""
    document = {"model_type": "llama", **SHAPE, **extras}
    del document["initializer_range"]
    text = json.dumps(document, indent=indent) + "\n"
    edited, _ = export("hf", text, "config.json", gamma)
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
    once, _ = export("hf", config_of("qwen3"), "config.json", 0.8)
    assert export("hf", once, "config.json", 0.8)[0] == once


def test_an_unknown_framework_lists_those_there_are() -> None:
    """The message quotes the name and shows the valid ones."""
    with pytest.raises(ExportError, match=r"framework 'hg' is not known: write one of .*hf"):
        export("hg", config_of("llama"), "config.json", 0.7)
    assert {name: each.name for name, each in FRAMEWORKS.items()}["hf"] == "hf"


@pytest.mark.parametrize("gamma", [0.0, -0.5, 4.5, math.nan, math.inf])
def test_a_gamma_that_is_no_exponent_is_refused(gamma: float) -> None:
    """A std of 0 would become 0.02 in transformers; no γ that underflows gets that far."""
    with pytest.raises(ExportError, match=r"is not in \(0, 4\]: write one, as 0\.7"):
        export("hf", config_of("llama"), "config.json", gamma)


def test_a_nested_language_model_is_refused_with_the_number_to_write() -> None:
    """The head's std comes from the outer level, so that an edit inside is not enough."""
    text = json.dumps({"model_type": "llava", "text_config": json.loads(config_of("llama"))})
    number = re.escape(repr(256**-0.7))
    with pytest.raises(ExportError, match=rf"text_config.*write initializer_range {number} into"):
        export("hf", text, "config.json", 0.7)


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
        export("hf", text, "config.json", 0.7)


def test_an_edit_that_would_change_another_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The edited text is parsed again and compared before anyone sees it."""
    monkeypatch.setattr(hf_module, "with_number", lambda text, key, value: config_of("qwen2"))
    with pytest.raises(ExportError, match=r"cannot be edited as text: set initializer_range to"):
        export("hf", config_of("llama"), "config.json", 0.7)


def test_a_family_that_ignores_its_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no matrix takes the std that was written, no file is handed out."""
    fixed = (Matrix("lm_head.weight", 1, (512, 256), 256, "head", 0.02),)
    monkeypatch.setattr(hf_module, "matrices", lambda target: fixed)
    with pytest.raises(ExportError, match=r"llama draws no matrix with initializer_range"):
        export("hf", config_of("llama"), "config.json", 0.7)


def test_reports_compare_by_value() -> None:
    """The same export gives an equal report."""
    first: ExportReport = export("hf", config_of("llama"), "config.json", 0.7)[1]
    assert first == export("hf", config_of("llama"), "config.json", 0.7)[1]
