"""Where a search keeps what its trials save: a folder of its own in the work directory.

    WORK_DIR/corpora               token files
    WORK_DIR/studies/NAME/trial-7  what trial 7 saves to go on from, removed once it has ended
    WORK_DIR/studies/NAME/ray      what Ray writes, removed when the search stops

Names come from users and configurations: none may lead out of its folder.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import uuid
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from critical.errors import OptionError
from critical.trials.run import STOP_FILE

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
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

    def check(self) -> None:
        """Make sure that something can be written, before anything is run.

        Raises:
            OptionError: It cannot.
        """
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
        """Return the folder of a trial that is about to run, without a stop sign in it."""
        folder = self.trial(number)
        (folder / STOP_FILE).unlink(missing_ok=True)
        return folder

    def stop(self, number: int) -> None:
        """Tell a running trial to save its state and stop; it sees a file."""
        folder = self.trial(number)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / STOP_FILE).touch()

    def remove(self, number: int) -> None:
        """Remove what a trial saved, now that it has ended."""
        shutil.rmtree(self.trial(number), ignore_errors=True)

    def tidy(self, going_on: Collection[int]) -> None:
        """Remove the folders of all trials but those that go on, and what a dead Ray left."""
        for path in self.path.glob("trial-*"):
            match = _TRIAL.fullmatch(path.name)
            if match and int(match[1]) not in going_on:
                shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(self.ray, ignore_errors=True)

    def close(self) -> None:
        """Remove the folders above the trials' where nothing is left in them."""
        shutil.rmtree(self.ray, ignore_errors=True)
        for path in (self.path, self.path.parent, self.path.parent.parent):
            try:
                path.rmdir()
            except OSError:
                return


def folder_name(study: str) -> str:
    """Return a name for a study's folder: its own where that is plain, else one with a digest.

    No two studies share a folder, and none's name leads out of its parent.
    """
    if _PLAIN.fullmatch(study):
        return study
    digest = hashlib.blake2b(study.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    plain = re.sub(r"[^A-Za-z0-9]+", "-", study).strip("-")[:60]
    return f"{plain or 'study'}-x{digest}"
