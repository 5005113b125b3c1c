"""Whether a model is drawn with one γ, and with the recommended one; numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from critical.frameworks.reading import DepthScaling

SCALING = DepthScaling("std / √(2 · 12)", "scaling_method: NONE")


def test_one_std_is_another_gamma_at_every_fan_in(llama: Any, find: Any) -> None:
    """−ln .02 = 3.9120; over ln 4096 = 8.3178 that is .4703, over ln 14336 = 9.5705 it is .4088."""
    finding = find("one-std-several-gammas", llama())
    assert finding.what == (
        "std 0.02 is γ 0.470 at fan-in 4096 (194 matrices) and γ 0.409 at fan-in 14336 "
        "(32 matrices)"
    )
    assert finding.certainty == "derived"
    (std,) = finding.numbers["stds"]
    assert [one["gamma"] for one in std["fan_ins"]] == pytest.approx([0.47032, 0.40876], abs=1e-5)


def test_a_model_drawn_by_fan_in_has_one_gamma(by_hand: Any, find: Any) -> None:
    """However its fan-ins and stds differ; at another γ every matrix is named."""
    reading = by_hand(
        ("wte", "embedding", 768, 768**-0.7),
        ("h.*.attn.proj", "attention", 768, 768**-0.7),
        ("h.*.mlp.down", "feed_forward", 3072, 3072**-0.7),
    )
    for code in ("one-std-several-gammas", "embedding-apart", "not-at-gamma"):
        assert find(code, reading, 0.7) is None
    off = find("not-at-gamma", reading, 0.5)
    assert off.numbers["matrices"] == 3
    assert off.numbers["least_ratio"] == pytest.approx(3072**-0.2)
    assert off.numbers["greatest_ratio"] == pytest.approx(768**-0.2)


def test_equal_stds_within_a_thousandth_are_one(by_hand: Any, find: Any) -> None:
    """And fan-ins whose γ differ by under 0.01 are nothing to tell."""
    near = by_hand(("a", "attention", 768, 0.02), ("b", "feed_forward", 776, 0.02))
    assert find("one-std-several-gammas", near) is None
    two = by_hand(("a", "attention", 768, 0.02), ("b", "feed_forward", 3072, 0.0199))
    assert find("one-std-several-gammas", two) is None
    one = by_hand(("a", "attention", 768, 0.02), ("b", "feed_forward", 3072, 0.01999))
    assert find("one-std-several-gammas", one) is not None


def test_of_many_stds_those_of_the_most_matrices_are_told(by_hand: Any, find: Any) -> None:
    """The numbers have all of them."""
    matrices = [
        (f"layers.{block}.{name}.weight", "attention", fan_in, 0.02 / (block + 1))
        for block in range(5)
        for name, fan_in in (("wo", 768), ("w2", 3072))
    ]
    finding = find("one-std-several-gammas", by_hand(*matrices))
    assert finding.what.count("std ") == 2
    assert finding.what.endswith("; likewise for 3 more")
    assert len(finding.numbers["stds"]) == 5


def test_stds_that_are_equal_by_chance_are_not_one(by_hand: Any, find: Any) -> None:
    """Where each block has its own, 1/√(2 · 768 · 4) is block 3's wo and block 0's w2."""
    matrices = [
        (f"layers.{block}.{name}.weight", "attention", fan_in, (2 * fan_in * (block + 1)) ** -0.5)
        for block in range(5)
        for name, fan_in in (("wo", 768), ("w2", 3072))
    ]
    assert find("one-std-several-gammas", by_hand(*matrices)) is None


def test_the_std_of_a_recommended_gamma_is_held_against_every_matrix(llama: Any, find: Any) -> None:
    """4096^.7 · .02 = 6.756 times, 14336^.7 · .02 = 16.24 times; the command says what to do."""
    finding = find("not-at-gamma", llama(), 0.7)
    assert finding.what == (
        "226 of 226 matrices are drawn with 6.756 to 16.24 times the std of γ 0.7"
    )
    assert "critical export --to hf --config config.json --gamma 0.7" in finding.instead
    assert find("not-at-gamma", llama()) is None


def test_gpt2s_residual_projections_have_a_gamma_of_their_own(by_hand: Any, find: Any) -> None:
    """½ ln 24 = 1.5890: over ln 768 = 6.6438 that is .2392, over ln 3072 = 8.0301 it is .1979."""
    narrow = 0.02 / math.sqrt(24)
    matrices = (
        ("transformer.wte.weight", "embedding", 768, 0.02),
        ("transformer.h.*.attn.c_attn.weight", "attention", 768, 0.02),
        ("transformer.h.*.attn.c_proj.weight", "attention", 768, narrow),
        ("transformer.h.*.mlp.c_fc.weight", "feed_forward", 768, 0.02),
        ("transformer.h.*.mlp.c_proj.weight", "feed_forward", 3072, narrow),
    )
    assert find("depth-scaling", by_hand(*matrices)) is None
    finding = find("depth-scaling", by_hand(*matrices, depth_scaling=SCALING))
    assert finding.what == (
        "attn.c_proj and mlp.c_proj are drawn at std / √(2 · 12), so their γ is larger by 0.239 "
        "(fan-in 768) and 0.198 (fan-in 3072)"
    )
    assert finding.instead == "scaling_method: NONE"
    unremedied = by_hand(*matrices, depth_scaling=DepthScaling("std / √24", None))
    assert find("depth-scaling", unremedied).instead.startswith("no key turns it off: critical")


def test_projections_scaled_by_their_own_depth_are_told_together(by_hand: Any, find: Any) -> None:
    """As torchtitan draws: block l at std / √(2(l + 1)), so by ½ ln 2 to ½ ln 24 over ln fan-in."""
    matrices = [
        (f"layers.{block}.attention.wo.weight", "attention", 768, 0.02 / math.sqrt(2 * (block + 1)))
        for block in range(12)
    ]
    wq = ("layers.*.attention.wq.weight", "attention", 768, 0.02)
    finding = find("depth-scaling", by_hand(wq, *matrices, depth_scaling=SCALING))
    assert finding.what.startswith("attention.wo are drawn at")
    assert finding.what.endswith("larger by 0.052 to 0.239 (fan-in 768)")
    assert len(finding.numbers["matrices"]) == 12


def test_depth_scaling_of_a_std_that_goes_with_fan_in(by_hand: Any, find: Any) -> None:
    """As LLM Foundry draws, gain / √fan_in, residual projections by √(2 · 12) less."""
    gain = 0.6
    matrices = (
        ("blocks.*.attn.Wqkv.weight", "attention", 768, gain / math.sqrt(768)),
        ("blocks.*.attn.out_proj.weight", "attention", 768, gain / math.sqrt(768 * 24)),
        ("blocks.*.ffn.up_proj.weight", "feed_forward", 768, gain / math.sqrt(768)),
        ("blocks.*.ffn.down_proj.weight", "feed_forward", 3072, gain / math.sqrt(3072 * 24)),
    )
    finding = find("depth-scaling", by_hand(*matrices, depth_scaling=SCALING))
    assert "attn.out_proj and ffn.down_proj are drawn" in finding.what
    assert finding.what.endswith("0.239 (fan-in 768) and 0.198 (fan-in 3072)")


def test_depth_scaling_by_any_other_rule(by_hand: Any, find: Any) -> None:
    """As LitGPT draws, 1 / (12 √768) beside √(2 / (5 · 768)): a part of .1318, 2.0268 in ln."""
    wide, narrow = math.sqrt(0.4 / 768), 1 / (12 * math.sqrt(768))
    matrices = (
        ("h.*.attn.qkv.weight", "attention", 768, wide),
        ("h.*.attn.proj.weight", "attention", 768, narrow),
        ("h.*.mlp.proj.weight", "feed_forward", 3072, narrow),
    )
    scaling = DepthScaling("1 / (12 · √width)", None)
    finding = find("depth-scaling", by_hand(*matrices, depth_scaling=scaling))
    assert finding.what == (
        "attn.proj and mlp.proj are drawn at 1 / (12 · √width), so their γ is larger by 0.305 "
        "(fan-in 768) and 0.252 (fan-in 3072)"
    )


def test_where_nothing_fits_the_rule_no_matrix_is_named(by_hand: Any, find: Any) -> None:
    """The formula is told all the same."""
    odd = [(f"{n}.weight", "attention", 768, std) for n, std in enumerate((0.02, 0.0137, 0.011))]
    finding = find("depth-scaling", by_hand(*odd, depth_scaling=SCALING))
    assert finding.what == (
        "residual projections are drawn at std / √(2 · 12), so their γ is larger than that "
        "of the others"
    )
    assert finding.numbers["matrices"] == []
