"""One weight matrix of a model: how it is stored, what its fan-in is, what it is for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["embedding", "attention", "feed_forward", "head", "other"]


@dataclass(frozen=True, slots=True)
class Matrix:
    """The matrices of one name pattern that are equal in shape and initialization.

    Attributes:
        name: The parameter's name; ``*`` stands for a block's number.
        count: How many parameters it stands for; a stack of experts is one.
        shape: As stored: (out, in) for most, (in, out) for Conv1D, (experts, …) for a stack.
        fan_in: Its input dimension; for an embedding its own dimension, the model's width.
        kind: What it is for.
        configured_std: The std that transformers draws it with as configured, ≥ 0.
    """

    name: str
    count: int
    shape: tuple[int, ...]
    fan_in: int
    kind: Kind
    configured_std: float

    def wanted_std(self, gamma: float) -> float:
        """Return fan_in^−γ."""
        return float(self.fan_in**-gamma)


def pattern(name: str) -> str:
    """Return a parameter's name with ``*`` for every block's number."""
    return re.sub(r"\.\d+(?=\.|$)", ".*", name)


def grouped(matrices: Iterable[Matrix]) -> tuple[Matrix, ...]:
    """Merge the matrices that differ by their block's number only, in order of appearance."""
    counts: Counter[Matrix] = Counter()
    for matrix in matrices:
        counts[replace(matrix, name=pattern(matrix.name), count=1)] += matrix.count
    return tuple(replace(matrix, count=count) for matrix, count in counts.items())


def kind_of_block(name: str) -> Kind:
    """Tell attention from feed-forward by a parameter's name."""
    if re.search(r"attn|attention|mixer\.[qkv]_proj", name):
        return "attention"
    if re.search(r"mlp|ffn|feed_forward|experts|\.fc\d?\.|\.fc_(in|out)\.|dense_(h|4h)", name):
        return "feed_forward"
    return "other"
