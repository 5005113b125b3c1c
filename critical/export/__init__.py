"""A recommended γ, written into the training configuration that its user already has."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from critical.errors import ExportError
from critical.export.hf import HuggingFace
from critical.export.report import ExportReport, Framework, MatrixReport

__all__ = ["FRAMEWORKS", "ExportReport", "Framework", "MatrixReport", "export", "framework"]

_LARGEST_GAMMA = 4.0

_ALL: tuple[Framework, ...] = (HuggingFace(),)
FRAMEWORKS: Final = MappingProxyType({each.name: each for each in _ALL})
"""Every framework that can be exported to, by name."""


def framework(name: str) -> Framework:
    """Return the framework of that name.

    Raises:
        ExportError: No framework has it; the message lists those that there are.
    """
    try:
        return FRAMEWORKS[name]
    except KeyError:
        known = ", ".join(sorted(FRAMEWORKS))
        raise ExportError(f"framework {name!r} is not known: write one of {known}") from None


def export(to: str, text: str, file_name: str, gamma: float) -> tuple[str, ExportReport]:
    """Write γ into a training configuration.

    Args:
        to: The framework's name, as in ``hf``.
        text: The configuration, its line ends as they are in the file.
        file_name: Its name, for messages.
        gamma: The exponent, in (0, 4].

    Returns:
        The edited text, and what it yields for every matrix.

    Raises:
        ExportError: The framework is not known, γ is out of range, or the file cannot take it.
        TargetError: The file does not describe a model that can be read.
    """
    chosen = framework(to)
    if not 0 < gamma <= _LARGEST_GAMMA:
        raise ExportError(f"γ {gamma} is not in (0, {_LARGEST_GAMMA:g}]: write one, as 0.7")
    edited = chosen.edit(text, file_name, gamma)
    return edited, chosen.report(edited, file_name, gamma)
