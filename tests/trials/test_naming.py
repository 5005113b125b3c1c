"""A part's short name says its block and its place there, and is its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from critical.trials.naming import short_names

PARTS = st.lists(st.sampled_from(["a", "b", "0", "1", "weight"]), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("blocks.2.attention.o_proj.weight", "2.attention.o_proj"),
        ("model.layers.11.self_attn.q_proj.weight", "11.self_attn.q_proj"),
        ("inner.transformer.h.0.attn.c_attn.weight", "0.attn.c_attn"),
        ("layers.1.mlp.experts.3.w1.weight", "1.mlp.experts.3.w1"),
        ("model.embed_tokens.weight", "embed_tokens"),
        ("0.attn.in_proj_weight", "0.attn.in_proj_weight"),
        ("embedding.weight", "embedding"),
        ("blocks.3", "3"),
        ("norm", "norm"),
    ],
)
def test_names_of_common_families(name: str, short: str) -> None:
    """Containers before the block's number and a final ``weight`` are left out."""
    assert short_names([name]) == {name: short}


def test_names_that_would_be_the_same_stay_whole() -> None:
    """An encoder's block 0 is told from the decoder's, and another part keeps its short name."""
    names = ["encoder.0.fc.weight", "decoder.0.fc.weight", "decoder.0.out.weight"]
    assert list(short_names(names).values()) == [*names[:2], "0.out"]


@given(st.lists(PARTS.map(".".join), max_size=8, unique=True))
def test_short_names_are_distinct(names: list[str]) -> None:
    """No two parts share a name, and none is without."""
    found = short_names(names)
    assert list(found) == names
    assert len(set(found.values())) == len(names)
    assert all(found.values())
