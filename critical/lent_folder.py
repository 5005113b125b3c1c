"""A work directory for a plan that is only shown: it has what there is, and what is made goes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

_CORPORA = "corpora"


@contextmanager
def lent_work_dir(work_dir: Path) -> Iterator[Path]:
    """Lend a temporary folder in which the corpora of a work directory can be read.

    They are links: the text that a study was begun with is found, and a tokenized corpus is not
    tokenized again. Writers put another file in a link's place and never write through it.
    """
    with TemporaryDirectory(prefix="critical-plan-") as name:
        lent = Path(name)
        (lent / _CORPORA).mkdir()
        for kept in (work_dir.absolute() / _CORPORA).glob("*"):
            (lent / _CORPORA / kept.name).symlink_to(kept)
        yield lent
