"""Ray on this machine: joined with its token alone, and with nothing of others' on its path."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

JOIN = """
import os, sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
print(ray.get(ray.remote(num_cpus=0)(lambda: "joined").remote()))
"""


def _join(address: str, shell: Mapping[str, str], **environment: str) -> str:
    """Try to run code on a cluster; return what it says."""
    done = subprocess.run(
        [sys.executable, "-c", JOIN, address],
        env={**shell, "RAY_NUM_REDIS_GET_RETRIES": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    return done.stdout + done.stderr


@pytest.mark.ray
def test_local_ray_is_nobody_elses(
    littered: Path,
    hold: Callable[..., Any],
    evil: bytes,
    ran: Path,
    shell: dict[str, str],
    files_with: Callable[..., list[Path]],
    parent_of: Callable[[int], int],
) -> None:
    """Joined with its token alone; its files are private, and none that lies about is run."""
    tune = littered / "critical-work" / "studies" / "default" / "ray" / "tune"
    (tune / "trial").mkdir(parents=True)
    for name in ("tuner.pkl", "trainable.pkl", "trial/error.pkl", "searcher-state-1.pkl"):
        (tune / name).write_bytes(evil)
    state = {"_type": "CLOUDPICKLE_FALLBACK", "value": evil.hex()}
    (tune / "experiment_state-2026-01-01_00-00-00.json").write_text(json.dumps(state))

    held = hold(littered, CRITICAL_STORAGE="sqlite:///critical.db")
    worker, place, names = held.wait()
    assert "CRITICAL_STORAGE" not in names
    assert not files_with(evil, tune)
    assert not files_with(evil.hex(), tune)

    (private,) = held.ray.iterdir()
    assert private.stat().st_mode & 0o777 == 0o700
    assert place.is_relative_to(private)
    variables = Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")
    (token,) = [v.partition(b"=")[2] for v in variables if v.startswith(b"RAY_AUTH_TOKEN=")]
    assert not [each for each in Path("/proc").glob("[0-9]*/cmdline") if token in _read(each)]
    assert not files_with(token.decode(), private, littered, held.folder, Path.home() / ".ray")

    (session,) = private.glob("ray/session_2*")
    (gcs,), (agent,) = session.glob("gcs_server_port_*"), session.glob("runtime_env_agent_port_*")
    host = next(w for w in _read(Path(f"/proc/{parent_of(worker)}/cmdline")).decode().split("\0")
                if w.startswith("--node_ip_address=")).partition("=")[2]  # fmt: skip
    address = f"{host}:{gcs.read_text()}"
    assert "Unauthenticated" in _join(address, shell)
    wrong = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
    assert "Unauthenticated" in _join(address, shell, **wrong)
    with pytest.raises(HTTPError, match="401"):
        urlopen(f"http://{host}:{agent.read_text()}/get_or_create_runtime_env", b"{}", timeout=10)
    assert "joined" in _join(address, shell, **wrong | {"RAY_AUTH_TOKEN": token.decode()})

    assert held.go() == 0, held.err.read_text()
    assert not ran.exists(), ran.read_text()
    assert list(held.ray.iterdir()) == []


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # the process has ended
        return b""
