"""What keeps a trial honest while it runs: its contract, its divergence, its device-time."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from critical.trials.run import Interrupted, Measurement, ProxyRun, Trainable

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
        device_seconds: Since this attempt started, wall seconds × devices held (1).
        diverged: Whether the trial ends here because its loss is not finite or has exploded.
    """

    measurement: Measurement
    device_seconds: float
    diverged: bool


@dataclass(frozen=True, slots=True)
class Earlier:
    """What earlier attempts of the same trial have stored.

    Attributes:
        measurements: How many.
        first_loss: Of the first one, nats per token; None where there is none.
        tokens: Of the last one, 0 where there is none.
    """

    measurements: int = 0
    first_loss: float | None = None
    tokens: int = 0


NOTHING_EARLIER = Earlier()


def watch(
    trainable: Trainable, run: ProxyRun, earlier: Earlier = NOTHING_EARLIER
) -> Iterator[Watched]:
    """Make the trial's folder, run it, check what it yields, time it, and end it if it diverges.

    Whether the trial yields all its measurements again or only new ones, those beyond
    ``earlier.tokens`` are new, and with the earlier ones they must be 20. Divergence is told from
    the first loss of all attempts.

    A trial that yields on although a stop was requested before is closed, and its last measurement
    is not handed out: only by asking for it could be told whether the trial had ended.

    A process that the trial forked, and that comes back from it, is ended there and then.

    Raises:
        ContractError: It yields something else than Measurements, tokens that do not grow, R
            outside [0, 1], or fewer than 20 measurements, or it ends the process.
        Interrupted: It was told to stop.
    """
    if run.checkpoint_dir is not None:
        with suppress(OSError):  # a trial that saves nothing needs no folder
            run.checkpoint_dir.mkdir(parents=True, exist_ok=True)
    return _watch(trainable, run, earlier)


def _watch(trainable: Trainable, run: ProxyRun, earlier: Earlier) -> Iterator[Watched]:
    process, started = os.getpid(), time.perf_counter()
    first_loss = earlier.first_loss
    tokens, count = 0, earlier.measurements
    stopping = False
    measurements = _supervised(trainable, run, process)
    for measurement in measurements:
        end_if_forked(process)
        if stopping:
            measurements.close()
            raise Interrupted("told to stop, the trial went on and was closed")
        check_measurement(measurement, tokens)
        first_loss = measurement.loss if first_loss is None else first_loss
        tokens = measurement.tokens
        count += tokens > earlier.tokens
        diverged = has_diverged(measurement.loss, first_loss)
        yield Watched(measurement, time.perf_counter() - started, diverged)
        if diverged:
            return
        stopping = run.stop_requested()
    if count < FEWEST_MEASUREMENTS:
        raise ContractError(
            f"the trainable yielded {count} measurements: yield at least {FEWEST_MEASUREMENTS}"
        )


def has_diverged(loss: float, first: float) -> bool:
    """Whether a loss (nats per token) is not finite, or many times the trial's first one."""
    return not math.isfinite(loss) or loss > EXPLODED * max(first, 1e-3)


def _supervised(
    trainable: Trainable, run: ProxyRun, process: int
) -> Generator[Measurement, None, None]:
    """Start and run a trial that can neither end its process nor come back twice."""
    try:
        measurements = trainable(run)
        if not hasattr(measurements, "__next__"):
            raise ContractError(
                f"the trainable returned a {type(measurements).__name__}: "
                "it must be a generator that yields Measurements"
            )
        yield from measurements
    except SystemExit as error:
        raise ContractError(
            f"the trainable ended its process (SystemExit: {error}): return, or raise an error"
        ) from error
    finally:
        end_if_forked(process)


def end_if_forked(process: int) -> None:
    """End this process, with nothing flushed, unless it is the one that the trial started in."""
    if os.getpid() != process:
        os._exit(0)


def check_measurement(measurement: object, tokens: int) -> None:
    """Check one that a trial yielded.

    Args:
        measurement: What it yielded.
        tokens: Of the one before, 0 for the first.

    Raises:
        ContractError: It is none, its numbers are none, or its tokens do not grow.
    """
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
