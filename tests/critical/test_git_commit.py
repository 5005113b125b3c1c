"""The working directory's commit: what is told, and that no program of the repository's is run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from critical.git_commit import Commit, commit_of

Git = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """Run git in a new repository that has one commit of two files."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "a")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@b")
    repository = tmp_path / "repository"
    (repository / "folder").mkdir(parents=True)

    def run(*arguments: str, check: bool = True) -> str:
        command = ["git", "-c", "protocol.file.allow=always", *arguments]
        done = subprocess.run(
            command, cwd=repository, capture_output=True, text=True, check=check, timeout=30
        )
        return done.stdout.strip()

    run("init", "-q")
    (repository / "one").write_text("one\n")
    (repository / "folder" / "two").write_text("two\n")
    run("add", ".")
    run("commit", "-qm", "first")
    return run


@pytest.fixture
def repository(git: Git) -> Path:
    """The repository's folder."""
    return Path(git("rev-parse", "--show-toplevel"))


def test_a_commit_is_told_with_whether_files_differ(git: Git, repository: Path) -> None:
    """From any folder in it; a file with the same text is the same, a new one is none of git's."""
    digest = git("rev-parse", "HEAD")
    (repository / "new").write_text("")
    os.utime(repository / "one", (1, 1))
    assert commit_of(repository) == commit_of(repository / "folder") == Commit(digest, False)
    (repository / "one").write_text("ONE\n")
    assert commit_of(repository / "folder") == Commit(digest, True)
    git("add", "one")
    assert commit_of(repository) == Commit(digest, True)
    git("commit", "-qm", "second")
    assert commit_of(repository) == Commit(git("rev-parse", "HEAD"), False)


def test_other_kinds_of_repositories_are_read_too(git: Git, tmp_path: Path) -> None:
    """A worktree, whose index is elsewhere, and one that has SHA-256 and objects elsewhere."""
    digest = git("rev-parse", "HEAD")
    git("worktree", "add", "-q", "--detach", str(tmp_path / "worktree"))
    assert commit_of(tmp_path / "worktree") == Commit(digest, False)
    (tmp_path / "worktree" / "one").unlink()
    assert commit_of(tmp_path / "worktree") == Commit(digest, True)
    git("clone", "-q", "--shared", ".", str(tmp_path / "clone"))
    assert commit_of(tmp_path / "clone") == Commit(digest, False)
    git("init", "-q", "--object-format=sha256", str(tmp_path / "new"))
    git("-C", str(tmp_path / "new"), "commit", "-q", "--allow-empty", "-m", "first")
    found = commit_of(tmp_path / "new")
    assert found is not None
    assert (len(found.digest), found.modified) == (64, False)


def test_where_there_is_no_commit_nothing_is_told(tmp_path: Path) -> None:
    """No repository, and one without a commit."""
    assert commit_of(tmp_path) is None
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert commit_of(tmp_path) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder away, which root alone may")
def test_another_users_repository_is_not_asked(git: Git, repository: Path) -> None:
    """As git itself refuses it, unless it is a safe.directory."""
    os.chown(repository / ".git", 12345, 12345)
    os.chown(repository, 12345, 12345)
    assert commit_of(repository) is None


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """What a program leaves that a repository got run."""
    return tmp_path / "ran"


@pytest.fixture
def trap(tmp_path: Path, ran: Path) -> str:
    """A program that leaves ``ran``."""
    program = tmp_path / "trap"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n[ $# -gt 0 ] || cat\n")
    program.chmod(0o755)
    return str(program)


def _set_monitor(git: Git, repository: Path, trap: str) -> None:
    git("config", "core.fsmonitor", trap)


def _set_filter(git: Git, repository: Path, trap: str) -> None:
    git("config", "filter.x.clean", trap)
    git("config", "filter.x.required", "true")
    (repository / ".gitattributes").write_text("* filter=x\n")
    os.utime(repository / "one", (1, 1))


def _set_hook(git: Git, repository: Path, trap: str) -> None:
    hooks = repository / "hooks"
    hooks.mkdir()
    (hooks / "post-index-change").symlink_to(trap)
    git("config", "core.hooksPath", str(hooks))
    os.utime(repository / "one", (1, 1))


def _set_submodule(git: Git, repository: Path, trap: str) -> None:
    git("submodule", "add", "-q", str(repository), "inner")
    git("commit", "-qm", "with a submodule")
    git("-C", "inner", "config", "core.fsmonitor", trap)


def _set_transport(git: Git, repository: Path, trap: str) -> None:
    tree = git("rev-parse", "HEAD^{tree}")
    (repository / ".git" / "objects" / tree[:2] / tree[2:]).unlink()
    for name, value in {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.promisor": "true",
        "remote.origin.url": f"ext::{trap} %S",
        "protocol.ext.allow": "always",
    }.items():
        git("config", name, value)


@pytest.mark.parametrize(
    "set_trap", [_set_monitor, _set_filter, _set_hook, _set_submodule, _set_transport]
)
def test_nothing_that_a_repository_names_is_run(
    git: Git,
    repository: Path,
    trap: str,
    ran: Path,
    set_trap: Callable[[Git, Path, str], None],
) -> None:
    """Git itself would run the program, as ``git status`` shows."""
    set_trap(git, repository, trap)
    found = commit_of(repository)
    assert not ran.exists()
    assert found is not None
    assert found.digest == git("rev-parse", "HEAD")
    git("status", "--porcelain", "-uno", check=False)
    assert ran.exists()


def test_a_program_called_git_in_the_working_directory_is_not_run(
    git: Git, repository: Path, trap: str, ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where PATH has that folder, by an empty name or a relative one."""
    digest = git("rev-parse", "HEAD")
    (repository / "git").symlink_to(trap)
    monkeypatch.chdir(repository)
    monkeypatch.setenv("PATH", f":.:{os.environ['PATH']}")
    subprocess.run(["git", "status"], check=True)
    assert ran.exists()
    ran.unlink()
    assert commit_of(repository) == Commit(digest, False)
    assert not ran.exists()
