"""Under what a driver runs its trials: kept with each search, so that it can be run again."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("critical", "torch", "ray", "optuna", "numpy", "scipy", "sqlalchemy", "safetensors")
_GIT_SECONDS = 5.0


def environment() -> dict[str, Any]:
    """Describe this process's surroundings, as JSON.

    No environment variable and no argument is kept, for a secret may be in one.
    """
    return {
        "versions": {"python": platform.python_version()} | _versions(),
        "platform": platform.platform(),
        "host": platform.node(),
        "devices": _devices(),
        "git": _git(Path.cwd()),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _devices() -> list[str]:
    import torch

    if torch.cuda.is_available():
        return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return [f"{_processor()}, {os.cpu_count()} cores"]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _git(folder: Path) -> dict[str, Any] | None:
    """Return the commit of the working directory, and whether files differ from it."""
    commit = _ask_git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    return {"commit": commit, "modified": bool(_ask_git(folder, "status", "--porcelain", "-uno"))}


def _ask_git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=_GIT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
