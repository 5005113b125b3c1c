"""Traps that a search must not step into, and searches that stop to be looked at."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

CONSOLE = Path(sys.executable).with_name("critical")
SHORT = ("search", "--budget", "8trials", "--widths", "32", "--sampler", "random")
WAIT_SECONDS = 60.0


def _environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("CRITICAL_", "RAY_"))}


@pytest.fixture(scope="session")
def shell() -> dict[str, str]:
    """The environment of a user's shell, without what concerns us."""
    return _environment()


@pytest.fixture(scope="session")
def program() -> str:
    """The path of ``critical``, which Python starts without the working directory on its path."""
    return str(CONSOLE)


@pytest.fixture(scope="session")
def short() -> tuple[str, ...]:
    """A search that is over soon, without its trial and workers."""
    return SHORT


@pytest.fixture(scope="session")
def wait_for() -> Callable[[Callable[[], object], subprocess.Popen[bytes]], None]:
    """Wait until something is so while a process runs."""
    return _wait_for


def _wait_for(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert process.poll() is None, "the search has ended"
        assert time.monotonic() < until
        time.sleep(0.02)


class Touch:
    """An object whose pickle, once it is loaded, leaves a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.file}",)


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """A file that is there once something has been unpickled or run that must not be."""
    return tmp_path / "ran"


@pytest.fixture
def evil(ran: Path) -> bytes:
    """A pickle that leaves ``ran``, as is tried here."""
    found = pickle.dumps(Touch(ran))
    pickle.loads(found)
    assert ran.exists()
    ran.unlink()
    return found


@pytest.fixture
def littered(tmp_path: Path, ran: Path) -> Path:
    """A folder with an odd name, in which a file has the name of every library there is."""
    folder = tmp_path / "odd %20#[x]"
    folder.mkdir()
    names = {*sys.stdlib_module_names, *packages_distributions(), "sitecustomize", "trials"}
    for name in names | {"storage", "dashboards"}:
        if name.isidentifier():
            (folder / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write(__name__ + ' ')\n")
    assert len(list(folder.iterdir())) > 200
    return folder


@pytest.fixture
def own_trial(tmp_path: Path, analytic: str) -> str:
    """A trial in another folder, with a neighbour; its first run holds until it is told to go."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "neighbour.py").write_text(f"PATH = {analytic.rpartition(':')[0]!r}\n")
    (folder / "own.py").write_text(
        f"""
import json, os, sys, time
from pathlib import Path
from runpy import run_path
import neighbour
whole = run_path(neighbour.PATH)["train"]
folder = Path({str(folder)!r})

def train(run):
    if (folder / "hold").exists() and not (folder / "worker").exists():
        (folder / "worker").write_text(json.dumps([os.getpid(), os.getcwd(), sorted(os.environ)]))
        while (folder / "hold").exists():
            time.sleep(0.05)
    yield from whole(run)
    if os.environ.get("FAIL"):
        raise RuntimeError("told to fail")
"""
    )
    return f"{folder / 'own.py'}:train"


@dataclass
class Held:
    """A search through Ray whose first trial waits."""

    process: subprocess.Popen[bytes]
    folder: Path
    """Of the trial."""
    ray: Path
    """Where Ray's own folder is made."""
    err: Path

    def wait(self) -> tuple[int, Path, list[str]]:
        """Return the worker's process, folder and environment's names once the trial has begun."""
        _wait_for((self.folder / "worker").exists, self.process)
        time.sleep(0.1)  # until it is written
        pid, place, names = json.loads((self.folder / "worker").read_text())
        return pid, Path(place), names

    def go(self) -> int:
        """Let the search run to its end, and return its status."""
        (self.folder / "hold").unlink()
        return self.process.wait(120)


@pytest.fixture
def hold(own_trial: str, tmp_path: Path) -> Iterator[Callable[..., Held]]:
    """Start a search by the own trial through one worker of Ray."""
    started: list[Held] = []
    # A socket's path may have 107 characters.
    ray = Path(tempfile.mkdtemp(prefix="cs-"))

    def start(cwd: Path, **environment: str) -> Held:
        file = Path(own_trial.rpartition(":")[0])
        (file.parent / "hold").touch()
        err = tmp_path / "err"
        with err.open("wb") as stream:
            process = subprocess.Popen(
                [str(CONSOLE), *SHORT, "--workers", "1", "--trainable", own_trial],
                cwd=cwd,
                env={**_environment(), "RAY_TMPDIR": str(ray), **environment},
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        started.append(Held(process, file.parent, ray, err))
        return started[-1]

    yield start
    for held in started:
        if held.process.poll() is None:
            os.killpg(held.process.pid, signal.SIGKILL)
            held.process.wait()
    shutil.rmtree(ray, ignore_errors=True)


@pytest.fixture(scope="session")
def parent_of() -> Callable[[int], int]:
    """Return the process that started a process: of a worker of Ray's, the raylet."""
    return lambda pid: int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture(scope="session")
def files_with() -> Callable[..., list[Path]]:
    """Return every file below some folders that has a text or bytes in it."""
    return _files_with


def _files_with(part: str | bytes, *folders: Path) -> list[Path]:
    content = part.encode() if isinstance(part, str) else part
    return [
        file
        for folder in folders
        for file in folder.rglob("*")
        if file.is_file() and content in file.read_bytes()
    ]
