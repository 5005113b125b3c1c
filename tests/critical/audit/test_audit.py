"""An audit as a whole: what holds of every configuration."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from critical.audit import CHECKS, Audit, Case, Recommended, audit
from critical.export import export, read_back
from critical.frameworks import FRAMEWORKS, Source
from critical.frameworks.documents.json_document import JsonDocument
from critical.frameworks.reading import (
    Attention,
    DepthScaling,
    Norms,
    Optimizer,
    Reading,
    Setting,
)
from critical.targets.layout import Matrix

DOCUMENTED = Path(__file__).parents[3] / "docs" / "audit.md"
KINDS = st.sampled_from(("embedding", "attention", "feed_forward", "head", "other"))
SANE = st.floats(1e-6, 2)
WILD = st.floats(0, 1e308)


@st.composite
def readings(draw: st.DrawFn, numbers: st.SearchStrategy[float] = SANE) -> Reading:
    """Draw a configuration of any framework."""
    width = draw(st.sampled_from((2, 64, 768, 4096)))
    fan_ins = st.sampled_from((1, width, 4 * width, 1000))
    positive = numbers.filter(lambda number: number > 0)
    matrices = draw(
        st.lists(
            st.builds(
                Matrix, st.from_regex(r"layers\.[*0-9]\.[a-e]\.weight", fullmatch=True),
                st.integers(1, 100), st.just((5, 5)), fan_ins, KINDS, numbers,
            ),
            max_size=8,
            unique_by=lambda one: (one.name, one.fan_in, one.kind, one.configured_std),
        )
    )  # fmt: skip
    setting = st.builds(
        Setting, st.sampled_from(("key", "--key", "f(key)")), numbers, st.booleans()
    )
    flag = st.sampled_from((None, False, True))
    return Reading(
        framework="hf",
        file_name="c.json",
        model="m",
        width=width,
        depth=draw(st.integers(1, 100)),
        matrices=tuple(matrices),
        std=draw(st.none() | setting),
        norms=draw(st.none() | st.builds(Norms, setting, st.booleans(), positive)),
        tied=draw(st.booleans()),
        attention=draw(st.builds(Attention, flag, flag)),
        depth_scaling=draw(st.none() | st.builds(DepthScaling, st.just("s"), st.just("r"))),
        optimizer=draw(st.none() | st.builds(Optimizer, setting, setting, flag)),
        remarks=draw(st.sampled_from(((), ("said by its framework",)))),
    )


GAMMA = st.none() | st.floats(0.05, 4).map(Recommended)


@given(reading=readings(), recommended=GAMMA, random=st.randoms(use_true_random=False))
def test_the_order_of_the_matrices_decides_nothing(
    reading: Reading, recommended: Recommended | None, random: Any
) -> None:
    """Neither of the findings nor of a number or a word in them."""
    shuffled = list(reading.matrices)
    random.shuffle(shuffled)
    one = audit(Case(reading, "c.json", recommended))
    other = audit(Case(replace(reading, matrices=tuple(shuffled)), "c.json", recommended))
    assert [each.code for each in one.findings] == [each.code for each in other.findings]
    for mine, theirs in zip(one.findings, other.findings, strict=True):
        assert (mine.what, mine.why, mine.instead) == (theirs.what, theirs.why, theirs.instead)
    assert one.remarks == other.remarks


@given(reading=readings(WILD), recommended=GAMMA)
def test_every_configuration_has_a_document(
    reading: Reading, recommended: Recommended | None
) -> None:
    """Of finite numbers, however absurd those of the file; a matrix drawn at 0 has no γ."""
    document = audit(Case(reading, "c.json", recommended)).to_document()
    again = json.loads(json.dumps(document, allow_nan=False))
    assert again == document
    for matrix in document["matrices"]:
        assert (matrix["gamma"] is None) == (matrix["std"] == 0 or matrix["fan_in"] == 1)
        assert (matrix["ratio"] is None) == (recommended is None)
    for finding in document["findings"]:
        assert {"code", "what", "why", "instead", "certainty", "numbers"} == finding.keys()
        assert all(finding[key] for key in ("code", "what", "why", "instead", "certainty"))
    codes = [finding["code"] for finding in document["findings"]]
    assert len(set(codes)) == len(codes) <= len(CHECKS)


@settings(max_examples=40)
@given(
    family=st.sampled_from(("llama", "qwen3", "gemma2", "olmo2")),
    eighths=st.integers(1, 1024),
    ratio=st.floats(1, 5),
    gamma=st.floats(0.05, 2),
)
def test_an_exported_gamma_is_found_again(
    family: str, eighths: int, ratio: float, gamma: float
) -> None:
    """On every matrix that the export calls exact, and on no other."""
    text = json.dumps(
        {
            "model_type": family,
            "hidden_size": 8 * eighths,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 2 * eighths,
            "intermediate_size": int(8 * eighths * ratio),
            "vocab_size": 100,
        }
    )
    source = Source(JsonDocument(text, "config.json"))
    edited = export("hf", source, gamma)
    reading = read_back(FRAMEWORKS["hf"], source, edited.text)
    found = audit(Case(reading, "config.json", Recommended(gamma)))
    for rate, reported in zip(found.rates, edited.report.matrices, strict=True):
        assert (rate.matrix.name, rate.ratio) == (reported.name, reported.ratio)
        assert rate.gamma is not None
        within = 1e-3 / math.log(rate.matrix.fan_in)
        assert (abs(rate.gamma - gamma) <= 1.01 * within) == reported.exact
        if reported.exact:
            assert rate.gamma == pytest.approx(gamma, abs=1e-9) or rate.matrix.fan_in != 8 * eighths
    assert ("not-at-gamma" in [one.code for one in found.findings]) == (not edited.report.exact)
    assert "fixed-std" not in [one.code for one in found.findings]


def _audited(reading: Reading, gamma: float | None = None) -> Audit:
    return audit(Case(reading, "config.json", None if gamma is None else Recommended(gamma)))


def test_llama_3_8b_as_it_is_published(llama: Any) -> None:
    """Three things that follow from its numbers, and one that is only supposed."""
    found = _audited(llama())
    assert [(one.code, one.certainty) for one in found.findings] == [
        ("norm-eps", "derived"),
        ("one-std-several-gammas", "derived"),
        ("fixed-std", "derived"),
        ("attention-sinks", "hypothesis"),
    ]
    document = found.to_document()
    assert document["gamma"] == {"recommended": None, "source": None, "conditions": []}
    assert [one["width"] for one in document["drift"]] == [1024, 2048, 4096, 8192, 16384]
    assert document["saturation"]["output_rms"] == pytest.approx(math.sqrt(40 / 41))
    assert document["saturation"]["recommended_output_rms"] is None
    assert document["matrices"][0] == {
        "name": "model.embed_tokens.weight",
        "count": 1,
        "shape": [128256, 4096],
        "fan_in": 4096,
        "kind": "embedding",
        "std": 0.02,
        "gamma": pytest.approx(0.47032, abs=1e-5),
        "wanted": None,
        "ratio": None,
    }


def test_what_could_not_be_checked_is_a_remark(llama: Any, by_hand: Any) -> None:
    """After what the framework's own reading says."""
    post = llama(model_type="olmo2", tie_word_embeddings=True)
    (norms,) = [one for one in _audited(post).remarks if "no norm reads the embedding" in one]
    assert "rms_norm_eps 1e-05" in norms
    assert any("one matrix" in one for one in _audited(post).remarks)
    bare = by_hand(("wte", "embedding", 768, 0.0), norms=None, remarks=("as the file has it",))
    said = _audited(bare).remarks
    assert said[0] == "as the file has it"
    assert "drawn at 0, and so without a γ: wte" in said
    assert "the ε of its norms is not checked" in said


@pytest.mark.parametrize(
    ("recommended", "words"),
    [
        (None, "critical export --to hf --config 'a b.json' --gamma G --bundle FOLDER"),
        (Recommended(0.7), "--config 'a b.json' --gamma 0.7 --bundle"),
        (Recommended(0.71, "demo"), "critical export demo --to hf --config 'a b.json' --bundle"),
        (Recommended(0.7, "demo", "relaxed"), "'a b.json' --settings relaxed --bundle"),
    ],
)
def test_the_command_is_one_to_paste(
    llama: Any, recommended: Recommended | None, words: str
) -> None:
    """With the file quoted for a shell, and the study in place of γ where there is one."""
    assert words in Case(llama(), "a b.json", recommended).export_command()
    elsewhere = replace(llama(), edits="m/config.json")
    assert "--config m/config.json" in Case(elsewhere, "a b.json", recommended).export_command()


def test_every_finding_is_documented(by_hand: Any) -> None:
    """A configuration that has them all: each with its certainty, in the order of the checks."""
    everything = by_hand(
        ("wte.weight", "embedding", 768, 1.0),
        ("h.*.wq.weight", "attention", 768, 0.02),
        ("h.*.wo.weight", "attention", 768, 0.004),
        ("h.*.down.weight", "feed_forward", 3072, 0.004),
        ("head.weight", "head", 768, 2.0),
        std=Setting("std", 0.02, True),
        norms=Norms(Setting("eps", 1e-5, True), embedding_scale=12.0),
        attention=Attention(False, False),
        depth_scaling=DepthScaling("std / 5", None),
        optimizer=Optimizer(Setting("a", 1e-6, True), Setting("w", 0.1, True), True),
    )
    found = _audited(everything, 1.5).findings
    rows = [row for row in DOCUMENTED.read_text().splitlines() if row.startswith("| `")]
    documented = [
        (code, certainty)
        for row in rows
        for codes, _, _, certainty, _ in [row.strip("| ").split(" | ")]
        for code in codes.replace("`", "").split()
    ]
    assert [(one.code, one.certainty) for one in found] == documented
    assert len(documented) == len(CHECKS)
