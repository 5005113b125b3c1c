"""Holding the lease of a study while it is searched: who this process is, and a heartbeat."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from critical.storage.errors import LeaseLost, StoreError
from critical.storage.leases import LEASE_SECONDS
from critical.storage.records import LeaseRecord, Process, StudyRecord, as_held
from critical.storage.store import Store

BEATS = 4
"""Renewals within the time that a lease lasts: some may fail, as on a database that is locked."""
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")


def this_process() -> Process:
    """Describe this process so that another one on this machine can tell whether it still runs."""
    return Process(socket.gethostname(), _machine(), os.getpid(), _started(os.getpid()) or "")


def is_gone(process: Process) -> bool:
    """Whether a process is known to have ended.

    Only one of this machine and boot can be looked for, in the same process namespace; of others
    nothing is known.
    """
    here = this_process()
    if not here.machine or (process.host, process.machine) != (here.host, here.machine):
        return False
    return _started(process.pid) != process.started


def as_it_is(study: StudyRecord, lease: LeaseRecord | None) -> StudyRecord:
    """Return a study with the state that it is in: one whose driver is gone is interrupted."""
    held = None if lease is None or is_gone(lease.process) else lease
    return as_held(study, held)


@contextmanager
def holding(
    store: Store,
    study: StudyRecord,
    environment: Mapping[str, Any],
    seconds: float = LEASE_SECONDS,
) -> Iterator[LeaseRecord]:
    """Hold a study's lease, renewing it in a thread of its own, and release it at the end.

    Args:
        store: Of the study; from now on it writes to the study under the lease.
        study: To be searched.
        environment: Under what this driver runs, kept with the lease.
        seconds: How long the lease lasts where this process dies without a word.

    Raises:
        StudyBusy: Another driver holds it.
    """
    lease = store.acquire(
        study.id, this_process(), is_gone=is_gone, environment=dict(environment), seconds=seconds
    )
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(seconds / BEATS):
            try:
                store.renew(lease, seconds)
            except LeaseLost:
                return  # the driver's next write says so
            except StoreError:
                continue  # locked, or not to be reached for a while: there is time to try again

    thread = threading.Thread(target=beat, name="critical-lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        ended.set()
        thread.join()
        store.release(lease)


def _machine() -> str:
    try:
        return f"{_BOOT.read_text().strip()}/{_NAMESPACE.stat().st_ino}"
    except OSError:  # no Linux: a lease is waited for
        return ""


def _started(pid: int) -> str | None:
    """When a process started, in the kernel's clock ticks since boot; None where there is none."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the program's name in parentheses, and may hold anything.
    fields = line.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else fields[19]
