"""What tests share: the analytic trial, whose γ* is known, how to run it, a database server."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import create_engine, text

from critical.storage.records import OPEN, StudyRecord, TrialRecord, TrialState
from critical.storage.store import Store

SERVER_USERS = ("postgres", "nobody")
ROOT = Path(__file__).parents[1]
ANALYTIC = f"{ROOT / 'examples' / 'analytic_trial.py'}:train"
CONFIG = ROOT / "examples" / "llama-small.json"

# A machine that does something else beside the tests is slow, and no test is wrong for that.
settings.register_profile("critical", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("critical")

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
def within() -> Callable[[float], AbstractContextManager[None]]:
    """Bound the CPU seconds of this process; of those by a clock, other processes take a share."""

    @contextmanager
    def bound(seconds: float) -> Iterator[None]:
        began = time.process_time()
        yield
        assert time.process_time() - began < seconds

    return bound


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A server in a temporary folder, reached by its socket; yields a URL without a database."""
    initdb, pg_ctl = _server_program("initdb"), _server_program("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("no PostgreSQL: initdb and pg_ctl are not installed")
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("no psycopg: pip install 'critical[postgres]'")
    # Not pytest's own folder: a socket's path may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="critical-pg-"))
    user = _server_user(folder)

    def run(*command: str) -> None:
        # Not captured: the server would inherit the pipe and keep it open.
        with (folder / "log").open("w") as log:
            done = subprocess.run([*user, *command], stdout=log, stderr=log, check=False)
        if done.returncode:
            pytest.skip(f"PostgreSQL does not start: {(folder / 'log').read_text()[-500:]}")

    data = str(folder / "data")
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    try:
        run(initdb, "-D", data, "-A", "trust", "-U", "critical", "-E", "UTF8", "--no-sync")
        run(pg_ctl, "-D", data, "-l", f"{folder}/server.log", "-o", options, "-w", "start")
        yield f"postgresql+psycopg://critical@/{{database}}?host={folder}"
        run(pg_ctl, "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _server_program(name: str) -> str | None:
    """Find a program of the server, which Debian does not put on the PATH."""
    packaged = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(packaged[-1]) if packaged else None)


def _server_user(folder: Path) -> list[str]:
    """Return what runs a command as a user whom PostgreSQL accepts: any but root."""
    if os.geteuid() != 0:
        return []
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = next((known[name] for name in SERVER_USERS if name in known), None)
    if entry is None or shutil.which("setpriv") is None:
        pytest.skip("PostgreSQL refuses to run as root, and there is no other user to run it")
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    ids = f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}"
    return ["setpriv", *ids, "--clear-groups"]


@pytest.fixture
def postgresql_url(postgresql: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    admin = create_engine(postgresql.format(database="postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("CREATE DATABASE test"))
    yield postgresql.format(database="test")
    with admin.connect() as connection:
        connection.execute(text("DROP DATABASE test WITH (FORCE)"))
    admin.dispose()


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
            assert tokens[-1] >= 0.95 * trial.tokens  # in whole steps


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
