"""Curves as columns, and one extra of last measurements: the same numbers as the records have."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import event

from critical.storage.records import MeasurementRecord, NewStudy, NewTrial, StudyRecord
from critical.storage.store import Store

EXTRA = "trained_accuracy"


@pytest.fixture
def study(store: Store, new_study: NewStudy) -> StudyRecord:
    """A study without trials."""
    return store.create_study(new_study)


def measured(number: int, loss: float = 1.0, **extras: float) -> MeasurementRecord:
    """A measurement with a number that no short decimal has."""
    return MeasurementRecord(1000 * number, loss, 0.1 * 3 * number, 2.0 * number, extras)


def test_curves_are_the_measurements_to_the_bit(
    store: Store, study: StudyRecord, new_trial: NewTrial
) -> None:
    """In order, by trial, in one query; trials without measurements are left out."""
    first, second, _ = (store.add_trial(study.id, new_trial) for _ in range(3))
    store.add_measurements(first.id, 0, [measured(1, 0.1 + 0.2, trained_accuracy=1 / 3)])
    store.add_measurements(second.id, 1, [measured(2, trained_accuracy=0.7)])
    store.add_measurements(second.id, 0, [measured(1, trained_accuracy=0.1 + 0.2, other=5.0)])
    statements: list[str] = []
    event.listen(
        store._engine, "before_cursor_execute", lambda *seen: statements.append(str(seen[2]))
    )
    found = store.curves(study.id, EXTRA)
    assert sum(text.startswith("SELECT") for text in statements) == 1
    assert list(found) == [first.id, second.id]
    for trial in (first, second):
        records = store.trial_measurements(trial.id)
        curve = found[trial.id]
        assert curve.tokens.tolist() == [one.tokens for one in records]
        assert curve.loss.tolist() == [one.loss for one in records]
        assert curve.reasoning.tolist() == [one.reasoning for one in records]
        assert curve.extra.tolist() == [one.extras[EXTRA] for one in records]


def test_what_is_no_number_is_nan(store: Store, study: StudyRecord, new_trial: NewTrial) -> None:
    """A diverged loss, an extra that is not there, and one that is not finite."""
    trial = store.add_trial(study.id, new_trial)
    curve = [measured(1, math.nan), measured(2, math.inf), measured(3, trained_accuracy=math.nan)]
    store.add_measurements(trial.id, 0, curve)
    (found,) = store.curves(study.id, EXTRA).values()
    np.testing.assert_array_equal(found.loss, [math.nan, math.inf, 1.0])
    assert np.isnan(found.extra).all()


def test_a_study_has_its_own_curves(
    store: Store, study: StudyRecord, new_study: NewStudy, new_trial: NewTrial
) -> None:
    """Those of another study in the same database are not among them."""
    other = store.create_study(replace(new_study, name="other"))
    trial = store.add_trial(other.id, new_trial)
    store.add_measurements(trial.id, 0, [measured(1)])
    assert store.curves(study.id, EXTRA) == {}
    assert store.last_extras(study.id, EXTRA) == {}
    assert list(store.curves(other.id, EXTRA)) == [trial.id]


def test_an_extra_is_read_from_the_last_measurement(
    store: Store, study: StudyRecord, new_trial: NewTrial
) -> None:
    """By the trial's number, where that measurement has it."""
    first, second, third = (store.add_trial(study.id, new_trial) for _ in range(3))
    store.add_measurements(first.id, 0, [measured(1, failures=1.0), measured(2, failures=2.0)])
    store.add_measurements(second.id, 0, [measured(1, failures=1.0), measured(2)])
    store.add_measurements(third.id, 0, [measured(1, failures=math.inf)])
    assert store.last_extras(study.id, "failures") == {first.number: 2.0, third.number: math.inf}


def test_last_measurements_have_the_extras_that_were_asked_for(
    store: Store, study: StudyRecord, new_trial: NewTrial
) -> None:
    """Each as it is read alone, whatever its name, in one query; a trial without is left out."""
    names = ["loss_text", "stable_rank/0.attention.qkv_proj", "it's", "absent"]
    first, second, _ = (store.add_trial(study.id, new_trial) for _ in range(3))
    store.add_measurements(first.id, 0, [measured(1, loss_text=9.0), measured(2, loss_text=1 / 3)])
    values = {"loss_text": 2.5, names[1]: 4.25, names[2]: math.inf}
    store.add_measurements(second.id, 0, [measured(1, 0.1 + 0.2, other=5.0, **values)])
    statements: list[str] = []
    event.listen(
        store._engine, "before_cursor_execute", lambda *seen: statements.append(str(seen[2]))
    )
    found = store.last_measurements(study.id, names)
    assert sum(text.startswith("SELECT") for text in statements) == 1
    assert found == {
        first.number: measured(2, loss_text=1 / 3),
        second.number: measured(1, 0.1 + 0.2, **values),
    }
    for name in names:
        alone = store.last_extras(study.id, name)
        assert alone == {n: one.extras[name] for n, one in found.items() if name in one.extras}
    assert store.last_measurements(study.id)[second.number] == measured(1, 0.1 + 0.2)
