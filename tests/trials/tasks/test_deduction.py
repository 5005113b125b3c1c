"""Deduction: whether the proofs follow from the rules, what is new in held-out ones, and chance."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from operator import itemgetter
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from critical.trials.randomness import generator
from critical.trials.tasks.deduction import ENTITIES, NAMES, WORDS, Deduction
from critical.trials.tasks.source import Items

SEEDS = st.integers(0, 2**31 - 1)
KINDS = {"trained": 2, "deeper": 3, "names": 2}
"""Steps of a proof."""


@dataclass(frozen=True)
class Reading:
    """An item as a person reads it."""

    rules: tuple[tuple[str, str], ...]
    asked: str
    proof: tuple[str, ...]

    def follow(self, name: str) -> tuple[str, ...]:
        """Return all that follows of a name, one rule after another."""
        found = [name]
        while found[-1] in dict(self.rules):
            found.append(dict(self.rules)[found[-1]])
        return tuple(found[1:])

    @property
    def firsts(self) -> list[str]:
        """Names of which nothing is: where chains begin, in the order in which they are stated."""
        return [name for name, _ in self.rules if name not in dict(self.rules).values()]


def read(items: Items) -> list[Reading]:
    """Read words, and check the sentences that they must make."""
    readings = []
    for tokens, answer in zip(items.tokens.tolist(), items.answers.tolist(), strict=True):
        words, proof = [WORDS[token] for token in tokens], [WORDS[token] for token in answer]
        stated, (who, asked, *told) = words[:18], words[18:]
        assert stated[::3] == ["every"] * 6
        assert who in ENTITIES
        assert told == proof[:-1]  # what the model has been told when it says the last step
        rules = tuple(zip(stated[1::3], stated[2::3], strict=True))
        readings.append(Reading(rules, asked, tuple(proof)))
    return readings


def sampled(seed: int, kind: str, count: int = 100) -> list[Reading]:
    """Draw items that are trained, or held out."""
    source = Deduction(seed)
    if kind == "trained":
        return read(source.training(count, generator(kind, seed)))
    held_out = {part.kind: part.items for part in source.held_out(generator(kind, seed))}
    return read(held_out[kind])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_a_proof_is_all_that_follows(kind: str, seed: int) -> None:
    """From what is asked, rule by rule, to a name of which no more is said."""
    for one in sampled(seed, kind):
        assert one.proof == one.follow(one.asked)
        assert len(one.proof) == KINDS[kind]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_chains_are_alike(kind: str, seed: int) -> None:
    """All of an item's are as long as the proof, and no name stands in two."""
    for one in sampled(seed, kind):
        chains = [(first, *one.follow(first)) for first in one.firsts]
        assert [len(chain) for chain in chains] == [KINDS[kind] + 1] * (6 // KINDS[kind])
        assert max(Counter(name for chain in chains for name in chain).values()) == 1
        assert one.asked in one.firsts


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_no_held_out_rule_is_trained(seed: int) -> None:
    """Every name is trained, on both sides of rules and in proofs, but not beside every other."""
    trained, names = sampled(seed, "trained", 1000), sampled(seed, "names")
    joined = {rule for one in trained for rule in one.rules}
    new = {rule for one in names for rule in zip((one.asked, *one.proof), one.proof, strict=False)}
    assert not joined & new
    for side in range(2):
        assert {rule[side] for rule in joined} == {rule[side] for rule in new} == set(NAMES)
    assert {name for one in trained for name in one.proof} == set(NAMES)


@pytest.mark.parametrize("kind", KINDS)
def test_shortcuts_are_right_by_chance(kind: str) -> None:
    """The chain stated first, the last, or of the first name by the alphabet: none knows better."""
    readings = [one for seed in range(20) for one in sampled(seed, kind, 256)]
    for shortcut in (itemgetter(0), itemgetter(-1), min):
        right = fmean(shortcut(one.firsts) == one.asked for one in readings)
        assert right == pytest.approx(KINDS[kind] / 6, abs=0.03)


def test_answers_are_balanced() -> None:
    """Every name is about as often a step of a proof."""
    readings = [one for seed in range(30) for one in sampled(seed, "trained", 300)]
    for step in range(2):
        counts = Counter(one.proof[step] for one in readings)
        assert set(counts) == set(NAMES)
        assert max(counts.values()) < 1.4 * min(counts.values())


def test_words_are_all_different() -> None:
    """A word is a token."""
    assert len(set(WORDS)) == len(WORDS)
