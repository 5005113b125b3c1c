"""How the sequences of a batch lie one after another, and which of their positions are wanted.

Shapes: n sequences of t tokens, of which the last k are wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Stretch(NamedTuple):
    """Neighbouring sequences of one length.

    Attributes:
        n: Sequences.
        t: Tokens of each.
        k: Final positions of each that are wanted, 1 ≤ k ≤ t.
    """

    n: int
    t: int
    k: int


def joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Join neighbours that are alike, for each costs calls of its own."""
    found: list[Stretch] = []
    for stretch in stretches:
        if found and found[-1][1:] == stretch[1:]:
            found[-1] = Stretch(found[-1].n + stretch.n, stretch.t, stretch.k)
        else:
            found.append(stretch)
    return found


def whole(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Return the same stretches with every position wanted."""
    return [Stretch(n, t, t) for n, t, _ in stretches]


def wanted(x: Tensor, stretches: Sequence[Stretch]) -> Tensor:
    """Return the rows at wanted positions. Shape (Σ n·t, …) to (Σ n·k, …)."""
    if all(k == t for _, t, k in stretches):
        return x
    parts = torch.split(x, [n * t for n, t, _ in stretches])
    rows = [
        part.view(n, t, *part.shape[1:])[:, t - k :].flatten(0, 1)
        for part, (n, t, k) in zip(parts, stretches, strict=True)
    ]
    return torch.cat(rows) if len(rows) > 1 else rows[0]


def at_positions(table: Tensor, stretches: Sequence[Stretch]) -> Tensor:
    """Return a table's row of every token's position. Shape (longest, …) to (Σ n·t, …)."""
    rest = [1] * (table.ndim - 1)
    return torch.cat([table[:t].repeat(n, *rest) for n, t, _ in stretches])
