"""Whether the settings that are searched side by side agree on γ*: else none is told alone."""

from __future__ import annotations

from collections.abc import Sequence

from critical.storage.records import PosteriorRecord, SettingsPosterior

DISAGREEMENT = 0.05
"""Settings whose γ* differ by more, median from median, have no γ* in common."""
SETTINGS_DISAGREE = "settings disagree"
"""The verdict on such a γ*, in place of its own."""


def agree(medians: Sequence[float]) -> bool | None:
    """Return whether medians of γ*, one of each of the settings, agree; None for fewer than two."""
    if len(medians) < 2:
        return None
    return max(medians) - min(medians) <= DISAGREEMENT


def disagreeing(record: PosteriorRecord) -> tuple[SettingsPosterior, ...]:
    """Return what each of the settings says if they disagree, at the target, else nothing.

    Settings under which no scale has learned say nothing of the target, and take no part.
    """
    answers = tuple(one for one in record.answers if one.target is not None)
    medians = [one.target.gamma_star.median for one in answers if one.target is not None]
    return answers if agree(medians) is False else ()
