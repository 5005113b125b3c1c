"""The gain that fresh, paired seeds show: γ* against the reference on the widest scale.

    ΔR      R at γ* − R at the reference, of one seed
    log₂ ρ  of γ* against the reference run of the same seed, octaves

The interval is Student's t over the pairs; one pair has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from critical.inference.objectives import Run, efficiency, reasoning_score
from critical.inference.student import central_quantile

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Gain:
    """What γ* gained over the reference.

    Attributes:
        gamma: The γ that was confirmed.
        width: Scale on which it was.
        pairs: Number of seeds.
        reasoning: Mean ΔR.
        efficiency: ρ, the geometric mean over pairs.
        reasoning_interval: 90% interval of ΔR, or None with fewer than two pairs.
        efficiency_interval: 90% interval of ρ, or None with fewer than two pairs.
    """

    gamma: float
    width: int
    pairs: int
    reasoning: float
    efficiency: float
    reasoning_interval: Range | None
    efficiency_interval: Range | None


def measured_gain(runs: Sequence[Run], floor: float | None) -> Gain | None:
    """Compare the confirmation runs seed by seed; None where no pair has completed.

    Args:
        runs: Confirmation runs. Where several γ were confirmed, the last one counts.
        floor: Loss where the mixture counts as solved, nats per token, or None.
    """
    finished = [run for run in runs if not run.diverged]
    references = {(run.width, run.seed): run for run in finished if run.reference}
    tried = [run for run in finished if not run.reference and (run.width, run.seed) in references]
    if not tried:
        return None
    last = tried[-1]
    same = (last.gamma, last.learning_rate, last.width)
    pairs = [
        (run, references[run.width, run.seed])
        for run in tried
        if (run.gamma, run.learning_rate, run.width) == same
    ]
    reasoning = [reasoning_score(a.curve) - reasoning_score(b.curve) for a, b in pairs]
    octaves = [efficiency(a.curve, b.curve, floor).log2 for a, b in pairs]
    over = _interval(octaves)
    return Gain(
        gamma=last.gamma,
        width=last.width,
        pairs=len(pairs),
        reasoning=float(np.mean(reasoning)),
        efficiency=float(2 ** np.mean(octaves)),
        reasoning_interval=_interval(reasoning),
        efficiency_interval=None if over is None else (2 ** over[0], 2 ** over[1]),
    )


def _interval(values: Sequence[float]) -> Range | None:
    count = len(values)
    if count < 2:
        return None
    half = float(central_quantile(0.9, count - 1) * np.std(values, ddof=1) / np.sqrt(count))
    mean = float(np.mean(values))
    return mean - half, mean + half
