"""What went wrong in a study, in lines: what many trials share is said once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from critical.storage.records import ChargeRecord, TrialRecord, TrialState

FEW = 3
"""So many trials of one reason have a line each; of more, so many are named."""
MOST_REASONS = 20
"""Of more reasons, those of the latest trials are told."""


@dataclass(frozen=True, slots=True)
class _Incident:
    """Something that went wrong with a trial: in a sentence, and as many of its kind are told."""

    trial: int
    sentence: str
    kind: str


def failures(trials: Iterable[TrialRecord]) -> list[str]:
    """Say why trials did not complete, or wait to go on; those without a reason are left out."""
    return _lines(
        _Incident(
            t.number,
            f"trial {t.number} (width {t.width}, γ {t.gamma:.3f}) {t.state.value}: {t.reason}",
            f"trials {t.state.value}: {t.reason}",
        )
        for t in trials
        if t.reason
    )


def lost_attempts(charges: Iterable[ChargeRecord], trials: Iterable[TrialRecord]) -> list[str]:
    """Say why attempts ended before their trials did.

    The last one of a trial that waits to go on is left out, for ``failures`` says it.

    Args:
        charges: Of one study.
        trials: Those of it that have a reason.
    """
    waiting = {t.number: t.attempts - 1 for t in trials if t.state is TrialState.INTERRUPTED}
    return _lines(
        _Incident(
            number,
            f"an attempt at trial {number} ended after {charge.charged_seconds or 0.0:.1f} "
            f"device-seconds: {charge.reason}",
            f"attempts ended before their trials did: {charge.reason}",
        )
        for charge in charges
        if charge.reason
        and (number := charge.trial_number) is not None
        and waiting.get(number) != charge.attempt
    )


def unsaved(saves: Mapping[int, float]) -> list[str]:
    """Say which trials could not save their state.

    Args:
        saves: How many saves failed, by trial number.
    """
    return _lines(
        _Incident(
            number,
            f"trial {number} could not be checkpointed" + (f", {n:.0f} times" if n > 1 else ""),
            "trials could not be checkpointed",
        )
        for number, n in saves.items()
    )


def _lines(incidents: Iterable[_Incident]) -> list[str]:
    kinds: dict[str, list[_Incident]] = defaultdict(list)
    for incident in sorted(incidents, key=lambda one: one.trial):
        kinds[incident.kind].append(incident)
    ordered = sorted(kinds.values(), key=lambda found: found[-1].trial)
    untold = sum(map(len, ordered[:-MOST_REASONS]))
    head = [f"{untold} more for other reasons: --json has them all"] if untold else []
    return head + [line for found in ordered[-MOST_REASONS:] for line in _told(found)]


def _told(found: list[_Incident]) -> list[str]:
    if len(found) <= FEW:
        return [incident.sentence for incident in found]
    *others, last = (str(incident.trial) for incident in found[-FEW:])
    return [f"{len(found)} {found[-1].kind}; the last: trials {', '.join(others)} and {last}"]
