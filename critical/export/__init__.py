"""A recommended γ, written into the training configuration that its user already has."""

from __future__ import annotations

from dataclasses import dataclass, replace

from critical.errors import ExportError
from critical.export.report import ExportReport, MatrixReport, reported
from critical.frameworks import Framework, Hook, Reading, Source, framework

__all__ = ["Edited", "ExportReport", "MatrixReport", "check_gamma", "export"]

_LARGEST_GAMMA = 4.0


@dataclass(frozen=True, slots=True)
class Edited:
    """A configuration with γ in it.

    Attributes:
        text: The edited file; as it was where the framework has no key for an initialization.
        report: What it yields for every matrix, read back from that text.
        hook: The module that makes it exact; None where the edit is exact, or nothing can.
    """

    text: str
    report: ExportReport
    hook: Hook | None


def export(to: str, source: Source, gamma: float, before: Reading | None = None) -> Edited:
    """Write γ into a training configuration, and read back what that yields.

    Args:
        to: The framework's name, as in ``hf``.
        source: The configuration.
        gamma: The exponent, in (0, 4].
        before: What the framework reads from it, where that is known: building a model takes
            seconds in some families.

    Raises:
        CriticalError: The framework is not known, γ is out of range, or the file cannot be read,
            or cannot take γ.
    """
    chosen = framework(to)
    check_gamma(gamma)
    before = before or chosen.read(source)
    changes = chosen.changes(source, before, gamma)
    text = source.document.edited(changes.values) if changes.values else source.document.text
    after = read_back(chosen, source, text)
    hook = chosen.hook(after, gamma)
    report = reported(after, before, gamma, changes.notes, hook, chosen.title)
    return Edited(text, report, None if report.exact else hook)


def check_gamma(gamma: float) -> None:
    """Refuse what is no exponent to draw with.

    Raises:
        ExportError: γ is not in (0, 4].
    """
    if not 0 < gamma <= _LARGEST_GAMMA:
        raise ExportError(f"γ {gamma} is not in (0, {_LARGEST_GAMMA:g}]: write one, as 0.7")


def read_back(chosen: Framework, source: Source, text: str) -> Reading:
    """Read an edited text as the framework will.

    Raises:
        CriticalError: It cannot be read.
    """
    return chosen.read(replace(source, document=source.document.with_text(text)))
