"""Running a study's trials again, each as it was: which is next, and which is which's repetition.

Pure: from the original's trials and the repeat's own so far to an intent. A repeat depends neither
on timing nor on a sampler: arm, role, γ, learning rate and seed are taken from the stored rows, in
number order, whatever the order in which they end.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from critical.plan import Plan
from critical.running.agenda import ATTEMPTS, Intent, Signal
from critical.storage.records import COUNTED, OPEN, Role, StudyRecord, TrialRecord, TrialState

_Key = tuple[str, Role, float, float | None, int]


@dataclass(frozen=True, slots=True)
class Original:
    """What is to be run again.

    Attributes:
        study: As it is stored.
        trials: Those of it that ended with a result, in number order: completed, diverged or
            stopped. What failed or is open is not run again.
    """

    study: StudyRecord
    trials: tuple[TrialRecord, ...]


def original_of(study: StudyRecord, trials: Sequence[TrialRecord]) -> Original:
    """Take from a study's trials, in number order, those that a repeat has."""
    return Original(study, tuple(trial for trial in trials if trial.state in COUNTED))


def next_repetition(
    plan: Plan, originals: Sequence[TrialRecord], trials: Sequence[TrialRecord]
) -> Intent | Signal:
    """Return the first of the original's trials that has not been begun again.

    What fails is tried again as often as a reference is, and then given up.

    Args:
        plan: Of the repeat; it has the original's arms.
        originals: What is to be run again, in number order.
        trials: Of the repeat, without what had failed when it was opened.
    """
    begun = Counter(_key(trial) for trial in trials if trial.state is not TrialState.FAILED)
    failed = Counter(_key(trial) for trial in trials if trial.state is TrialState.FAILED)
    seen: Counter[_Key] = Counter()
    for original in originals:
        key = _key(original)
        seen[key] += 1
        # A sampler may have proposed the same twice: as many are to be run again.
        if seen[key] > begun[key] + failed[key] // ATTEMPTS:
            return Intent(
                plan.arm(original.arm),
                original.role,
                original.seed,
                original.gamma,
                original.learning_rate,
            )
    return Signal.WAIT if any(trial.state in OPEN for trial in trials) else Signal.DONE


def pair(
    originals: Sequence[TrialRecord], trials: Sequence[TrialRecord]
) -> list[tuple[TrialRecord, TrialRecord | None]]:
    """Put beside each original its repetition that has not failed, None where there is none."""
    repetitions: dict[_Key, list[TrialRecord]] = defaultdict(list)
    for trial in reversed(trials):
        if trial.state is not TrialState.FAILED:
            repetitions[_key(trial)].append(trial)
    found = []
    for original in originals:
        same = repetitions[_key(original)]
        found.append((original, same.pop() if same else None))
    return found


def _key(trial: TrialRecord) -> _Key:
    """What makes two trials of studies with the same arms the same."""
    return trial.arm, trial.role, trial.gamma, trial.learning_rate, trial.seed
