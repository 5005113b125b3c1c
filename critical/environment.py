"""Under what a driver runs its trials: kept with each search, so that it can be run again."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from critical.git_commit import commit_of

PACKAGES = ("critical", "torch", "ray", "optuna", "numpy", "scipy", "sqlalchemy", "safetensors")


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


def aspects(described: Mapping[str, Any]) -> dict[str, str]:
    """Return what may make two environments' trials differ, by name, each as it is shown.

    Args:
        described: What ``environment`` returned; of an older version's, what it has.
    """
    found = dict(described.get("versions", {}))
    devices = described.get("devices", [])
    if devices:
        found["devices"] = " and ".join(
            name if devices.count(name) == 1 else f"{devices.count(name)} × {name}"
            for name in dict.fromkeys(devices)
        )
    if "git" in described:
        found["commit"] = _commit(described["git"])
    return found


def _commit(git: Mapping[str, Any] | None) -> str:
    if git is None:
        return "none"
    modified = {True: ", modified", False: "", None: ", perhaps modified"}
    return str(git["commit"])[:12] + modified[git["modified"]]


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
    found = commit_of(folder)
    return None if found is None else {"commit": found.digest, "modified": found.modified}
