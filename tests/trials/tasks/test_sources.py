"""What every task keeps to, whatever it asks."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from critical.trials.randomness import generator
from critical.trials.tasks.registry import REASONING, SOURCES, TASKS, first_ids, longest
from critical.trials.tasks.source import Items, Task

SEEDS = st.integers(0, 2**31 - 1)
EVERY = pytest.mark.parametrize("task", TASKS, ids=[task.name for task in TASKS])


def drawn(source: Task, count: int, key: int) -> list[Items]:
    """Training items, validation items and held-out ones, kind by kind."""
    held_out = source.held_out(generator("held out", key))
    return [
        source.training(count, generator("training", key)),
        source.validation(count, generator("validation", key)),
        *(part.items for part in held_out),
    ]


@EVERY
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, count=st.integers(1, 40))
def test_items_have_their_shape_and_their_ids(task: type[Task], seed: int, count: int) -> None:
    """As many sequences as asked, of the stated length, with ids of the alphabet alone.

    Held-out ones may be longer, as long as a model takes them.
    """
    source = task(seed)
    found = drawn(source, count, seed)
    assert len(found[0].tokens) == len(found[1].tokens) == count
    assert {items.tokens.shape[1] for items in found[:2]} == {source.length}
    for items in found:
        assert len(items.tokens) == len(items.answers)
        assert items.answers.shape[1] <= items.tokens.shape[1] <= longest([task.name])
        for ids in (items.tokens, items.answers):
            assert ids.dtype == torch.int64
            assert 0 <= int(ids.min()) <= int(ids.max()) < source.alphabet.size


@EVERY
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_a_draw_depends_on_seed_and_generator_alone(task: type[Task], seed: int) -> None:
    """Another object of the same seed, called in another order, draws the same."""
    first, other = task(seed), task(seed)
    other.training(7, generator("elsewhere"))
    torch.manual_seed(seed % 1000)
    for one, same in zip(drawn(first, 20, 1), drawn(other, 20, 1), strict=True):
        assert torch.equal(one.tokens, same.tokens)
        assert torch.equal(one.answers, same.answers)
    again = first.training(20, generator("another step"))
    assert not torch.equal(again.tokens, first.training(20, generator("training", 1)).tokens)


@EVERY
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_no_held_out_sequence_is_trained(task: type[Task], seed: int) -> None:
    """Not even one in thousands of draws, and the tasks that reason hold some out."""
    source = task(seed)
    held_out = source.held_out(generator("held out", seed))
    assert bool(held_out) is task.reasons
    assert len({len(part.items.tokens) for part in held_out}) <= 1
    trained = source.training(3000, generator("training", seed))
    questions = question(trained)
    for part in held_out:
        assert not questions & question(part.items)


def question(items: Items) -> set[tuple[int, ...]]:
    """Sequences without the part of the answer that they hold."""
    shown = items.tokens.shape[1] - items.answers.shape[1] + 1
    return {tuple(row[:shown]) for row in items.tokens.tolist()}


@EVERY
def test_a_name_can_be_written_in_a_mixture(task: type[Task]) -> None:
    """And stands for one task only."""
    assert re.fullmatch("[a-z]+", task.name)
    assert SOURCES.count(task.name) == 1
    assert (task.name in REASONING) is task.reasons


def test_alphabets_lie_one_after_another() -> None:
    """Anchors and bytes are always there; no two alphabets share an id, the same one does."""
    assert first_ids(["reasoning"], None) == ({"anchors": 0, "text": 128}, 384)
    assert first_ids(["reasoning", "memory", "text"], None) == first_ids([], None)
    first, size = first_ids(SOURCES, None)
    sizes = {task.alphabet.name: task.alphabet.size for task in TASKS} | {"text": 256}
    ranges = [range(start, start + sizes[name]) for name, start in first.items()]
    assert sorted(i for ids in ranges for i in ids) == list(range(size))


def test_the_longest_sequence_fits() -> None:
    """A window of text does in any mixture, and a longer task would."""
    assert longest([]) == longest(SOURCES) == 64
    assert all(task.length <= longest([task.name]) for task in TASKS)
