"""A folder of one's own, and what killed processes have left of theirs."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from critical.running.private_folder import private_folder

HOLDER = """
import time
from critical.running.private_folder import private_folder
with private_folder() as folder:
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where folders are made."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    return tmp_path


def _age(folder: Path) -> None:
    os.utime(folder, (1, 1))


def test_a_folder_is_its_owners_and_goes(place: Path) -> None:
    """Nobody else may enter it."""
    with private_folder() as folder:
        (folder / "ray").mkdir(0o777)
        assert folder.parent == place
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(place.iterdir()) == []


def test_after_an_error_it_stays_until_the_next_one(place: Path) -> None:
    """What is in it may say what went wrong."""
    with pytest.raises(ValueError, match="wrong"), private_folder() as folder:
        (folder / "log").touch()
        raise ValueError("wrong")
    assert (folder / "log").exists()
    _age(folder)
    with private_folder() as other:
        assert list(place.iterdir()) == [other]


def test_the_folder_of_a_process_that_lives_is_left(place: Path) -> None:
    """Once that is killed it is removed; and what is not ours is left whatever it is called."""
    foreign = place / "critical-ray-notes"
    foreign.mkdir()
    _age(foreign)
    (place / "critical-ray-link").symlink_to(foreign)
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    folder = Path(holder.stdout.readline().strip())
    _age(folder)
    with private_folder():
        assert folder.exists()
    holder.kill()
    holder.communicate()
    with private_folder():
        assert not folder.exists()
    assert foreign.exists()
