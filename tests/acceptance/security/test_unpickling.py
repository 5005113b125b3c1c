"""Nothing that is found in a store or a folder is unpickled: a pickle is a program."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Command = tuple[Path, tuple[str, ...]]
Audited = Callable[[list[Command]], list[object]]
BUILT_IN = (
    "search", "--budget", "6trials", "--widths", "8", "--tokens", "2000", "--batch", "64",
    "--lr", "2e-3", "--mixture", "reasoning=0.5,memory=0.5", "--workers", "0",
    "--sampler", "random",
)  # fmt: skip
AUDITED = """
import json, os, pickle, sys, traceback
found = []

def hear(event, arguments):
    if event == "pickle.find_class":
        found.append([str(each) for each in arguments] + traceback.format_stack(limit=8))

sys.addaudithook(hear)
pickle.loads(pickle.dumps(os.path.join))
assert found
found.clear()
from critical.cli.application import _status
ended = []
for folder, arguments in json.load(sys.stdin):
    os.chdir(folder)
    try:
        ended.append(_status(arguments))
    except Exception as error:
        ended.append(repr(error))
with open(sys.argv[1], "w") as file:
    json.dump([ended, found], file)
"""


@pytest.fixture
def audited(tmp_path: Path, shell: dict[str, str]) -> Audited:
    """Run commands in one process in which nothing may be unpickled; return how each ended."""

    def run(commands: list[Command]) -> list[object]:
        told = tmp_path / "audit.json"
        subprocess.run(
            [sys.executable, "-c", AUDITED, str(told)],
            input=json.dumps([(str(folder), arguments) for folder, arguments in commands]),
            text=True,
            env=shell,
            check=True,
            capture_output=True,
            timeout=200,
        )
        ended, unpickled = json.loads(told.read_text())
        assert unpickled == []
        return list(ended)

    return run


@pytest.fixture
def interrupted(tmp_path: Path, shell: dict[str, str], wait_for: Callable[..., None]) -> Path:
    """A folder in which a search by the built-in trial was interrupted, its checkpoint saved."""
    folder = tmp_path / "interrupted"
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "critical", *BUILT_IN],
        cwd=folder,
        env=shell,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(_checkpoint(folder).parent.exists, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 1
    assert _checkpoint(folder).exists()
    return folder


def _checkpoint(folder: Path) -> Path:
    return folder / "critical-work" / "studies" / "default" / "trial-0" / "checkpoint.safetensors"


def test_nothing_is_unpickled_when_a_search_goes_on(
    interrupted: Path, tmp_path: Path, audited: Audited, evil: bytes, ran: Path
) -> None:
    """From a checkpoint, from a pickle in its place, from a store with pickles in its columns."""
    whole, foreign = (
        shutil.copytree(interrupted, tmp_path / name) for name in ("whole", "foreign")
    )
    _checkpoint(foreign).write_bytes(evil)
    assert audited([(whole, BUILT_IN), (foreign, BUILT_IN)]) == [0, 0]
    for folder in (whole, foreign):
        assert not _checkpoint(folder).exists()

    commands: list[Command] = []
    for table in _tables(whole / "critical.db"):
        folder = tmp_path / table
        folder.mkdir()
        shutil.copy(whole / "critical.db", folder)
        if _plant(folder / "critical.db", table, evil):
            reads = (("show", "default"), ("report", "default"), BUILT_IN)
            commands += [(folder, each) for each in reads]
    assert len(commands) > 20
    ended = audited(commands)
    assert 0 in ended
    assert set(ended) != {0}
    assert not ran.exists()


def _tables(file: Path) -> list[str]:
    with sqlite3.connect(file) as database:
        found = database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
    database.close()
    return [name for (name,) in found]


def _plant(file: Path, table: str, content: bytes) -> int:
    """Put a pickle into every column of a table that holds text or JSON; return how many are."""
    planted = 0
    with sqlite3.connect(file) as database:
        columns = database.execute(f"PRAGMA table_info({table})").fetchall()
        for _, column, kind, *_ in columns:
            if kind.upper() in ("JSON", "TEXT", "BLOB") or column.endswith("_json"):
                cursor = database.execute(f"UPDATE {table} SET {column} = ?", (content,))
                planted += cursor.rowcount
    database.close()
    return planted
