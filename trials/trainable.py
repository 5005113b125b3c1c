"""The Ray trial: trains the members of a pack and reports each measurement. Imports ray."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ray import tune

from critical.trials.failure import describe
from critical.trials.run import ProxyRun, Trainable
from critical.trials.watch import Watched, watch


class RayTrial(tune.Trainable):  # type: ignore[misc]  # ray ships no types
    """One pack. ``config`` holds ``members``, a list of ProxyRun; the trainable comes beside it.

    Each step reports one measurement, a Watched as it is, for Tune flattens dictionaries; the last
    one reports ``done`` alone. An exception of the trial's own is reported as ``failure``, so that
    the worker lives on and takes the next trial.
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
        (run,) = members  # a trial without train_pack holds one member
        self._watched: Iterator[Watched] = watch(self._trainable, run)

    def step(self) -> dict[str, Any]:
        """Advance to the next measurement."""
        try:
            watched = next(self._watched, None)
        except Exception as error:
            return {"done": True, "failure": describe(error)}
        if watched is None:
            return {"done": True}
        return {"done": False, "watched": watched}

    def cleanup(self) -> None:
        """Close the generator, so that a user's ``finally`` runs."""
        close = getattr(self._watched, "close", None)
        if close is not None:
            close()
