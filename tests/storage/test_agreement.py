"""Whether settings agree: by their medians, where there are two to compare."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from critical.storage.agreement import DISAGREEMENT, SETTINGS_DISAGREE, agree, disagreeing
from critical.storage.records import NewStudy, PosteriorRecord
from critical.storage.store import Store

MEDIANS = st.lists(st.floats(0.0, 3.0), min_size=2, max_size=4)


@given(MEDIANS)
def test_settings_agree_if_every_two_do(medians: list[float]) -> None:
    """In whatever order they are compared."""
    pairwise = all(abs(a - b) <= DISAGREEMENT for a in medians for b in medians)
    assert agree(medians) is agree(medians[::-1]) is pairwise


@pytest.mark.parametrize("medians", [[], [0.7]])
def test_fewer_than_two_cannot_be_compared(medians: list[float]) -> None:
    """One settings neither agree nor disagree."""
    assert agree(medians) is None


def test_only_settings_that_have_learned_take_part(side_by_side: PosteriorRecord) -> None:
    """Each that disagrees is handed out, and what says nothing of the target is not."""
    assert [own.settings for own in disagreeing(side_by_side)] == ["target", "relaxed"]
    (relaxed,) = side_by_side.others
    silent = replace(relaxed, settings="carried", target=None)
    three = replace(side_by_side, others=(relaxed, silent))
    assert [own.settings for own in disagreeing(three)] == ["target", "relaxed"]
    assert disagreeing(replace(side_by_side, others=(silent,))) == ()


def test_a_step_says_that_its_settings_disagree(
    store: Store, new_study: NewStudy, posterior: PosteriorRecord, side_by_side: PosteriorRecord
) -> None:
    """In place of its own verdict; its numbers are those of the first settings."""
    study = store.create_study(new_study)
    store.add_posterior(study.id, posterior, 1.0)
    store.add_posterior(study.id, side_by_side, 2.0)
    alone, several = store.narrowing(study.id)
    assert (alone.verdict, several.verdict) == ("resolved", SETTINGS_DISAGREE)
    assert (alone.median, several.median) == (0.71, 0.71)
    assert store.latest_posterior(study.id) == side_by_side
