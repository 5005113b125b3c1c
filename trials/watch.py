"""What keeps a trial honest while it runs: its contract, its divergence, its device-time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from critical.trials.run import Measurement, ProxyRun, Trainable

FEWEST_MEASUREMENTS = 20
EXPLODED = 4.0
"""A loss this many times the first one has diverged, though it is still finite."""


class ContractError(Exception):
    """A trial yielded what no trial may yield."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A measurement with the worker's own clock.

    Attributes:
        measurement: As the trial yielded it.
        device_seconds: Since the trial started, wall seconds × devices held (1).
        diverged: Whether the trial ends here because its loss is not finite or has exploded.
    """

    measurement: Measurement
    device_seconds: float
    diverged: bool


def watch(trainable: Trainable, run: ProxyRun) -> Iterator[Watched]:
    """Run a trial, check what it yields, time it, and end it where it diverges.

    Raises:
        ContractError: It yields something else than Measurements, tokens that do not grow, R
            outside [0, 1], or fewer than 20 measurements, or it ends the process.
    """
    started = time.perf_counter()
    first: Measurement | None = None
    tokens, count = 0, 0
    measurements = trainable(run)
    if not hasattr(measurements, "__next__"):
        raise ContractError(
            f"the trainable returned a {type(measurements).__name__}: "
            "it must be a generator that yields Measurements"
        )
    for measurement in _without_exit(measurements):
        _check(measurement, tokens)
        first = first or measurement
        tokens, count = measurement.tokens, count + 1
        diverged = has_diverged(measurement.loss, first.loss)
        yield Watched(measurement, time.perf_counter() - started, diverged)
        if diverged:
            return
    if count < FEWEST_MEASUREMENTS:
        raise ContractError(
            f"the trainable yielded {count} measurements: yield at least {FEWEST_MEASUREMENTS}"
        )


def has_diverged(loss: float, first: float) -> bool:
    """Whether a loss (nats per token) is not finite, or many times the trial's first one."""
    return not math.isfinite(loss) or loss > EXPLODED * max(first, 1e-3)


def _without_exit(measurements: Iterator[Measurement]) -> Iterator[Measurement]:
    try:
        yield from measurements
    except SystemExit as error:
        raise ContractError(
            f"the trainable ended its process (SystemExit: {error}): return, or raise an error"
        ) from error


def _check(measurement: object, tokens: int) -> None:
    if not isinstance(measurement, Measurement):
        raise ContractError(
            f"the trainable yielded a {type(measurement).__name__}: "
            "yield critical.trials.Measurement(tokens, loss, reasoning)"
        )
    if not isinstance(measurement.extras, Mapping):
        raise ContractError(
            f"a measurement's extras are a {type(measurement.extras).__name__}: "
            "give numbers by name, as in {'accuracy': 0.5}"
        )
    numbers: dict[object, object] = {
        "tokens": measurement.tokens,
        "loss": measurement.loss,
        "reasoning": measurement.reasoning,
        **dict(measurement.extras.items()),
    }
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ContractError(
                f"a measurement's {name} is {value!r}: it must be a Python number, as of float(x)"
            )
    if not measurement.tokens > tokens or measurement.tokens % 1 != 0:
        raise ContractError(
            f"a measurement's tokens are {measurement.tokens} after {tokens}: "
            "they must be whole and grow"
        )
    if math.isfinite(measurement.loss) and not 0 <= measurement.reasoning <= 1:
        raise ContractError(
            f"a measurement's reasoning is {measurement.reasoning}: R lies between 0 and 1"
        )
    if math.isfinite(measurement.loss) and measurement.loss < 0:
        raise ContractError(
            f"a measurement's loss is {measurement.loss}: nats per token are not negative"
        )
