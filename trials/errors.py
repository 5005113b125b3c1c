"""What the user gave to a trial and cannot be used, in one sentence."""

from __future__ import annotations


class TrialError(Exception):
    """A corpus, a mixture or a trainable that cannot be used. Exit status 2."""

    exit_status = 2


class CorpusError(TrialError):
    """A corpus that is missing, empty, or not text."""


class MixtureError(TrialError):
    """Fractions of a mixture that cannot be read."""


class TrainableError(TrialError):
    """A user's own trial that cannot be loaded."""
