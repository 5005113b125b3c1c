"""Whether a repeat's trials came out as the original's: curves to the bit, and what ran them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from critical.environment import aspects
from critical.repetition import Original, pair
from critical.storage.records import (
    COUNTED,
    LeaseRecord,
    MeasurementRecord,
    StudyRecord,
    TrialRecord,
)
from critical.storage.store import Store

_SHOWN = 5
"""Trials that are named one by one; the JSON has them all."""


def compare(store: Store, original: Original, repeat: StudyRecord) -> dict[str, Any]:
    """Compare a repeat with its original.

    A trial is compared if it ended as the original's did (completed, diverged or stopped): it is
    the same where every measurement has the same tokens, loss, reasoning and extras, exactly.
    Seconds are not compared.

    Returns:
        JSON: ``of``, the original's name; ``trials``, how many were compared; ``same``, how many
        of them are the same; ``differing``, the others; ``ended_otherwise``, those not compared;
        ``left``, how many have not been run again to an end; and ``environment``, what differs by
        name, each with the original's values and the repeat's. In ``differing``: both numbers, the
        ``tokens`` of the first measurement that differs, and ``reasoning``, R then and now.
    """
    differing, otherwise, same, left = [], [], 0, 0
    for then, now in pair(original.trials, store.trials(repeat.id)):
        if now is None or now.state not in COUNTED:
            left += 1
        elif then.state is not now.state:
            otherwise.append(_places(then, now) | {"states": [then.state.value, now.state.value]})
        else:
            curves = store.trial_measurements(then.id), store.trial_measurements(now.id)
            tokens = _first_difference(*curves)
            same += tokens is None
            if tokens is not None:
                reasoning = [then.reasoning, now.reasoning]
                differing.append(_places(then, now) | {"tokens": tokens, "reasoning": reasoning})
    return {
        "of": original.study.name,
        "trials": same + len(differing),
        "same": same,
        "differing": differing,
        "ended_otherwise": otherwise,
        "left": left,
        "environment": differing_environments(
            store.leases(original.study.id), store.leases(repeat.id)
        ),
    }


def differing_environments(
    then: Sequence[LeaseRecord], now: Sequence[LeaseRecord]
) -> dict[str, list[list[str]]]:
    """Return what differs between the environments of two studies' drivers.

    Args:
        then: Every lease of one, oldest first.
        now: Every lease of the other.

    Returns:
        By name (``torch``, ``devices``, ``commit``, …) the values of each; empty where they are
        the same, or where nothing is known of one of them.
    """
    before, after = _values(then), _values(now)
    if not before or not after:
        return {}
    names = dict.fromkeys([*before, *after])
    pairs = {name: [before.get(name, []), after.get(name, [])] for name in names}
    return {name: two for name, two in pairs.items() if set(two[0]) != set(two[1])}


def sentences(document: Mapping[str, Any]) -> Iterator[str]:
    """Say in sentences what ``compare`` found."""
    of = document["of"]
    yield (
        f"{document['same']} of {document['trials']} trials are the same to the bit as those of "
        f"{of!r}"
    )
    named = [
        f"trial {one['number']} differs from trial {one['original']} of {of!r} from token "
        f"{one['tokens']} on{_reasoning(one['reasoning'])}"
        for one in document["differing"]
    ]
    named += [
        f"trial {one['number']} ended as {one['states'][1]}, trial {one['original']} of {of!r} as "
        f"{one['states'][0]}"
        for one in document["ended_otherwise"]
    ]
    yield from named[:_SHOWN]
    if len(named) > _SHOWN:
        yield f"and {len(named) - _SHOWN} more, which --json lists"
    if document["left"]:
        yield f"{document['left']} of its trials have not been run again to an end"
    for name, (then, now) in document["environment"].items():
        yield f"{name} differs: {_either(then)} then, {_either(now)} now"


def _places(then: TrialRecord, now: TrialRecord) -> dict[str, Any]:
    return {"number": now.number, "original": then.number, "width": now.width, "gamma": now.gamma}


def _first_difference(
    then: Sequence[MeasurementRecord], now: Sequence[MeasurementRecord]
) -> int | None:
    """Tokens of the first measurement that differs, None where the curves are the same."""
    for one, other in zip(then, now, strict=False):
        if _numbers(one) != _numbers(other):
            return min(one.tokens, other.tokens)
    if len(then) == len(now):
        return None
    return max(then, now, key=len)[min(len(then), len(now))].tokens


def _numbers(one: MeasurementRecord) -> tuple[object, ...]:
    return one.tokens, one.loss, one.reasoning, dict(one.extras)


def _values(leases: Sequence[LeaseRecord]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for lease in leases:
        for name, value in aspects(lease.environment).items():
            values = found.setdefault(name, [])
            if value not in values:
                values.append(value)
    return found


def _reasoning(two: Sequence[float | None]) -> str:
    then, now = two
    return "" if then is None or now is None else f": R {then:.4f} then, {now:.4f} now"


def _either(values: Sequence[str]) -> str:
    return " or ".join(values) or "none"
