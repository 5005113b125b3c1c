"""Where a search keeps what its trials save: a folder of its own in the work directory.

    WORK_DIR/corpora               token files
    WORK_DIR/studies/NAME/trial-7  what trial 7 saves to go on from, removed once it has ended
    WORK_DIR/studies/NAME/ray      what Ray writes, removed when the search stops

Names come from users and configurations: none may lead out of its folder. Nor may a symbolic link
that somebody else has put there: what is removed is the link, never what it points to.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from critical.errors import OptionError
from critical.trials.run import STOP_FILE
from critical.trials.watch_pack import DROP_FILE

# The capital of llama-d512-L8 alone is plain: a file system may not tell names by their case. What
# ends as the names that folder_name makes is not.
_PLAIN = re.compile(r"(?!.*(-l[0-9]+|-x[0-9a-f]{16})$)[a-z0-9][a-z0-9._-]{0,99}(-L[0-9]{1,9})?")
_TRIAL = re.compile(r"trial-(\d+)")


class StudyFolder:
    """The folder of one study. Nothing is made before it is needed."""

    def __init__(self, work_dir: Path, study: str) -> None:
        self.path = work_dir.absolute() / "studies" / folder_name(study)

    @property
    def ray(self) -> Path:
        """Where Ray writes."""
        return self.path / "ray"

    def trial(self, number: int) -> Path:
        """Return the folder of a trial."""
        return self.path / f"trial-{number}"

    def _check(self) -> None:
        for path in (self.path.parent, self.path):
            if path.is_symlink():
                raise OptionError(
                    f"{path} is a symbolic link, which may lead anywhere: remove it, or name "
                    "another work directory with --work-dir"
                )
        probe = self.path / f".{uuid.uuid4().hex}"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"critical")
        except OSError as error:
            raise OptionError(
                f"work directory {self.path} cannot be written ({error.strerror}): "
                "name another with --work-dir"
            ) from error
        finally:
            # A folder that is missing or may not be looked into holds no probe of ours.
            with suppress(OSError):
                probe.unlink(missing_ok=True)

    def begin(self, number: int) -> Path:
        """Return the folder of a trial that is about to run, without a sign to end in it."""
        folder = self.trial(number)
        if folder.is_symlink():
            folder.unlink()
        for sign in (STOP_FILE, DROP_FILE):
            (folder / sign).unlink(missing_ok=True)
        return folder

    def stop(self, number: int) -> None:
        """Tell a running trial to save its state and stop; it sees a file."""
        folder = self.trial(number)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / STOP_FILE).touch()

    def drop(self, number: int) -> None:
        """Tell a running trial to end, and leave those that are trained with it; a file too."""
        folder = self.trial(number)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DROP_FILE).touch()

    def remove(self, number: int) -> None:
        """Remove what a trial saved, now that it has ended."""
        _discard(self.trial(number))

    def tidy(self, going_on: Collection[int]) -> None:
        """Remove the folders of all trials but those that go on, and what a dead Ray left."""
        for path in self.path.glob("trial-*"):
            match = _TRIAL.fullmatch(path.name)
            if match and int(match[1]) not in going_on:
                _discard(path)
        _discard(self.ray)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Check that it can be written, and remove at the end whatever has nothing in it.

        Raises:
            OptionError: It cannot, or a symbolic link could lead out of the work directory.
        """
        self._check()
        try:
            yield
        finally:
            _discard(self.ray)
            with suppress(OSError):  # the first one that is not empty
                for path in (self.path, self.path.parent, self.path.parent.parent):
                    path.rmdir()


def folder_name(study: str) -> str:
    """Return a name for a study's folder: its own where that is plain, else one with a digest.

    No two studies share a folder, even where names that differ by case are one; and none's name
    leads out of its parent.
    """
    if _PLAIN.fullmatch(study):
        return study
    digest = hashlib.blake2b(study.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    plain = re.sub(r"[^A-Za-z0-9]+", "-", study).strip("-")[:60]
    return f"{plain or 'study'}-x{digest}"


def _discard(folder: Path) -> None:
    """Remove a folder with what is in it as far as possible, or a link to one and nothing else."""
    if folder.is_symlink():  # which rmtree leaves alone
        with suppress(OSError):
            folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)
