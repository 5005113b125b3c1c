"""What an audit looks at: a configuration as it was read, and the γ that is recommended for it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from critical.frameworks.reading import Reading


@dataclass(frozen=True, slots=True)
class Recommended:
    """A γ to hold a configuration against.

    Attributes:
        gamma: The exponent, in (0, 4].
        study: The study that recommends it; None where the user wrote it.
        settings: By which of the study's settings, where that was asked for.
        conditions: Sentences on what it rests on.
    """

    gamma: float
    study: str | None = None
    settings: str | None = None
    conditions: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """Return where it comes from, as ``--gamma`` or ``study demo``."""
        return "--gamma" if self.study is None else f"study {self.study}"


@dataclass(frozen=True, slots=True)
class Case:
    """One configuration, and what it is held against.

    Attributes:
        reading: What it says.
        file: Its path, as its user wrote it.
        recommended: The γ to hold it against, or None.
    """

    reading: Reading
    file: str
    recommended: Recommended | None = None

    @property
    def gamma(self) -> float | None:
        """Return the recommended γ, where there is one."""
        return None if self.recommended is None else self.recommended.gamma

    def export_command(self) -> str:
        """Return the command that writes γ into this configuration, and what its keys cannot say.

        Where no γ is recommended G stands for it.
        """
        words = ["critical", "export"]
        one = self.recommended
        if one is not None and one.study is not None:
            words.append(one.study)
        words += ["--to", self.reading.framework, "--config", self.reading.edits or self.file]
        if one is None:
            words += ["--gamma", "G"]
        elif one.study is None:
            words += ["--gamma", f"{one.gamma:.12g}"]
        elif one.settings is not None:
            words += ["--settings", one.settings]
        return shlex.join([*words, "--bundle", "FOLDER"])
