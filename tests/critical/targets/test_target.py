"""A target is read from any usual config.json, and anything else is answered by a sentence."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from critical.errors import OptionError, TargetError
from critical.targets.config_file import LARGEST_BYTES
from critical.targets.families import FAMILIES
from critical.targets.target import Target, parse_target, proxy_shape, read_target

EXAMPLE = Path(__file__).parents[3] / "examples" / "llama-small.json"
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 512,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 1376,
    "vocab_size": 32000,
    "rms_norm_eps": 1e-5,
    "initializer_range": 0.02,
}


def target_of(**changes: object) -> Target:
    """Parse the Llama configuration with keys changed, or left out where the change is ``...``."""
    document = {key: value for key, value in {**LLAMA, **changes}.items() if value is not ...}
    return parse_target(json.dumps(document), "config.json")


def test_the_example_is_read_as_it_is_written() -> None:
    """Every field of the example's target, and γ_eq of 0.02 at its width."""
    target = read_target(EXAMPLE)
    assert (target.name, target.model_type, target.section) == ("llama-small.json", "llama", None)
    assert (target.width, target.depth, target.heads, target.kv_heads) == (512, 8, 8, 4)
    assert (target.head_dim, target.feed_forward, target.vocabulary) == (64, 1376, 32000)
    assert (target.norm_eps, target.tied, target.initializer_range) == (1e-5, False, 0.02)
    assert target.reference_gamma == pytest.approx(0.627, abs=5e-4)


def test_the_example_is_what_transformers_loads() -> None:
    """The example builds, and transformers takes from it what we do."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(EXAMPLE)
    target = read_target(EXAMPLE)
    assert config.model_type == target.model_type
    assert config.head_dim == target.head_dim
    assert config.tie_word_embeddings is target.tied


def test_gpt2_names_its_keys_otherwise() -> None:
    """n_embd, n_layer, n_head and a null n_inner are read; embeddings are tied by default."""
    text = json.dumps(
        {
            "model_type": "gpt2",
            "n_embd": 768,
            "n_layer": 12,
            "n_head": 12,
            "n_inner": None,
            "vocab_size": 50257,
            "layer_norm_epsilon": 1e-5,
            "initializer_range": 0.02,
        }
    )
    target = parse_target(text, "config.json")
    assert (target.width, target.depth, target.heads, target.feed_forward) == (768, 12, 12, 3072)
    assert target.tied
    assert target.reference_gamma == pytest.approx(0.589, abs=5e-4)


def test_opt_holds_its_std_under_another_key() -> None:
    """OPT's init_std is read; initializer_range wins where both are given, as in transformers."""
    opt = {"model_type": "opt", "intermediate_size": ..., "ffn_dim": 2048, "init_std": 0.006}
    target = target_of(**opt, initializer_range=...)
    assert (target.initializer_key, target.initializer_range) == ("init_std", 0.006)
    both = target_of(**opt)
    assert (both.initializer_key, both.initializer_range) == ("initializer_range", 0.02)


def test_an_unknown_family_with_the_usual_keys_is_accepted() -> None:
    """A family that nobody listed is read by its keys."""
    assert target_of(model_type="my-llama_2.1").width == 512


def test_a_zero_initializer_is_what_transformers_makes_of_it() -> None:
    """initializer_range 0.0 becomes 0.02 in transformers."""
    assert target_of(initializer_range=0.0).initializer_range == 0.02


@pytest.mark.parametrize(("family", "std"), [("llama", 0.02), ("starcoder2", 0.018042)])
def test_a_missing_initializer_is_the_familys_default(family: str, std: float) -> None:
    """Where the key is left out, the family's own default holds."""
    target = target_of(model_type=family, initializer_range=...)
    assert target.initializer_range == std


def test_a_nested_language_model_is_read_and_said() -> None:
    """The text_config of a multimodal file is the target, with tying from either level."""
    inner = {**LLAMA, "hidden_size": 256}
    text = json.dumps({"model_type": "llava", "text_config": inner, "tie_word_embeddings": True})
    target = parse_target(text, "config.json")
    assert (target.section, target.model_type, target.width) == ("text_config", "llama", 256)
    assert target.tied
    assert target.outer == json.loads(text)
    restored = Target.from_document(json.loads(json.dumps(target.to_document())))
    assert (restored, restored.outer) == (target, None)


GEMMA3_4B: dict[str, Any] = {
    "hidden_size": 2560,
    "intermediate_size": 10240,
    "model_type": "gemma3_text",
    "num_hidden_layers": 34,
    "sliding_window": 1024,
}
LLAVA_7B: dict[str, Any] = {
    "max_position_embeddings": 4096,
    "model_type": "llama",
    "rms_norm_eps": 1e-5,
    "vocab_size": 32064,
}


def test_what_save_pretrained_leaves_out_of_a_nested_model_is_its_classs() -> None:
    """As the files of Gemma 3 4B and LLaVA 1.5 have it; the file's own keys stay as they are."""
    gemma = parse_target(json.dumps({"text_config": GEMMA3_4B}), "config.json")
    assert (gemma.heads, gemma.kv_heads, gemma.head_dim, gemma.depth) == (8, 4, 256, 34)
    assert (gemma.vocabulary, gemma.feed_forward, gemma.norm_eps) == (262_208, 10_240, 1e-6)
    assert gemma.config == GEMMA3_4B
    llava = parse_target(json.dumps({"text_config": LLAVA_7B}), "config.json")
    assert (llava.width, llava.depth, llava.heads, llava.feed_forward) == (4096, 32, 32, 11_008)
    assert (llava.vocabulary, llava.norm_eps) == (32_064, 1e-5)


def test_without_transformers_a_nested_model_says_how_to_get_its_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody else knows them; a family that transformers does not know has none to take."""
    with pytest.raises(TargetError, match=r"hidden_size is missing: write it, for transformers"):
        parse_target(json.dumps({"text_config": {"model_type": "none-such"}}), "config.json")
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setitem(sys.modules, "transformers.models.auto.configuration_auto", None)
    sentence = r'text_config: hidden_size is missing: write it, or pip install "critical\[hf\]"'
    with pytest.raises(TargetError, match=sentence):
        parse_target(json.dumps({"text_config": LLAVA_7B}), "config.json")


@pytest.mark.parametrize("family", ["mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm"])
def test_a_model_without_attention_is_not_asked_for_heads(family: str) -> None:
    """It has none to write."""
    with pytest.raises(TargetError, match=rf"{family} has no attention, and .* not supported"):
        target_of(model_type=family, num_attention_heads=...)


def test_a_model_of_experts_only_is_read_by_one_expert() -> None:
    """With no dense feed-forward, an expert's inner dimension stands for it."""
    target = target_of(intermediate_size=..., moe_intermediate_size=640)
    assert target.feed_forward == 640


def test_latent_attention_is_read_by_the_dimension_of_its_values() -> None:
    """Heads that do not divide the width are fine where v_head_dim is given."""
    assert target_of(num_attention_heads=12, v_head_dim=64).head_dim == 64


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_family_defaults_are_those_of_transformers(family: str) -> None:
    """What is taken for a missing key is what transformers takes for it."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    # A size no default has, so that values which follow the number of heads show themselves.
    shape = {"hidden_size": 960, "num_attention_heads": 60, "vocab_size": 60_000}
    theirs = CONFIG_MAPPING[family](**shape)
    ours = FAMILIES[family]
    assert theirs.tie_word_embeddings is ours.tied
    assert getattr(theirs, ours.initializer_key) == ours.initializer
    assert hasattr(theirs, "initializer_range") or ours.initializer_key != "initializer_range"
    eps = ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "norm_epsilon")
    assert next((getattr(theirs, k) for k in eps if hasattr(theirs, k)), 1e-5) == ours.norm_eps
    assert getattr(theirs, "num_key_value_heads", None) in (ours.kv_heads or 60, None)
    head_dim = getattr(theirs, "v_head_dim", getattr(theirs, "head_dim", None))
    assert head_dim in (ours.head_dim or 16, None)
    feed_forward = next(
        (getattr(theirs, k) for k in ("n_inner", "ffn_hidden_size") if hasattr(theirs, k)), None
    )
    has_own = hasattr(theirs, "intermediate_size") and theirs.intermediate_size is not None
    has_own |= hasattr(theirs, "ffn_dim")
    assert ours.wide_feed_forward is (not has_own)
    assert not ours.wide_feed_forward or feed_forward in (None, 4 * 960)


def test_a_document_restores_the_target() -> None:
    """Through JSON text and back nothing is lost, the model's own keys included."""
    target = read_target(EXAMPLE)
    restored = Target.from_document(json.loads(json.dumps(target.to_document())))
    assert restored == target
    assert restored.config == target.config


def test_a_document_of_another_version_is_refused() -> None:
    """A stored target with a missing field says to start anew."""
    document = read_target(EXAMPLE).to_document()
    del document["width"]
    with pytest.raises(TargetError, match=r"'width'.*start a new study"):
        Target.from_document(document)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hidden_size": ...}, r"config\.json: hidden_size is missing: write it"),
        ({"hidden_size": None}, r"hidden_size is null: write it"),
        ({"hidden_size": "512"}, r"hidden_size is the string '512': write a whole number"),
        ({"hidden_size": -512}, r"hidden_size is -512: write a whole number from 2"),
        ({"hidden_size": True}, r"hidden_size is a boolean: write a whole number"),
        ({"hidden_size": 512.0}, r"hidden_size is 512\.0: write a whole number"),
        ({"hidden_size": 1}, r"hidden_size is 1: write a whole number from 2"),
        ({"hidden_size": [512]}, r"hidden_size is a list: write"),
        ({"n_embd": 768}, r"hidden_size 512 and n_embd 768 contradict"),
        ({"num_hidden_layers": 10**9}, r"num_hidden_layers is 1000000000.*to 10000"),
        ({"num_attention_heads": 7, "num_key_value_heads": 7}, r"7 attention heads do not divide"),
        ({"num_key_value_heads": 3}, r"num_key_value_heads 3 does not divide the 8"),
        ({"intermediate_size": ...}, r"intermediate_size is missing"),
        ({"vocab_size": 0}, r"vocab_size is 0"),
        ({"rms_norm_eps": "1e-5"}, r"rms_norm_eps is the string '1e-5': write a number"),
        ({"rms_norm_eps": 0}, r"rms_norm_eps is 0\.0: write a number above 0"),
        ({"initializer_range": -0.02}, r"initializer_range is -0\.02: write a positive"),
        ({"initializer_range": True}, r"initializer_range is a boolean"),
        ({"initializer_range": 10**400}, r"initializer_range is too large"),
        ({"tie_word_embeddings": "no"}, r"tie_word_embeddings is the string 'no': write true"),
        ({"model_type": ...}, r"model_type is missing"),
        ({"model_type": "../x"}, r"model_type is the string '\.\./x': write a family's name"),
        ({"is_encoder_decoder": True}, r"llama is an encoder-decoder"),
        ({"initializer_range": ..., "initializer_factor": 1.0}, r"initializer_factor, which is no"),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_file(
    changes: dict[str, object], sentence: str
) -> None:
    """The message names the file and the key, and says what to write."""
    with pytest.raises(TargetError, match=r"^config\.json: ") as caught:
        target_of(**changes)
    assert caught.match(sentence)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"is not JSON at line 1, column 1"),
        ("hidden_size: 512\n", r"is not JSON at line 1"),
        ("[1, 2]", r"holds a list: write a JSON object"),
        ("null", r"holds null: write"),
        ("3", r"holds a number: write"),
        ('{"a": NaN}', r"holds NaN, which is not JSON"),
        ('{"a": -Infinity}', r"holds -Infinity"),
        ('{"a": 1e999}', r"holds the number 1e999, which overflows"),
        ('{"a": 1, "a": 2}', r"gives the key 'a' twice"),
        ('{"b": {"a": 1, "a": 1}}', r"gives the key 'a' twice"),
        ('{"a": ' + "9" * 5000 + "}", r"a number is too long"),
        ("[" * 100_000, r"nested too deeply"),
        ("\ufeff{}", r"is not JSON at line 1, column 1"),
    ],
)
def test_text_that_is_no_json_object_is_refused(text: str, sentence: str) -> None:
    """What Python's parser would take or choke on is one sentence."""
    with pytest.raises(TargetError, match=r"^config\.json ") as caught:
        parse_target(text, "config.json")
    assert caught.match(sentence)


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    """Missing, a folder, a pipe, too long a name: each says what it is."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, sentence in [
        (tmp_path / "none.json", r"none\.json does not exist: write the path"),
        (tmp_path, r"is a folder: write the file in it, as .*config\.json"),
        (pipe, r"is not a regular file"),
        (tmp_path / ("x" * 300), r"cannot be read: File name too long"),
    ]:
        with pytest.raises(TargetError, match=sentence):
            read_target(path)


def test_a_file_of_weights_is_refused(tmp_path: Path) -> None:
    """Bytes that are not text, and a file over the limit, are not parsed."""
    binary = tmp_path / "model.bin"
    binary.write_bytes(b"\x80\x02}q\x00")
    with pytest.raises(TargetError, match=r"is not UTF-8 text \(byte 0\)"):
        read_target(binary)
    huge = tmp_path / "huge.json"
    with huge.open("wb") as file:
        file.truncate(LARGEST_BYTES + 1)
    with pytest.raises(TargetError, match=r"over 10 MiB"):
        read_target(huge)


@given(
    width=st.integers(1, 64).map(lambda n: 8 * n),
    heads=st.sampled_from([1, 7, 8, 12, 32, 128]),
    depth=st.integers(1, 126),
)
def test_a_proxy_keeps_to_its_bounds(width: int, heads: int, depth: int) -> None:
    """Heads of even dimension from 8, depth in [2, 4], and the target's feed-forward ratio."""
    target = target_of(
        hidden_size=heads * 64,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        num_hidden_layers=depth,
        intermediate_size=heads * 172,
    )
    proxy_depth, proxy_heads, feed_forward = proxy_shape(target, width)
    assert 2 <= proxy_depth <= 4
    assert width % proxy_heads == 0
    assert width // proxy_heads >= 8
    assert width // proxy_heads % 2 == 0
    assert feed_forward % 8 == 0
    assert abs(feed_forward - width * 172 / 64) <= 4


def test_a_proxy_of_llama_8b_looks_like_the_pilots() -> None:
    """At width 64 four heads of 16; wider, more and larger heads."""
    llama = target_of(
        hidden_size=4096,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        intermediate_size=14336,
    )
    assert [proxy_shape(llama, width) for width in (32, 64, 256, 512)] == [
        (2, 4, 112),
        (2, 4, 224),
        (2, 8, 896),
        (4, 16, 1792),
    ]


@pytest.mark.parametrize("width", [0, -8, 60])
def test_a_proxy_of_an_odd_width_is_refused(width: int) -> None:
    """The message quotes the width and shows a valid one."""
    with pytest.raises(OptionError, match=rf"width {width} is not a multiple of 8.*64"):
        proxy_shape(target_of(), width)


@given(width=st.integers(2, 10**6), gamma=st.floats(0.1, 2.0))
def test_the_reference_is_the_exponent_of_the_std(width: int, gamma: float) -> None:
    """width^−γ reads back as γ at every width."""
    std = width**-gamma
    target = target_of(hidden_size=width, head_dim=64, initializer_range=std)
    assert math.isclose(target.reference_gamma, gamma, abs_tol=1e-9)
