"""What every training framework offers: configurations read, changes for γ, and a hook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from critical.frameworks.documents.document import Document, Format, Scalar
from critical.frameworks.documents.document import Path as KeyPath
from critical.frameworks.reading import Reading


@dataclass(frozen=True, slots=True)
class Source:
    """A configuration that a user named.

    Attributes:
        document: What it says, and how it is edited.
        folder: Where it lies, for files that it names; None where it is no file.
    """

    document: Document
    folder: Path | None = None

    @property
    def name(self) -> str:
        """Return the file's name, without its folder."""
        return self.document.name


@dataclass(frozen=True, slots=True)
class Changes:
    """The values to set for γ.

    Attributes:
        values: By key path; empty where the framework has no key for it.
        notes: Sentences on what these keys cannot say, or what else the user must do.
    """

    values: Mapping[KeyPath, Scalar]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Hook:
    """A Python module that draws with γ in the user's own training, and imports nothing of ours.

    Attributes:
        file_name: What to call it.
        text: The module.
        usage: One sentence: how to use it.
        leaves: Name patterns of the matrices that it does not draw; all others are exact.
    """

    file_name: str
    text: str
    usage: str
    leaves: tuple[str, ...] = ()


class Framework(Protocol):
    """One training framework: how its configuration takes an initialization."""

    @property
    def name(self) -> str:
        """Return what the user types after ``--to``."""
        ...

    @property
    def title(self) -> str:
        """Return what its authors call it, and which version this was checked against."""
        ...

    @property
    def formats(self) -> tuple[Format, ...]:
        """Return how its configurations are written, in the order to try."""
        ...

    def claims(self, document: Document) -> bool:
        """Return whether a document looks like one of its own, by keys that no other has."""
        ...

    def read(self, source: Source) -> Reading:
        """Return the model that a configuration describes, each matrix with the std it has now.

        Raises:
            CriticalError: The configuration cannot be read, or says what is not known here.
        """
        ...

    def changes(self, source: Source, reading: Reading, gamma: float) -> Changes:
        """Return the values to set so that the framework draws with γ as nearly as it can.

        Raises:
            CriticalError: The configuration cannot take γ.
        """
        ...

    def hook(self, reading: Reading, gamma: float) -> Hook | None:
        """Return a module that makes γ exact; None where the edit is exact, or nothing can."""
        ...
