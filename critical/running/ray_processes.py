"""Ray's own processes: a cluster that is joined, or local ones that nobody else gets at.

Local Ray listens on every interface, and whoever reaches it runs code: it is started behind a
fresh token, and without its dashboard. Its sockets and logs are in a folder that this user alone
may enter, for those of Ray's own choice could be replaced by anybody on the machine.

Ray would put the working directory first on every worker's ``sys.path``, so that a file there
called yaml.py were run. It does not here: a trainable of the user's own knows its folder itself.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from critical.running.private_folder import private_folder

SECRET_VARIABLES = ("CRITICAL_STORAGE",)
"""May hold a password. The driver alone writes to the store, and Ray's processes inherit all."""

VITAL = ("raylet", "gcs_server")
"""Local Ray's processes, children of the driver, without which nothing runs."""


@contextmanager
def ray_processes(workers: int, address: str | None) -> Iterator[None]:
    """Join a running cluster, or start a local one, which is ended afterwards.

    The environment is afterwards what it was before.

    Args:
        workers: Trials at once in a local cluster.
        address: Of a running cluster, or None for a local one.
    """
    withheld: dict[str, str | None] = dict.fromkeys(SECRET_VARIABLES)
    try:
        if address is not None:
            with _environment(withheld), _started(address=address):
                yield
            return
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        with (
            private_folder() as folder,
            _environment(withheld | token),
            _started(
                address="local",
                num_cpus=workers,
                include_dashboard=False,
                # Ray lets everybody write to the folder that it is given, not to the one around.
                _temp_dir=str(folder / "ray"),
            ),
        ):
            yield
    finally:
        _forget_token()


def dead_process() -> str | None:
    """Return the name of a process of the local Ray that has died, if this machine can tell."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    try:
        found = children.read_text().split()
        states = [Path(f"/proc/{pid}/stat").read_text() for pid in found]
    except OSError:
        return None
    for line in states:
        name, _, rest = line.partition("(")[2].rpartition(")")
        if name in VITAL and rest.split()[0] == "Z":
            return name
    return None


@contextmanager
def _started(**options: Any) -> Iterator[None]:  # noqa: ANN401 - Ray's own
    _forget_token()
    import ray
    from ray.job_config import JobConfig

    class OwnPath(JobConfig):  # type: ignore[misc]  # ray ships no types
        """A job whose workers have the ``sys.path`` of their own Python alone."""

        def _runtime_env_has_working_dir(self) -> bool:
            """Say what Ray asks before it adds the folders of the script and of the user."""
            return True

    with _keeping_sigterm():
        ray.init(**options, job_config=OwnPath(), log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _keeping_sigterm() -> Iterator[None]:
    """Put back who handles SIGTERM: Ray would end the driver at once, and at length."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _forget_token() -> None:
    """Let Ray read mode and token from the environment again: it keeps those that it saw first."""
    from ray._raylet import (  # type: ignore[attr-defined]  # compiled
        AuthenticationTokenLoader,
        Config,
    )

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set environment variables, or unset those that are None, and put them back at the end."""
    kept = {name: os.environ.get(name) for name in values}
    _set_environment(values)
    try:
        yield
    finally:
        _set_environment(kept)


def _set_environment(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
