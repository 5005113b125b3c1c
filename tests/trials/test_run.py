"""What a run answers about its own folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from critical.trials import ProxyRun
from critical.trials.run import STOP_FILE

Make = Callable[..., ProxyRun]


def test_a_file_in_the_folder_asks_to_stop(tiny: Make, tmp_path: Path) -> None:
    """Once it is there, and while the folder is not, nothing is asked."""
    folder = tmp_path / "trial"
    run = tiny(checkpoint_dir=folder)
    assert not run.stop_requested()
    folder.mkdir()
    assert not run.stop_requested()
    (folder / STOP_FILE).touch()
    assert run.stop_requested()


def test_a_run_without_a_folder_is_never_asked_to_stop(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever lies in the folder that the process is in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / STOP_FILE).touch()
    assert not tiny().stop_requested()


def test_a_folder_that_cannot_be_looked_into_asks_for_nothing(tiny: Make, tmp_path: Path) -> None:
    """An error of the file system ends no trial."""
    too_long = tmp_path / ("x" * 5_000)
    assert not tiny(checkpoint_dir=too_long).stop_requested()
