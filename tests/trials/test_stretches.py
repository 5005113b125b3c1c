"""Rows of a batch by sequence and position, for any lengths."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from critical.trials.stretches import Stretch, at_positions, joined, wanted, whole


@st.composite
def batches(draw: st.DrawFn) -> list[Stretch]:
    """Some stretches of short sequences."""
    lengths = draw(
        st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=5)
    )
    return [Stretch(n, t, draw(st.integers(1, t))) for n, t in lengths]


def rows(stretches: list[Stretch]) -> list[tuple[int, int]]:
    """Sequence and position of every row of a batch."""
    sequences = [stretch for stretch in stretches for _ in range(stretch.n)]
    return [(number, at) for number, each in enumerate(sequences) for at in range(each.t)]


@given(batches())
def test_wanted_rows_are_the_ends_of_their_sequences(stretches: list[Stretch]) -> None:
    """Row by row, in the order of the batch."""
    sequences = [stretch for stretch in stretches for _ in range(stretch.n)]
    kept = [
        number
        for number, (sequence, at) in enumerate(rows(stretches))
        if at >= sequences[sequence].t - sequences[sequence].k
    ]
    x = torch.arange(len(rows(stretches)))[:, None] * torch.ones(1, 2)
    assert torch.equal(wanted(x, stretches), x[kept])
    assert wanted(x, whole(stretches)) is x


@given(batches())
def test_joining_changes_neither_rows_nor_what_is_wanted(stretches: list[Stretch]) -> None:
    """And no two neighbours are left that could be joined."""
    found = joined(stretches)
    assert rows(found) == rows(stretches)
    x = torch.arange(len(rows(stretches)))
    assert torch.equal(wanted(x, found), wanted(x, stretches))
    assert all((one.t, one.k) != (two.t, two.k) for one, two in pairwise(found))


@pytest.mark.parametrize("shape", [(4,), (4, 2, 3)])
@given(stretches=batches())
def test_every_token_gets_its_positions_row(
    shape: tuple[int, ...], stretches: list[Stretch]
) -> None:
    """Whatever a row of the table is."""
    table = torch.arange(torch.Size(shape).numel()).view(shape)
    positions = [at for _, at in rows(stretches)]
    assert torch.equal(at_positions(table, stretches), table[positions])
