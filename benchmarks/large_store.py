"""Stores of many trials: one real search whose trials are copied, with their rows in Optuna."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, MetaData, Table, func, insert, literal, select

from critical.api import run_prepared
from critical.opening import open_search
from critical.options import SearchOptions
from critical.preparation import Prepared, prepare_search
from critical.storage.records import Role, StudyRecord, TrialRecord
from critical.storage.schema import Base
from critical.storage.store import Store

TRIAL = f"{Path(__file__).parent / 'measured_trial.py'}:train"
SEARCHED = 70
"""Trials that are really run."""
_OPTUNA_KEYS = {
    "trial_params": "param_id",
    "trial_values": "trial_value_id",
    "trial_system_attributes": "trial_system_attribute_id",
}
"""What Optuna keeps of a trial, by table, with the primary key that a copy gets anew."""


def name_of(study: int) -> str:
    """Return the name of a study of a store that ``build`` filled; 0 is the one that was run."""
    return f"search-{study}"


def prepared_search(url: str, folder: Path, study: str, budget: str = "1000000trials") -> Prepared:
    """Prepare a search in process, by default with a budget that is never spent."""
    given: dict[str, object] = {
        "budget": budget,
        "study": study,
        "storage": url,
        "trainable": TRIAL,
        "lr": (1e-3, 2e-3, 4e-3),
        "workers": 0,
        "sampler": "random",
        "work_dir": folder / "work",
    }
    return prepare_search(SearchOptions.model_validate(given))


def build(url: str, folder: Path, trials: int, studies: int = 1) -> None:
    """Fill an empty database.

    Args:
        url: Of the database.
        folder: For the work directory.
        trials: How many in all.
        studies: Over how many studies they are spread; at least ``SEARCHED`` trials for each.
    """
    run_prepared(prepared_search(url, folder, name_of(0), f"{SEARCHED}trials"))
    with Store.open(url) as store:
        source = store.study(name_of(0))
        originals = store.trials(source.id)
        posterior = store.latest_posterior(source.id)
        assert posterior is not None
        for number in range(studies):
            search = open_search(store, prepared_search(url, folder, name_of(number)))
            had = len(search.history.trials)
            # A study has few references and confirmations, however long: its search trials grow.
            wanted = [t for t in originals if not had or t.role is Role.SEARCH]
            study = search.history.study
            with store._writing() as session:
                copier = _Copier(session.connection(), source, study)
                copier.copy(islice(cycle(wanted), max(0, trials // studies - had)), first=had)
            whole = replace(posterior, trials=store.counts(study.id).completed)
            store.add_posterior(study.id, whole, store.ledger(study.id).spent_seconds)


class _Copier:
    """Copies trials of one study, with all that belongs to them, into the same or another."""

    def __init__(self, connection: Connection, source: StudyRecord, study: StudyRecord) -> None:
        self._connection = connection
        self._source, self._study = source, study
        metadata = MetaData()
        metadata.reflect(connection, only=["studies", "trials", *_OPTUNA_KEYS])
        self._tables: Mapping[str, Table] = {**metadata.tables, **Base.metadata.tables}
        self._optuna_numbers: dict[int, int] = {}

    def copy(self, trials: Iterable[TrialRecord], first: int) -> None:
        """Enter them under the numbers from ``first`` on, each with a posterior's summary."""
        own = {"study_id": self._study.id}
        numbered = dict(enumerate(trials, first))
        for number, trial in numbered.items():
            optuna_number = None if trial.optuna_number is None else self._copy_in_optuna(trial)
            changed = own | {"number": number, "optuna_number": optuna_number}
            key = self._insert("critical_trial", trial.id, changed, key="id")
            self._insert("critical_measurement", trial.id, {"trial_id": key})
            self._insert("critical_charge", trial.id, own | {"trial_id": key})
        steps = self._tables["critical_posterior"]
        last = select(func.max(steps.c.id)).where(steps.c.study_id == self._source.id)
        step = self._connection.execute(select(steps).where(steps.c.id == last.scalar_subquery()))
        same = {n: v for n, v in step.mappings().one().items() if n != "id"} | {"document": None}
        if numbered:
            self._connection.execute(insert(steps), [same | own | {"trials": n} for n in numbered])

    def _copy_in_optuna(self, trial: TrialRecord) -> int:
        """Return the copy's number in its Optuna study."""
        source, study = (self._optuna_study(s.name, trial.arm) for s in (self._source, self._study))
        trials = self._tables["trials"]
        same = trials.c.study_id == source, trials.c.number == trial.optuna_number
        old = self._connection.execute(select(trials.c.trial_id).where(*same)).scalar_one()
        if study not in self._optuna_numbers:
            had = select(func.count()).select_from(trials).where(trials.c.study_id == study)
            self._optuna_numbers[study] = self._connection.execute(had).scalar_one()
        number = self._optuna_numbers[study]
        self._optuna_numbers[study] += 1
        key = self._insert("trials", old, {"study_id": study, "number": number})
        for table in _OPTUNA_KEYS:
            self._insert(table, old, {"trial_id": key})
        return number

    def _optuna_study(self, study: str, arm: str) -> int:
        studies = self._tables["studies"].c
        query = select(studies.study_id).where(studies.study_name == f"{study}/{arm}")
        return int(self._connection.execute(query).scalar_one())

    def _insert(
        self, name: str, trial: int, changed: Mapping[str, Any], key: str = "trial_id"
    ) -> int:
        """Copy the rows of a trial in a table; return the last new key, 0 if none."""
        table = self._tables[name]
        made = ("id", _OPTUNA_KEYS.get(name, "trial_id" if name == "trials" else "id"))
        names = [column.name for column in table.c if column.name not in made]
        columns = [literal(changed[n]) if n in changed else table.c[n] for n in names]
        rows = select(*columns).where(table.c[key] == trial)
        added = insert(table).from_select(names, rows).returning(table.c[key])
        keys = [int(found) for found in self._connection.scalars(added)]
        return keys[-1] if keys else 0
