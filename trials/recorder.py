"""What a built-in trial records besides its scores, and at which of its evaluations.

docs/measurements.md lists every name. At a few log-spaced evaluations, the first and the last among
them: condensation, ranks, saturation and sinks, of the averaged weights, as all measurements are.
At the first evaluation besides: activations and gradient norms of the first batch as they were
before the first step; at the last one: those of the same batch under the averaged weights.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from torch import Tensor, nn

from critical.trials.development import development
from critical.trials.mixture import Group
from critical.trials.probes import flow, sinks, transferred, watched_saturation
from critical.trials.run import Measurement


class Recorder:
    """Adds extras to a run's measurements, and changes nothing of its training."""

    def __init__(
        self, model: nn.Module, looks: Collection[int], count: int, validation: Sequence[Group]
    ) -> None:
        """Choose the evaluations.

        Args:
            model: What is trained.
            looks: The steps after which it is evaluated.
            count: At how many of them to record; 0 for none.
            validation: Its items; attention is looked at in text if there is any.
        """
        self._model = model
        self._steps = development_steps(looks, count)
        self._ends = (min(looks), max(looks)) if count > 0 else (None, None)
        self._attended = _windows(validation)
        self._first_loss: Callable[[], Tensor] | None = None
        self._initial: dict[str, float] = {}

    def begin(self, loss: Callable[[], Tensor]) -> None:
        """Look at the untrained model; ``loss`` is the training loss of the first batch."""
        if self._steps:
            self._first_loss = loss
            self._initial = transferred(flow(self._model, loss, "initial"))

    def measure(self, step: int, evaluate: Callable[[], Measurement]) -> Measurement:
        """Evaluate the model as it stands, and add what belongs to this step."""
        first, last = self._ends
        extras = self._initial if step == first else {}
        if step not in self._steps:
            found = evaluate()
            return replace(found, extras={**found.extras, **extras}) if extras else found
        with watched_saturation(self._model) as saturation:
            found = evaluate()
        values = {
            **development(self._model),
            **saturation,
            **sinks(self._model, self._attended),
        }
        if step == last and self._first_loss is not None:
            values |= flow(self._model, self._first_loss, "final")
        return replace(found, extras={**found.extras, **extras, **transferred(values)})


def development_steps(looks: Collection[int], count: int) -> frozenset[int]:
    """Return ``count`` of the evaluations, evenly spaced among them, the ends included.

    All of them where there are fewer; the last one where ``count`` is 1.
    """
    ordered = sorted(looks)
    count = min(count, len(ordered))
    last = len(ordered) - 1
    return frozenset(
        ordered[last - round(index * last / max(1, count - 1))] for index in range(count)
    )


def _windows(groups: Sequence[Group]) -> Tensor:
    return next((g for g in groups if g.source == "text"), groups[0]).tokens
