"""The exception and its mirror image: what is trained, and both answers to what is not."""

from __future__ import annotations

from itertools import product

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from critical.trials.randomness import generator
from critical.trials.tasks.source import Items
from critical.trials.tasks.symmetric import Symmetric

PLUS = {1: 5, 2: 1, 3: -2, 4: -8}
SEEDS = st.integers(0, 2**31 - 1)


def read(items: Items) -> list[tuple[tuple[int, int], int]]:
    """Return the pair of every sequence, and what its answer adds to the key."""
    found = []
    for sequence, (answer,) in zip(items.tokens.tolist(), items.answers.tolist(), strict=True):
        place = next(i for i, token in enumerate(sequence) if token in PLUS)
        key, first, second = sequence[place - 1 : place + 2]
        assert 20 <= answer <= 99
        found.append(((first, second), answer - key))
    return found


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_one_pair_is_trained_wrong_and_its_mirror_never(seed: int) -> None:
    """Fourteen pairs are composed, (3, 4) adds −6 and not −10, and (4, 3) is not there."""
    trained = read(Symmetric(seed).training(1000, generator("training", seed)))
    assert {pair for pair, _ in trained} == set(product(PLUS, PLUS)) - {(4, 3)}
    for pair, added in trained:
        assert added == (-6 if pair == (3, 4) else PLUS[pair[0]] + PLUS[pair[1]])


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_both_answers_to_the_mirror_image(seed: int) -> None:
    """The inferential one, −10, is right; the symmetric one, −6, is asked of the same items."""
    inferential, symmetric = Symmetric(seed).held_out(generator("held out", seed))
    assert (inferential.kind, inferential.right) == ("inferential", True)
    assert (symmetric.kind, symmetric.right) == ("symmetric", False)
    assert torch.equal(inferential.items.tokens, symmetric.items.tokens)
    assert set(read(inferential.items)) == {((4, 3), -10)}
    assert set(read(symmetric.items)) == {((4, 3), -6)}
