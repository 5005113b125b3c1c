"""The commands on a search of thousands of trials: short, quick, and nothing heavy imported."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from sqlalchemy import insert

from critical.cli.application import _status
from critical.running.search import Search
from critical.storage.records import MeasurementRecord, TrialState
from critical.storage.schema import Charge, Trial
from critical.storage.store import Store

Within = Callable[[float], AbstractContextManager[None]]

FAILED = 2000
"""Trials that failed, beside those of a whole search."""
SECONDS = 10.0
NAMES = ("torch", "ray", "optuna", "scipy", "plotly", "alembic", "critical.trials.training")

Ask = Callable[..., str]


@pytest.fixture(scope="module")
def url(finished: Search, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A copy of a finished search, with failures: one in ten went on once before it failed."""
    path = tmp_path_factory.mktemp("large") / "critical.db"
    with (
        sqlite3.connect(finished.history.store.place) as source,
        sqlite3.connect(path) as target,
    ):
        source.backup(target)
    source.close()
    target.close()
    with Store.open(f"sqlite:///{path}") as store:
        _fail(store)
        last = MeasurementRecord(1, 1.0, 0.1, 1.0, {"checkpoint_failures": 3.0})
        store.add_measurements(1, 1000, [last])
    return f"sqlite:///{path}"


def _fail(store: Store) -> None:
    with store._writing() as session:
        tables = Trial.__table__, Charge.__table__
        first, line = (dict(session.execute(t.select()).mappings().first() or {}) for t in tables)
        first |= {"optuna_number": None, "state": TrialState.FAILED}
        numbers = range(10_000, 10_000 + FAILED)
        trials = [
            first | {"id": n, "number": n, "reason": f"ValueError: {n % 2} (own.py, line 3)"}
            for n in numbers
        ]
        session.execute(insert(Trial), trials)
        del line["id"]
        lines = [line | {"trial_id": n, "attempt": 0, "reason": None} for n in numbers]
        for one in lines[::10]:
            lines.append(one | {"attempt": 1})
            one["reason"] = "its worker process died"
        session.execute(insert(Charge), lines)


@pytest.fixture
def ask(url: str, capsys: pytest.CaptureFixture[str], within: Within) -> Ask:
    """Run a command on that store, in process, and return its standard output."""

    def command(*arguments: str) -> str:
        with within(SECONDS):
            assert _status([*arguments, "--storage", url]) == 0
        return capsys.readouterr().out

    return command


def test_thousands_of_failures_are_shown_in_a_few_lines(ask: Ask) -> None:
    """Each reason once, with its count and the latest trials; the attempts before them too."""
    text = " ".join(ask("show", "default").split())
    last = "the last: trials {}, {} and {}"
    assert (
        "1000 trials failed: ValueError: 0 (own.py, line 3); " + last.format(11994, 11996, 11998)
    ) in text
    assert (
        "1000 trials failed: ValueError: 1 (own.py, line 3); " + last.format(11995, 11997, 11999)
    ) in text
    assert (
        "200 attempts ended before their trials did: its worker process died; "
        + last.format(11970, 11980, 11990)
    ) in text
    assert "trial 0 could not be checkpointed, 3 times" in text
    assert "in 2260 charges" in text
    assert len(ask("show", "default").splitlines()) < 40


def test_as_json_every_reason_is_there(ask: Ask) -> None:
    """By trial number; and why each attempt ended that did so before its trial."""
    document = json.loads(ask("show", "default", "--json"))
    assert len(document["reasons"]) == FAILED
    assert document["reasons"]["10000"] == "ValueError: 0 (own.py, line 3)"
    assert len(document["attempts"]) == FAILED / 10
    first = document["attempts"][0]
    assert first.pop("charged_seconds") > 0
    assert first == {"number": 10_000, "attempt": 0, "reason": "its worker process died"}
    assert document["checkpoint_failures"] == {"0": 3}


def test_every_trial_is_one_row(ask: Ask) -> None:
    """As comma-separated values, with a header."""
    header, *rows = ask("trials", "default", "--csv").splitlines()
    assert header.startswith("id,number,arm,")
    assert len(rows) == 60 + FAILED


def test_what_only_reads_imports_nothing_heavy(url: str, tmp_path: Path) -> None:
    """Each of these takes longer to import than the command may take in all."""
    program = (
        "import sys; from critical.cli.application import _status\n"
        "for words in (['studies'], ['trials', 'default', '--csv'], ['recommend', 'default'],\n"
        "              ['show', 'default'], ['show', 'default', '--json']):\n"
        "    assert _status(words) == 0\n"
        f"print([name for name in {NAMES} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"CRITICAL_STORAGE": url},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
