"""At which commit a folder is, and whether files differ from it; nothing of a repository's is run.

A repository may have been downloaded with its settings, and those name programs that git runs to
look at files: filters, hooks, a file system monitor, transports. So git first only says where the
repository is and at which commit, which runs nothing and heeds ``safe.directory``. Whether files
differ, it says of a git directory made here, with that index and those objects and no settings.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_SECONDS = 5.0
_SETTINGS = """[core]
repositoryformatversion = 1
[extensions]
objectFormat = {object_format}
"""


@dataclass(frozen=True, slots=True)
class Commit:
    """The state of a working directory.

    Attributes:
        digest: Of the commit, hexadecimal.
        modified: Whether tracked files differ from it; None where that cannot be told.
    """

    digest: str
    modified: bool | None


def commit_of(folder: Path) -> Commit | None:
    """Return the commit of the repository that a folder is in; None where there is none to tell."""
    git = _program()
    asked = ("HEAD", "--show-toplevel", "--git-path", "index", "--git-path", "objects")
    found = _run([git, "-C", str(folder), "rev-parse", *asked, "--show-object-format"], os.environ)
    lines = (found or "").splitlines()
    if len(lines) != 5:
        return None
    digest, tree, index, objects, object_format = lines
    with tempfile.TemporaryDirectory(prefix="critical-git-") as directory:
        Path(directory, "refs").mkdir()
        Path(directory, "HEAD").write_text(f"{digest}\n")
        Path(directory, "config").write_text(_SETTINGS.format(object_format=object_format))
        places = {
            "GIT_DIR": directory,
            "GIT_WORK_TREE": tree,
            "GIT_INDEX_FILE": str(Path(folder, index).absolute()),
            "GIT_OBJECT_DIRECTORY": str(Path(folder, objects).absolute()),
        }
        status = ("status", "--porcelain", "-uno", "--ignore-submodules=all")
        changes = _run([git, "-C", tree, *status], _without_settings() | places)
    return Commit(digest, None if changes is None else bool(changes))


def _program() -> str:
    """Return git's path; the working directory is not looked at, though PATH may name it."""
    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    absolute = os.pathsep.join(place for place in places if Path(place).is_absolute())
    return shutil.which("git", path=absolute) or "/usr/bin/git"


def _without_settings() -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # No lock of git's is taken, lest a commit that the user makes meanwhile fails.
    none = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_OPTIONAL_LOCKS": "0"}
    return own | none


def _run(command: list[str], environment: Mapping[str, str]) -> str | None:
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
