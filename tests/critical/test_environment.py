"""The environment: what is kept of it, that it holds no secret, and that nothing need be there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from critical.environment import PACKAGES, aspects, environment

Git = Callable[..., str]
ROOT = Path(__file__).parents[2]
SECRET = "s3cr3t-0f-the-us3r"
PROGRAM = """
import json
from critical.environment import environment
print(json.dumps(environment()))
"""


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """Run git in an empty folder, which becomes the working directory."""
    if shutil.which("git") is None:
        pytest.skip("no git")
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    return run


def test_versions_and_devices_are_told() -> None:
    """As JSON: of Python and of every package that decides a trial's numbers."""
    found = environment()
    assert json.loads(json.dumps(found)) == found
    assert found["versions"].keys() == {"python", *PACKAGES}
    assert found["versions"]["torch"] == metadata.version("torch")
    assert found["devices"]
    assert all(found["devices"])


def test_no_variable_and_no_argument_gets_into_it(tmp_path: Path) -> None:
    """Nor what a remote of the repository or a password in a store's URL holds."""
    if shutil.which("git") is not None:
        subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
        url = f"https://user:{SECRET}@example.org/x.git"
        subprocess.run(["git", "remote", "add", "origin", url], cwd=tmp_path, check=True)
    variables = {
        name: SECRET
        for name in ("AWS_SECRET_ACCESS_KEY", "CRITICAL_STORAGE", "HF_TOKEN", "PGPASSWORD")
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "--storage", f"postgresql://u:{SECRET}@h/d", SECRET],
        cwd=tmp_path,
        env=os.environ | variables | {"PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout)["versions"]
    assert SECRET not in done.stdout


def test_the_commit_of_the_working_directory_is_told(git: Git, tmp_path: Path) -> None:
    """And whether files that git knows differ from it; others do not matter."""
    git("init", "-q")
    assert environment()["git"] is None  # no commit yet
    own = tmp_path / "own.py"
    own.write_text("1")
    git("add", "own.py")
    git("commit", "-q", "-m", "first")
    commit = git("rev-parse", "HEAD")
    (tmp_path / "critical.db").touch()
    assert environment()["git"] == {"commit": commit, "modified": False}
    own.write_text("2")
    assert environment()["git"] == {"commit": commit, "modified": True}
    assert aspects(environment())["commit"] == f"{commit[:12]}, modified"


def test_a_folder_within_a_repository_has_its_commit(
    git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that differs anywhere in the repository counts."""
    (tmp_path / "own.py").write_text("1")
    git("init", "-q")
    git("add", "own.py")
    git("commit", "-q", "-m", "first")
    (tmp_path / "own.py").write_text("2")
    inner = tmp_path / "runs"
    inner.mkdir()
    monkeypatch.chdir(inner)
    assert environment()["git"] == {"commit": git("rev-parse", "HEAD"), "modified": True}


def test_outside_of_a_repository_there_is_no_commit(git: Git) -> None:
    """That is no error, and is shown."""
    assert git("--version")
    assert environment()["git"] is None
    assert aspects(environment())["commit"] == "none"


def test_git_need_not_be_on_the_path(
    git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no other either, there is no commit, even in a repository."""
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "first")
    commit = git("rev-parse", "HEAD")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment()["git"] in (None, {"commit": commit, "modified": False})
    monkeypatch.setattr("critical.git_commit._program", lambda: str(tmp_path / "git"))
    assert environment()["git"] is None


def test_what_an_older_version_did_not_keep_is_left_out() -> None:
    """Aspects are only those that are known; devices of one name are counted."""
    described: dict[str, Any] = {"devices": ["H100", "A100", "H100"]}
    assert aspects({}) == {}
    assert aspects(described) == {"devices": "2 × H100 and A100"}
    unknown = {"git": {"commit": "0123456789abcdef", "modified": None}}
    assert aspects(unknown) == {"commit": "0123456789ab, perhaps modified"}
