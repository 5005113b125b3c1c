"""What the user gave to a trial and cannot be used, in one sentence."""

from __future__ import annotations


class TrialError(Exception):
    """A corpus, a mixture or a trainable that cannot be used. Exit status 2."""

    exit_status = 2


class CorpusError(TrialError):
    """A corpus that is missing, empty, or not text."""


class MixtureError(TrialError):
    """Fractions of a mixture that cannot be read."""


class SettingsError(TrialError):
    """Settings of an arm that are not known, or that the model cannot have."""


class ModelError(TrialError):
    """A target's own family that cannot be built as a proxy."""


class TrainableError(TrialError):
    """A user's own trial that cannot be loaded."""
