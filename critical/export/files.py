"""Where an edited configuration goes: a file, in one step, or a diff."""

from __future__ import annotations

import difflib
import os
import re
import secrets
import stat
from pathlib import Path

from critical.errors import ExportError


def write_atomically(path: Path, text: str, like: Path | None = None) -> None:
    """Replace a file by a text, or create it, so that no reader ever sees half of it.

    The text goes to a temporary file in the same folder, is forced to the disk and renamed. A
    symbolic link is followed; permissions are kept. Line ends are written as they are.

    Args:
        path: The file.
        text: What it is to hold.
        like: A file whose permissions a new one gets, so that a script can be run; None for the
            usual ones.

    Raises:
        ExportError: The folder is missing or not writable, or the path is not a regular file.
    """
    try:
        _replace(path.resolve(), text.encode("utf-8"), like)
    except (OSError, RuntimeError) as reason:
        why = getattr(reason, "strerror", None) or str(reason)
        raise ExportError(
            f"{path} cannot be written: {why}: write --output with a path in a folder that can"
        ) from reason


def unified_diff(before: str, after: str, file_name: str) -> str:
    """Return the change as ``patch`` and ``git apply`` read it; empty where there is none."""
    lines = difflib.unified_diff(
        _lines(before), _lines(after), f"a/{file_name}", f"b/{file_name}", lineterm="\n"
    )
    marked = (
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )
    return "".join(marked)


def _replace(path: Path, content: bytes, like: Path | None) -> None:
    mode = _mode(path)
    if mode is None and like is not None:
        mode = _mode(like)
    temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(8)}.tmp")
    try:
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode
        )
        with os.fdopen(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(descriptor, mode)  # Unlike the mode at creation, free of the umask.
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _mode(path: Path) -> int | None:
    """Return the permissions of the file that is there; None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        # A rename onto a device or a pipe would put a plain file in its place.
        raise ExportError(f"{path} is not a regular file: write --output with the path of one")
    return stat.S_IMODE(status.st_mode)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lines(text: str) -> list[str]:
    """Split at newlines only: str.splitlines also splits at characters that patch does not."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)
