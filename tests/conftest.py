"""What the tests of the core share: the analytic trial, whose γ* is known, and how to run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from critical.storage.records import OPEN, StudyRecord, TrialRecord, TrialState
from critical.storage.store import Store

ROOT = Path(__file__).parents[1]
ANALYTIC = f"{ROOT / 'examples' / 'analytic_trial.py'}:train"
CONFIG = ROOT / "examples" / "llama-small.json"

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def analytic() -> str:
    """The analytic trial, as ``--trainable`` takes it."""
    return ANALYTIC


@pytest.fixture(scope="session")
def llama_config() -> Path:
    """A config.json to take as a target or to export into."""
    return CONFIG


@pytest.fixture(scope="session")
def cli() -> Cli:
    """Run ``python -m critical`` in a folder, with an environment that names no store."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("CRITICAL_", "RAY_"))}

    def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "critical", *map(str, arguments)],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    return run


@pytest.fixture(scope="session")
def check_nothing_lost() -> Callable[..., None]:
    """Check that a finished study, however often it was killed, is whole."""
    return _check_nothing_lost


def _check_nothing_lost(url: str, name: str, *, completed: int) -> None:
    """As many trials as were to be run, none twice, none open, all of it charged and told.

    Args:
        url: Of the store.
        name: Of the study.
        completed: Trials of the budget.
    """
    with Store.open(url) as store:
        study = store.study(name)
        trials = store.trials(study.id)
        counted = [t for t in trials if t.state in (TrialState.COMPLETED, TrialState.DIVERGED)]
        assert len(counted) == completed
        assert [t.number for t in trials] == list(range(len(trials)))
        assert not [t for t in trials if t.state in OPEN]
        kept = [t for t in trials if t.state is not TrialState.FAILED]
        keys = Counter((t.gamma, t.learning_rate, t.arm, t.role, t.seed) for t in kept)
        assert set(keys.values()) == {1}, keys
        _check_ledger(store, study, trials)
        _check_curves(store, trials)
    _check_optuna(url, name, trials)


def _check_ledger(store: Store, study: StudyRecord, trials: list[TrialRecord]) -> None:
    charges = store.charges(study.id)
    assert all(charge.charged_seconds is not None for charge in charges)
    for trial in trials:
        own = [charge for charge in charges if charge.trial_number == trial.number]
        assert [charge.attempt for charge in own] == list(range(trial.attempts))
        assert trial.device_seconds == pytest.approx(sum(c.charged_seconds or 0.0 for c in own))
        # Every attempt but the last says why it ended, and the last of one that has ended does not.
        assert all(charge.reason for charge in own[:-1])
    ledger = store.ledger(study.id)
    assert ledger.held_seconds == 0
    total = sum(charge.charged_seconds or 0.0 for charge in charges)
    assert ledger.spent_seconds == pytest.approx(total)


def _check_curves(store: Store, trials: list[TrialRecord]) -> None:
    for trial in trials:
        curve = store.trial_measurements(trial.id)
        tokens = [one.tokens for one in curve]
        seconds = [one.device_seconds for one in curve]
        assert tokens == sorted(set(tokens))
        assert seconds == sorted(seconds)
        if trial.state is TrialState.COMPLETED:
            assert tokens[-1] == trial.tokens


def _check_optuna(url: str, name: str, trials: list[TrialRecord]) -> None:
    import optuna

    from critical.storage.optuna_storage import optuna_storage

    state = optuna.trial.TrialState
    storage = optuna_storage(url)
    try:
        for arm in {trial.arm for trial in trials}:
            told = optuna.load_study(study_name=f"{name}/{arm}", storage=storage).get_trials()
            assert not [t.number for t in told if not t.state.is_finished()]
            rows = {t.optuna_number: t for t in trials if t.arm == arm}
            for one in told:
                row = rows.pop(one.number, None)
                if row is None:
                    assert one.state is state.FAIL
                    continue
                assert one.params["gamma"] == row.gamma
                ended = row.state in (TrialState.COMPLETED, TrialState.DIVERGED)
                assert (one.state is state.COMPLETE) == ended
            assert set(rows) <= {None}
    finally:
        storage.remove_session()
        storage.engine.dispose()
