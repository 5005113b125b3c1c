"""The decoder: causal, position-relative, and the same for a group alone and among others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from critical.trials.initialization import initialize
from critical.trials.model import Decoder, ModelShape, rotary_table, rotate


@pytest.fixture
def model() -> Decoder:
    """A decoder whose outputs are far from uniform."""
    made = Decoder(ModelShape(vocabulary=40, width=16, depth=2, heads=2, feed_forward=24))
    initialize(made, 0.3)
    return made


def tokens(n: int, t: int, seed: int = 0) -> Tensor:
    """Random sequences. Shape (n, t)."""
    return torch.randint(40, (n, t), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_logits_have_the_shape_that_was_asked_for(model: Decoder) -> None:
    """(n, k, vocabulary) for each group, k its own number of last positions."""
    found = model([tokens(3, 7), tokens(2, 5)], [1, 5])
    assert [part.shape for part in found] == [(3, 1, 40), (2, 5, 40)]


@torch.no_grad()
@pytest.mark.parametrize("changed", range(1, 8))
def test_a_later_token_never_changes_earlier_logits(model: Decoder, changed: int) -> None:
    """And it does change those from its own position on."""
    before = tokens(2, 8)
    after = before.clone()
    after[:, changed] = (after[:, changed] + 1) % 40
    (one,), (other,) = model([before], [8]), model([after], [8])
    torch.testing.assert_close(one[:, :changed], other[:, :changed])
    assert (one[:, changed:] - other[:, changed:]).abs().amax(-1).min() > 1e-4


@torch.no_grad()
def test_groups_are_independent(model: Decoder) -> None:
    """Logits are the same for a group alone, among others, and for one sequence of it."""
    groups = [tokens(3, 9, 1), tokens(1, 16, 2), tokens(2, 9, 3)]
    together = model(groups, [1, 16, 9])
    for group, last, found in zip(groups, [1, 16, 9], together, strict=True):
        torch.testing.assert_close(model([group], [last])[0], found, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model([group[:1]], [last])[0], found[:1], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_last_positions_are_the_end_of_all(model: Decoder) -> None:
    """Asking for fewer positions gives the same numbers."""
    group = tokens(2, 6)
    torch.testing.assert_close(model([group], [2])[0], model([group], [6])[0][:, -2:])


def test_rotary_products_depend_on_the_distance_alone() -> None:
    """A query at p and a key at p + 3 meet with the same product, wherever p is."""
    table = rotary_table(8, 64)
    q, k = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    pair = torch.stack((q, k))[None, None, :, None].expand(1, 64, 2, 1, 8)
    turned = rotate(pair, table)[0, :, :, 0]
    products = (turned[:-3, 0] * turned[3:, 1]).sum(-1)
    torch.testing.assert_close(products, products[:1].expand_as(products), rtol=1e-4, atol=1e-4)
    assert abs(products[0] - (q * k).sum()) > 1e-2


def test_rotation_keeps_lengths_and_the_first_position() -> None:
    """Position 0 is not turned, and no position is stretched."""
    x = torch.randn(2, 5, 2, 3, 8, generator=torch.Generator().manual_seed(0))
    turned = rotate(x, rotary_table(8, 5))
    torch.testing.assert_close(turned[:, 0], x[:, 0])
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


@torch.no_grad()
def test_attention_without_positions_is_not_what_this_is(model: Decoder) -> None:
    """Swapping two earlier tokens changes the last logits, so order is seen."""
    group = tokens(1, 6)
    (one,), (other,) = model([group], [1]), model([group[:, [1, 0, 2, 3, 4, 5]]], [1])
    assert (one - other).abs().max() > 1e-3


@pytest.mark.parametrize("tied", [False, True])
def test_a_tied_head_is_the_embedding(tied: bool) -> None:
    """One parameter where tied, two where not."""
    model = Decoder(ModelShape(40, 16, 1, 2, 24, tied=tied))
    assert (model.head.weight is model.embedding.weight) == tied
    names = [name for name, _ in model.named_parameters()]
    assert ("head.weight" in names) != tied


@pytest.mark.parametrize(("width", "heads"), [(16, 3), (12, 4)])
def test_heads_that_do_not_divide_the_width_are_refused(width: int, heads: int) -> None:
    """Rotary positions need an even head dimension; the message names both numbers."""
    with pytest.raises(ValueError, match=rf"{heads} heads do not divide the width {width}"):
        ModelShape(40, width, 1, heads, 24)
