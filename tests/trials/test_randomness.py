"""Every part of a key decides the draws."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from critical.trials.randomness import generator

KEYS = st.tuples(st.sampled_from(["batch", "weight"]), st.integers(-(2**70), 2**70), st.integers())


def draws(*key: int | str) -> list[int]:
    """The first numbers of a generator."""
    return torch.randint(2**31, (4,), generator=generator(*key)).tolist()


@given(KEYS, KEYS)
def test_two_keys_agree_only_where_they_are_the_same(
    one: tuple[str, int, int], other: tuple[str, int, int]
) -> None:
    """The purpose, the seed and the step each count, whatever their size."""
    assert (draws(*one) == draws(*other)) == (one == other)


def test_seeds_count_beside_a_step() -> None:
    """Torch drops a seed's high bits, so (seed << 32) + step was the same for every seed."""
    assert len({tuple(draws("batch", seed, 7)) for seed in range(100)}) == 100
