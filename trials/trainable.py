"""The Ray trial: trains the members of a pack and reports each measurement. Imports ray."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ray import tune

from critical.trials.failure import describe, kind_of
from critical.trials.run import Interrupted, ProxyRun, Trainable
from critical.trials.watch import NOTHING_EARLIER, Earlier, Watched, watch
from critical.trials.watchdog import PATIENCE_SECONDS, Watchdog


class RayTrial(tune.Trainable):  # type: ignore[misc]  # ray ships no types
    """One pack. The trainable comes beside ``config``.

    The keys of ``config``, of which only the first is needed:

    - ``members``: a list of ProxyRun;
    - ``earlier``: what an interrupted trial has stored already, an Earlier, by default nothing;
    - ``patience``: seconds that any wait for a measurement may take;
    - ``longest_wait``: the longest one known of such trials, seconds, by default None.

    Each step reports one measurement, a Watched as it is, for Tune flattens dictionaries; the last
    one reports ``done`` alone, or with ``interrupted`` where the trial was told to stop. An
    exception of the trial's own is reported as ``failure``, a line, and its ``kind``, so that the
    worker lives on and takes the next trial. One that hangs ends the worker, see ``watchdog``.
    """

    def setup(self, config: dict[str, Any], trial: Trainable) -> None:
        """Start the trial. Called by Ray in the worker."""
        self._trainable = trial
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start another trial in the same process, after closing the one that was stopped."""
        self.cleanup()
        self._start(new_config)
        return True

    def _start(self, config: dict[str, Any]) -> None:
        members: list[ProxyRun] = config["members"]
        (self._run,) = members  # a trial without train_pack holds one member
        self._earlier: Earlier = config.get("earlier", NOTHING_EARLIER)
        self._watchdog = Watchdog(
            config.get("patience", PATIENCE_SECONDS),
            config.get("longest_wait"),
            self._run.checkpoint_dir,
        )
        self._watched: Iterator[Watched] | None = None

    def step(self) -> dict[str, Any]:
        """Advance to the next measurement."""
        if self._watched is None:
            # Not before: Tune may start a worker for a trial and then give it to another one.
            self._watched = watch(self._trainable, self._run, self._earlier)
        try:
            watched = self._advance(self._watched)
        except Interrupted:
            return {"done": True, "interrupted": True}
        except Exception as error:
            return {"done": True, "failure": describe(error), "kind": kind_of(error)}
        if watched is None:
            return {"done": True}
        return {"done": False, "watched": watched}

    def _advance(self, measurements: Iterator[Watched]) -> Watched | None:
        with self._watchdog.watching() as wait:
            watched = next(measurements, None)
            wait.counts = watched is not None and (
                watched.measurement.tokens > self._earlier.tokens
            )
        return watched

    def cleanup(self) -> None:
        """Close the generator, so that a user's ``finally`` runs, and not for ever."""
        close = getattr(self._watched, "close", None)
        if close is not None:
            self._watchdog.folder = None  # the driver may be about to remove it
            with self._watchdog.watching():
                close()
