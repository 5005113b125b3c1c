"""The mixture: what a batch depends on, how much of each source it holds, how it is written."""

from __future__ import annotations

import hashlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from critical.trials.corpus import Corpus
from critical.trials.errors import MixtureError
from critical.trials.mixture import (
    DEFAULT_MIXTURE,
    VOCABULARY,
    Group,
    Mixture,
    parse_mixture,
    reasoning_task,
)
from critical.trials.tasks.anchors import SHIFTS, held_out_pairs
from critical.trials.tasks.registry import REASONING, SOURCES, TASKS, first_ids


@pytest.fixture
def mixture(corpus: Corpus) -> Mixture:
    """The default one."""
    return Mixture(DEFAULT_MIXTURE, corpus, 1024, seed=0)


def same(one: list[Group], other: list[Group]) -> bool:
    """Whether two batches hold the same tokens and targets."""
    return all(
        a.source == b.source
        and torch.equal(a.tokens, b.tokens)
        and torch.equal(a.targets, b.targets)
        for a, b in zip(one, other, strict=True)
    )


def test_a_batch_depends_on_seed_and_step_alone(mixture: Mixture, corpus: Corpus) -> None:
    """It is the same in another object and in another order of calls."""
    other = Mixture(DEFAULT_MIXTURE, corpus, 1024, seed=0)
    late = other.batch(9)
    assert same(mixture.batch(2), other.batch(2))
    assert same(mixture.batch(9), late)
    assert same(mixture.validation(), other.validation())


def test_every_source_differs_between_steps_and_seeds(mixture: Mixture, corpus: Corpus) -> None:
    """No source repeats its batch, and no seed another seed's, validation included."""
    other = Mixture(DEFAULT_MIXTURE, corpus, 1024, seed=1)
    for one, next_, elsewhere in zip(
        mixture.batch(1), mixture.batch(2), other.batch(1), strict=True
    ):
        assert not torch.equal(one.tokens, next_.tokens)
        assert not torch.equal(one.tokens, elsewhere.tokens)
    for one, elsewhere in zip(mixture.validation(), other.validation(), strict=True):
        assert not torch.equal(one.tokens, elsewhere.tokens)


@pytest.mark.parametrize("batch_tokens", [512, 1024, 8192])
def test_fractions_are_honoured(batch_tokens: int, corpus: Corpus) -> None:
    """Each source has its share of a batch's tokens, to half a sequence."""
    mixture = Mixture(DEFAULT_MIXTURE, corpus, batch_tokens, seed=0)
    groups = mixture.batch(1)
    assert [group.source for group in groups] == list(DEFAULT_MIXTURE)
    for group in groups:
        wanted = DEFAULT_MIXTURE[group.source] * batch_tokens
        assert abs(group.tokens.numel() - wanted) <= group.tokens.shape[1] / 2
    assert mixture.tokens_per_step == sum(group.tokens.numel() for group in groups)


def test_a_source_of_fraction_zero_is_left_out(corpus: Corpus) -> None:
    """Neither trained nor validated."""
    mixture = Mixture({"reasoning": 1.0, "memory": 0.0}, corpus, 512, seed=0)
    assert [group.source for group in mixture.batch(1)] == ["reasoning"]
    assert [group.source for group in mixture.validation()] == ["reasoning", "held_out"]


def test_text_targets_are_the_next_tokens(mixture: Mixture) -> None:
    """Every position of a window predicts the one after it; ids lie above the tasks'."""
    text = mixture.batch(1)[-1]
    assert text.source == "text"
    assert torch.equal(text.targets[:, :-1], text.tokens[:, 1:])
    assert 128 <= int(text.tokens.min()) <= int(text.tokens.max()) < VOCABULARY


def test_held_out_items_hold_held_out_pairs_only(mixture: Mixture) -> None:
    """And what is trained or validated holds none of them."""
    held_out = set(held_out_pairs(0))

    def pairs(group: Group) -> set[tuple[int, int]]:
        sequences = group.tokens.tolist()
        return {tuple(token for token in row if token in SHIFTS) for row in sequences}

    validation = {group.source: group for group in mixture.validation()}
    assert pairs(validation["held_out"]) == held_out
    assert not pairs(validation["reasoning"]) & held_out
    assert not any(pairs(mixture.batch(step)[0]) & held_out for step in range(1, 50))


def test_default_draws_have_not_changed(corpus: Corpus) -> None:
    """Tables of measured runs hold only as long as the default mixture draws the same items."""
    digest = hashlib.sha256()
    mixture = Mixture(DEFAULT_MIXTURE, corpus, 1024, seed=3)
    for group in (*mixture.batch(1), *mixture.batch(77), *mixture.validation()):
        digest.update(group.tokens.numpy().tobytes() + group.targets.numpy().tobytes())
    assert digest.hexdigest()[:16] == "15ded14c8512eb74"
    assert VOCABULARY == 384


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_can_stand_beside_reasoning(name: str, corpus: Corpus) -> None:
    """Its ids are its own or those it shares, and its held-out groups are known by their task."""
    mixture = Mixture({"reasoning": 0.5, name: 0.5}, corpus, 1024, seed=1)
    groups = mixture.validation()
    tasks = {reasoning_task(group.source) for group in groups} - {None}
    assert tasks == {"reasoning", name} & set(REASONING)
    first, vocabulary = first_ids(mixture.fractions, corpus)
    alphabets = {task.name: task.alphabet for task in TASKS}
    for group in (*mixture.batch(1), *groups):
        source = name if name in group.source.split("/") else group.source
        if source in alphabets and source != "reasoning":
            start = first[alphabets[source].name]
            ids = torch.cat((group.tokens.flatten(), group.targets.flatten()))
            assert start <= int(ids.min())
            assert int(ids.max()) < start + alphabets[source].size <= vocabulary


def test_held_out_groups_are_named_by_task_and_kind(corpus: Corpus) -> None:
    """The default task's keeps its old name; wrong answers are no held-out group."""
    mixture = Mixture(dict.fromkeys(SOURCES, 1 / len(SOURCES)), corpus, 4096, seed=0)
    assert [group.source for group in mixture.validation()] == [
        *SOURCES,
        "held_out",
        "held_out/keys",
        "held_out/symmetric/inferential",
        "contrast/symmetric/symmetric",
        "held_out/deduction/deeper",
        "held_out/deduction/names",
        "held_out/addition",
    ]


def test_a_mixture_of_another_reasoning_task(corpus: Corpus) -> None:
    """The default task need not be there."""
    assert parse_mixture("addition=1,text=1") == {"addition": 0.5, "text": 0.5}
    mixture = Mixture({"addition": 0.5, "text": 0.5}, corpus, 512, seed=0)
    assert [group.source for group in mixture.validation()] == [
        "addition", "text", "held_out/addition",
    ]  # fmt: skip


def test_a_mixture_with_text_needs_a_corpus() -> None:
    """The message says which of the two to change."""
    with pytest.raises(MixtureError, match="has text and no corpus: give one, or leave text out"):
        Mixture(DEFAULT_MIXTURE, None, 1024, seed=0)


def test_a_mixture_needs_reasoning() -> None:
    """Also where it comes from Python."""
    with pytest.raises(MixtureError, match="has no reasoning, so no R could be measured"):
        Mixture({"memory": 1.0}, None, 1024, seed=0)


def test_the_documented_mixture_is_the_default() -> None:
    """What the messages tell to write is read as the default."""
    assert parse_mixture("reasoning=0.65,memory=0.1,text=0.25") == pytest.approx(
        dict(DEFAULT_MIXTURE)
    )


@given(st.lists(st.floats(1e-3, 1e3), min_size=len(SOURCES), max_size=len(SOURCES)))
def test_parsed_fractions_sum_to_one(numbers: list[float]) -> None:
    """In the proportions that were written, in any order."""
    parts = [f"{name}={number!r}" for name, number in zip(SOURCES, numbers, strict=True)]
    found = parse_mixture(", ".join(reversed(parts)))
    assert list(found) == list(SOURCES)
    assert sum(found.values()) == pytest.approx(1)
    expected = [number / sum(numbers) for number in numbers]
    assert list(found.values()) == pytest.approx(expected)


def test_a_fraction_of_zero_is_dropped() -> None:
    """It is a way to leave a source out."""
    assert parse_mixture("reasoning=2,text=0") == {"reasoning": 1.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"mixture '' names no source: write reasoning="),
        ("reasoning=1,", r"source '' is not one of"),
        ("reasoning=1,code=1", rf"source 'code' is not one of {', '.join(SOURCES)}: write"),
        ("reasoning=1,reasoning=2", r"names reasoning twice: write"),
        ("reasoning=half", r"fraction 'half' of reasoning is no number"),
        ("reasoning", r"fraction '' of reasoning is no number"),
        ("reasoning=1,text=-0.5", r"fraction -0\.5 of text is not a finite number of at l"),
        ("reasoning=nan", r"fraction nan of reasoning is not a finite number of at"),
        ("reasoning=inf", r"fraction inf of reasoning is not a finite number of at"),
        (
            "memory=0.5,text=0.5",
            r"'memory=0.5,text=0.5' has no task that reasons \(reasoning, keys, symmetric, "
            r"deduction, addition\): add one",
        ),
        ("reasoning=0,text=1", r"has no task that reasons"),
    ],
)
def test_mistakes_in_a_mixture(text: str, message: str) -> None:
    """Each message quotes what was given and shows a valid mixture."""
    with pytest.raises(MixtureError, match=message) as caught:
        parse_mixture(text)
    assert "write reasoning=0.65,memory=0.1,text=0.25" in str(caught.value)
