"""Posteriors and named numbers survive JSON to the bit."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from critical.storage.documents import (
    dumps,
    extras_document,
    extras_mapping,
    posterior_document,
    posterior_record,
)
from critical.storage.errors import DocumentError
from critical.storage.records import PosteriorRecord

FINITE = st.floats(allow_nan=False, allow_infinity=False)
# Hypothesis builds every nested record from its annotations.
st.register_type_strategy(float, FINITE)
POSTERIORS = st.from_type(PosteriorRecord)


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(POSTERIORS)
def test_any_posterior_survives(record: PosteriorRecord) -> None:
    """Floats are equal to the bit, tuples are tuples, None is None."""
    assert posterior_record(json.loads(dumps(posterior_document(record)))) == record


@given(st.dictionaries(st.text(), st.floats(allow_nan=True, allow_infinity=True)))
def test_any_extras_survive(extras: dict[str, float]) -> None:
    """NaN and infinity included, through strict JSON."""
    found = extras_mapping(json.loads(dumps(extras_document(extras))))
    assert found.keys() == extras.keys()
    for name, value in extras.items():
        assert found[name] == value or (math.isnan(value) and math.isnan(found[name]))


def test_a_posterior_of_another_shape_names_the_field(posterior: PosteriorRecord) -> None:
    """The message says where it broke, and how to have it computed anew."""
    document = posterior_document(posterior)
    del document["scales"][0]["gamma_star"]["median"]
    with pytest.raises(DocumentError, match=r"scales\.0\.gamma_star\.median: .*critical search"):
        posterior_record(document)


def test_one_settings_are_stored_as_they_were_before_there_were_several(
    posterior: PosteriorRecord, side_by_side: PosteriorRecord
) -> None:
    """No key more, and what an older version stored is read as the target's."""
    document = posterior_document(posterior)
    assert document.keys().isdisjoint({"settings", "others"})
    found = posterior_record(document)
    assert (found.settings, found.others) == ("target", ())
    several = posterior_document(side_by_side)
    assert several["settings"] == "target"
    assert [own["settings"] for own in several["others"]] == ["relaxed"]
