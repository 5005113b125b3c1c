"""What the tests of the core share: the analytic trial, whose γ* is known, and how to run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ANALYTIC = f"{ROOT / 'examples' / 'analytic_trial.py'}:train"
CONFIG = ROOT / "examples" / "llama-small.json"

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
