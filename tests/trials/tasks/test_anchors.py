"""Anchor compositions: what is held out, and whether the answers are right."""

from __future__ import annotations

from itertools import product

import torch
from hypothesis import given
from hypothesis import strategies as st

from critical.trials.randomness import generator
from critical.trials.tasks.anchors import (
    FIRST_ITEM,
    FIRST_KEY,
    LAST_ITEM,
    LAST_KEY,
    LENGTH,
    MEMORY_ANCHORS,
    VOCABULARY,
    Pair,
    compositions,
    held_out_pairs,
    memories,
    memory_table,
    trained_pairs,
)

PLUS = {1: 5, 2: 1, 3: -2, 4: -8, 9: 13, 10: 15}
SEEDS = st.integers(0, 2**31 - 1)


def answer(sequence: list[int]) -> tuple[Pair, int]:
    """Read a sequence as a person does: find the two anchors, apply one after the other."""
    (place,) = [i for i in range(LENGTH - 1) if sequence[i] in PLUS and sequence[i + 1] in PLUS]
    first, second = sequence[place], sequence[place + 1]
    value = sequence[place - 1]
    value += PLUS[first]
    value += PLUS[second]
    return (first, second), value


@given(SEEDS)
def test_held_out_and_trained_pairs_are_all_thirty_six(seed: int) -> None:
    """Six are held out, thirty trained, none is both."""
    held_out, trained = set(held_out_pairs(seed)), set(trained_pairs(seed))
    assert (len(held_out), len(trained)) == (6, 30)
    assert held_out | trained == set(product(PLUS, PLUS))


@given(SEEDS)
def test_both_orders_are_held_out_together(seed: int) -> None:
    """The swapped pair has the same answer and would give it away."""
    held_out = held_out_pairs(seed)
    assert all((second, first) in held_out for first, second in held_out)


@given(SEEDS)
def test_no_held_out_sum_is_trained(seed: int) -> None:
    """Four distinct sums are held out, and no trained pair has one of them."""
    held_out = {PLUS[a] + PLUS[b] for a, b in held_out_pairs(seed)}
    trained = {PLUS[a] + PLUS[b] for a, b in trained_pairs(seed)}
    assert len(held_out) == 4
    assert not held_out & trained


@given(SEEDS)
def test_every_anchor_is_trained_in_both_places(seed: int) -> None:
    """So a held-out pair is a new composition of known functions."""
    trained = trained_pairs(seed)
    assert {first for first, _ in trained} == set(PLUS)
    assert {second for _, second in trained} == set(PLUS)


def test_seeds_rotate_what_is_held_out() -> None:
    """Forty-five seeds in a row hold out as many different sets."""
    assert len({frozenset(held_out_pairs(seed)) for seed in range(45)}) == 45


@given(SEEDS, st.booleans())
def test_answers_agree_with_a_slow_reading(seed: int, held_out: bool) -> None:
    """Every sequence holds one allowed pair and its key, and its answer is again an item."""
    pairs = held_out_pairs(seed) if held_out else trained_pairs(seed)
    items = compositions(pairs, 64, generator("test", seed))
    assert items.tokens.shape == (64, LENGTH)
    for sequence, found in zip(items.tokens.tolist(), items.answers.tolist(), strict=True):
        pair, expected = answer(sequence)
        assert pair in pairs
        assert found == expected
        assert FIRST_ITEM <= found <= LAST_ITEM
        noise = [token for token in sequence if token not in PLUS]
        assert len(noise) == LENGTH - 2
        assert all(FIRST_ITEM <= token <= LAST_ITEM for token in noise)


def test_compositions_reach_every_pair_key_and_place() -> None:
    """None is left out of what is drawn."""
    pairs = trained_pairs(0)
    items = compositions(pairs, 8000, generator("test"))
    found, places, keys = set(), set(), set()
    for sequence in items.tokens.tolist():
        pair, _ = answer(sequence)
        place = min(i for i in range(LENGTH) if sequence[i] in PLUS)
        found.add(pair)
        places.add(place)
        keys.add(sequence[place - 1])
    assert found == set(pairs)
    assert places == set(range(1, LENGTH - 1))
    assert keys == set(range(FIRST_KEY, LAST_KEY + 1))


@given(SEEDS)
def test_memories_are_read_from_the_table(seed: int) -> None:
    """One key and one memory anchor, whose answer is the same wherever they stand."""
    table = memory_table(seed)
    items = memories(table, 64, generator("test", seed))
    for sequence, found in zip(items.tokens.tolist(), items.answers.tolist(), strict=True):
        (place,) = [i for i, token in enumerate(sequence) if token in MEMORY_ANCHORS]
        key, anchor = sequence[place - 1], sequence[place]
        assert found == table[key - FIRST_KEY, MEMORY_ANCHORS.index(anchor)]
        assert FIRST_ITEM <= found <= LAST_ITEM


def test_each_seed_has_a_table_of_its_own() -> None:
    """And always the same one."""
    assert torch.equal(memory_table(1), memory_table(1))
    assert not torch.equal(memory_table(1), memory_table(2))


def test_task_tokens_stay_under_the_text() -> None:
    """Those of the text start at VOCABULARY."""
    assert max(LAST_ITEM, *MEMORY_ANCHORS, *PLUS) < VOCABULARY
    assert not set(MEMORY_ANCHORS) & set(PLUS)
