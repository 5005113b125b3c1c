"""The ends of a model against its blocks."""

from __future__ import annotations

from typing import Any

import pytest

from critical.frameworks.reading import Norms, Setting

BLOCK = ("layers.*.wq.weight", "attention", 768, 0.02)


def test_an_embedding_of_std_one_is_gamma_zero(by_hand: Any, find: Any) -> None:
    """As torchtitan draws; the blocks' .02 is −ln .02 / ln 768 = .589, and γ .7 asks .009555."""
    reading = by_hand(("tok_embeddings.weight", "embedding", 768, 1.0), BLOCK)
    finding = find("embedding-apart", reading)
    assert finding.what == (
        "the embedding (tok_embeddings) is drawn with std 1, γ 0.000, and the blocks with γ 0.589"
    )
    assert finding.instead.startswith("draw it with std 768^−γ, which critical export")
    assert finding.numbers["gammas"] == [0.0]
    assert find("embedding-apart", reading, 0.7).instead.startswith("draw it with std 0.009555,")


def test_a_head_of_its_own_is_told(by_hand: Any, find: Any) -> None:
    """Drawn at 1/√768, which is γ .5; one within what the blocks have is not."""
    head = ("output.weight", "head", 768, 768**-0.5)
    finding = find("head-apart", by_hand(BLOCK, head))
    assert "(output) is drawn with std 0.03608, γ 0.500," in finding.what
    wide = ("layers.*.w2.weight", "feed_forward", 3072, 0.02)  # .487
    assert find("head-apart", by_hand(BLOCK, wide, head)) is None
    assert find("head-apart", by_hand(head)) is None


def test_a_factor_on_the_embedding_takes_from_its_gamma(
    llama: Any, by_hand: Any, find: Any
) -> None:
    """Gemma's √2048 takes half: .02 is .513 drawn and .013 as read."""
    gemma = llama(model_type="gemma", hidden_size=2048, intermediate_size=16384)
    finding = find("embedding-scaled", gemma, 0.7)
    assert finding.what == (
        "the model multiplies its embedding by 45.25, so its blocks read std 0.9051 (γ 0.013) "
        "where 0.02 (γ 0.513) is drawn"
    )
    assert finding.numbers["gamma_shift"] == pytest.approx(-0.5)
    assert finding.numbers["wanted"] == pytest.approx(2048**-1.2)
    assert find("embedding-scaled", llama()) is None
    near = Norms(Setting("eps", 1e-5, True), embedding_scale=1.05)  # ln 1.05 / ln 768 = .0073
    tokens = ("wte", "embedding", 768, 0.02)
    assert find("embedding-scaled", by_hand(tokens, norms=near)) is None
    zeros = Norms(Setting("eps", 1e-5, True), embedding_scale=12.0)
    none_drawn = find("embedding-scaled", by_hand(("wte", "embedding", 768, 0.0), norms=zeros))
    assert "read a γ that is 0.374 smaller" in none_drawn.what
