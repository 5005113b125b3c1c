"""The sentences that users read: what was wrong, where, and what to write instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class CriticalError(Exception):
    """The user's command line, or a file that it names, is wrong. Exit status 2."""

    exit_status = 2


class BudgetError(CriticalError):
    """A budget that cannot be read, is too small, or needs a device that is not there."""


class TargetError(CriticalError):
    """A model configuration that is missing, malformed or of a shape that is not known."""


class ExportError(CriticalError):
    """A training configuration that cannot be edited, or a framework that is not known."""


class OptionError(CriticalError):
    """An option's value that is not allowed, or a study that exists with another one."""


class RunError(CriticalError):
    """The work itself failed. Exit status 1."""

    exit_status = 1


class Interruption(CriticalError):  # noqa: N818 - an end like others, and no error
    """The user interrupted the search; everything is stored. Exit status 1.

    Attributes:
        recommendation: The JSON of ``critical recommend`` so far; None where nothing is known yet.
    """

    exit_status = 1

    def __init__(self, recommendation: Mapping[str, Any] | None) -> None:
        super().__init__("interrupted: all is stored, and the same command goes on")
        self.recommendation = recommendation
