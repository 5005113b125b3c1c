"""The key split: every pair is trained, but with some keys never."""

from __future__ import annotations

from itertools import combinations_with_replacement, product

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from critical.trials.randomness import generator
from critical.trials.tasks.anchors import FIRST_KEY, LAST_KEY
from critical.trials.tasks.keys import PERIOD, Keys
from critical.trials.tasks.source import Items

PLUS = {1: 5, 2: 1, 3: -2, 4: -8, 9: 13, 10: 15}
SEEDS = st.integers(0, 2**31 - 1)
Question = tuple[int, int, int]


def read(items: Items) -> set[Question]:
    """Read (key, anchor, anchor) of every sequence, and check its answer step by step."""
    found = set()
    for sequence, (answer,) in zip(items.tokens.tolist(), items.answers.tolist(), strict=True):
        place = next(i for i, token in enumerate(sequence) if token in PLUS)
        key, first, second = sequence[place - 1 : place + 2]
        value = key + PLUS[first]
        assert answer == value + PLUS[second]
        assert 20 <= answer <= 99
        found.add((key, first, second))
    return found


def sums(questions: set[Question]) -> set[tuple[int, int]]:
    """Return the key and the sum of the shifts of every question."""
    return {(key, PLUS[first] + PLUS[second]) for key, first, second in questions}


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_held_out_keys_are_never_trained_with_their_pair(seed: int) -> None:
    """Those of a pair, in either order, are of one residue class, which the seed moves by one."""
    source = Keys(seed)
    trained = read(source.training(2000, generator("training", seed)))
    (held_out,) = source.held_out(generator("held out", seed))
    asked = read(held_out.items)
    assert not trained & asked
    for number, pair in enumerate(combinations_with_replacement(PLUS, 2)):
        residues = {key % PERIOD for key, *rest in asked if tuple(sorted(rest)) == pair}
        assert residues <= {(number + seed) % PERIOD}


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_no_trained_item_gives_a_held_out_answer_away(seed: int) -> None:
    """No pair that adds up to the same is trained with the key, the swapped one least of all."""
    source = Keys(seed)
    trained = read(source.training(20_000, generator("training", seed)))
    (held_out,) = source.held_out(generator("held out", seed))
    asked = read(held_out.items)
    assert not trained & {(key, second, first) for key, first, second in asked}
    assert not sums(trained) & sums(asked)


def test_all_pairs_and_keys_are_trained() -> None:
    """A model has met every pair and every key, and each key with most of the pairs."""
    trained = read(Keys(3).training(60_000, generator("test")))
    assert {(first, second) for _, first, second in trained} == set(product(PLUS, PLUS))
    for key in range(FIRST_KEY, LAST_KEY + 1):
        pairs = [question for question in trained if question[0] == key]
        assert 0.8 * 36 < len(pairs) < 36


def test_seeds_rotate_what_is_held_out() -> None:
    """Eight seeds in a row hold out, together, every key of every pair once."""
    found: list[Question] = []
    for seed in range(PERIOD):
        items = [part.items for n in range(40) for part in Keys(seed).held_out(generator("t", n))]
        tokens = torch.cat([each.tokens for each in items])
        found += read(Items(tokens, torch.cat([each.answers for each in items])))
    assert len(found) == len(set(found)) == 36 * (LAST_KEY - FIRST_KEY + 1)
