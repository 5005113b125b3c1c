"""Files that lie about are not imported, whatever they are called."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path


def test_no_file_of_the_working_directory_is_imported(
    littered: Path,
    own_trial: str,
    ran: Path,
    program: str,
    short: tuple[str, ...],
    shell: dict[str, str],
) -> None:
    """By the program, or by ``python -m``, which Python itself would have import what is there."""
    search = (*short, "--workers", "0", "--trainable", own_trial)
    subprocess.run([program, *search], cwd=littered, env=shell, check=True, capture_output=True)
    assert not ran.exists()

    # What Python imports before it comes to us, it takes from there; see python -P.
    for name in (*sys.stdlib_module_names, "critical", "sitecustomize"):
        (littered / f"{name}.py").unlink(missing_ok=True)
    module = [sys.executable, "-m", "critical", *search]
    subprocess.run(module, cwd=littered, env=shell, check=True, capture_output=True)
    assert not ran.exists()


def test_a_module_of_the_working_directory_is_still_found(
    tmp_path: Path, analytic: str, short: tuple[str, ...], shell: dict[str, str]
) -> None:
    """As ``module:NAME``, where the user asks for it."""
    shutil.copy(analytic.rpartition(":")[0], tmp_path / "own_module.py")
    arguments = (*short, "--workers", "0", "--trainable", "own_module:train", "--dry-run")
    module = [sys.executable, "-m", "critical", *arguments]
    subprocess.run(module, cwd=tmp_path, env=shell, check=True, capture_output=True)
