"""An architecture scaled to a width: its proportions, and the least that it comes to."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from critical.trials.architecture import Architecture, Kinds, ModelShape, even, nearest_divisor


def shape(architecture: Architecture, width: int = 64, heads: int = 4) -> ModelShape:
    """Return the architecture at a width."""
    return architecture.shape(width=width, depth=2, heads=heads, vocabulary=384, longest=64)


def test_the_default_is_a_llama_without_grouped_queries() -> None:
    """8/3 feed-forward, the heads divide the width, an ε of 1e-6, and an untied head."""
    found = shape(Architecture())
    assert (found.feed_forward, found.head_size, found.key_value_heads) == (168, 16, 4)
    assert (found.norm_eps, found.tied, found.kinds) == (1e-6, False, Kinds())
    assert (found.first_norm_eps, found.gated_attention) == (None, False)


def test_proportions_are_kept() -> None:
    """Heads of twice the width together, a quarter of them for keys and values."""
    found = shape(Architecture(4.0, attention_ratio=2.0, kv_ratio=0.25, norm_eps=1e-5, tied=True))
    assert (found.feed_forward, found.head_size, found.key_value_heads) == (256, 32, 1)
    assert (found.norm_eps, found.tied) == (1e-5, True)


@given(
    width=st.integers(1, 64).map(lambda n: 8 * n),
    heads=st.integers(1, 16),
    attention=st.floats(0.1, 4).filter(lambda ratio: ratio != 1),
    kv_ratio=st.floats(0.01, 1),
    feed_forward=st.floats(0.05, 8),
)
def test_every_proportion_can_be_built(
    width: int, heads: int, attention: float, kv_ratio: float, feed_forward: float
) -> None:
    """Heads of an even dimension, key and value heads that divide the heads, 8 hidden at least."""
    found = shape(Architecture(feed_forward, attention, kv_ratio), width, heads)
    assert found.head_size % 2 == 0
    assert found.head_size >= 2
    assert abs(found.head_size - width * attention / heads) <= max(1, 2 - width * attention / heads)
    assert heads % found.key_value_heads == 0
    assert found.feed_forward % 8 == 0
    assert abs(found.feed_forward - width * feed_forward) <= max(4, 8 - width * feed_forward)


@given(st.floats(0.1, 1e4))
def test_the_nearest_even_number(number: float) -> None:
    """From 2 upwards, at most 1 away."""
    found = even(number)
    assert found % 2 == 0
    assert found >= 2
    assert abs(found - number) <= max(1, 2 - number)


@pytest.mark.parametrize(
    ("whole", "wanted", "expected"),
    [(8, 2.0, 2), (8, 3.0, 4), (6, 0.5, 1), (12, 5.0, 6), (7, 3.0, 7), (7, 2.0, 1)],
)
def test_the_nearest_divisor(whole: int, wanted: float, expected: int) -> None:
    """By ratio, so that 3 of 8 is 4 and not 2."""
    assert nearest_divisor(whole, wanted) == expected


def test_an_architecture_is_json() -> None:
    """It is compared and stored as what ``asdict`` gives."""
    given_ = Architecture(kinds=Kinds(qk_norm="head", logit_cap=30.0))
    read = json.loads(json.dumps(asdict(given_)))
    assert Architecture(**{**read, "kinds": Kinds(**read["kinds"])}) == given_


@pytest.mark.parametrize(("width", "heads"), [(16, 3), (12, 4)])
def test_heads_that_do_not_divide_the_width_are_refused(width: int, heads: int) -> None:
    """Rotary positions need an even head dimension; the message names both numbers."""
    with pytest.raises(ValueError, match=rf"{heads} heads do not divide the width {width}"):
        ModelShape(40, width, 1, heads, 24)


def test_an_odd_head_dimension_is_refused() -> None:
    """The message names it."""
    with pytest.raises(ValueError, match="head dimension 5 is odd"):
        ModelShape(40, 16, 1, 2, 24, head_dim=5)


def test_key_and_value_heads_divide_the_heads() -> None:
    """The message names both numbers."""
    with pytest.raises(ValueError, match="3 key and value heads do not divide 4 heads"):
        ModelShape(40, 16, 1, 4, 24, kv_heads=3, head_dim=4)
