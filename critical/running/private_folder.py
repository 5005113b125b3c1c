"""A temporary folder that this user alone may enter, and that goes though its process is killed.

Not within the work directory: Ray has sockets there, and a socket's path may have 107 characters.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "critical-ray-"
_LOCK = "lock"
"""The process that uses a folder holds a lock on this file, which ends with the process."""
_NEW_SECONDS = 60.0


@contextmanager
def private_folder() -> Iterator[Path]:
    """Make a folder and remove it at the end; after an error it stays, for its logs may say more.

    Those that other processes have left are removed when the next one is made.
    """
    place = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    _remove_abandoned(place)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
    with (folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(place: Path) -> None:
    for folder in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another user's, or in use
            status = folder.lstat()
            is_new = time.time() - status.st_mtime < _NEW_SECONDS  # perhaps not locked yet
            if status.st_uid == os.geteuid() and not is_new:
                with (folder / _LOCK).open("r+") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
