"""The Ray trial: trains the members of a pack and reports each measurement. Imports ray."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ray import tune

from critical.trials.failure import describe, kind_of
from critical.trials.run import Interrupted, ProxyRun, Trainable
from critical.trials.watch import NOTHING_EARLIER, Earlier, Watched
from critical.trials.watch_pack import is_news, watch_members
from critical.trials.watchdog import PATIENCE_SECONDS, Watchdog


class RayTrial(tune.Trainable):  # type: ignore[misc]  # ray ships no types
    """One pack. The trainable comes beside ``config``.

    The keys of ``config``, of which only the first is needed:

    - ``members``: a list of ProxyRun, of the same scale, settings and device;
    - ``earlier``: what each has stored already where it was interrupted, a list of Earlier, by
      default nothing;
    - ``patience``: seconds that any wait for a measurement may take;
    - ``longest_wait``: the longest one known of such packs, seconds, by default None.

    Each step reports one measurement a member, a list of Watched as they are, for Tune flattens
    dictionaries, with None for a member that has ended. The last step reports ``done`` alone, or
    with ``interrupted`` where the pack was told to stop. An exception of the trial's own is
    reported as ``failure``, a line, and its ``kind``, so that the worker lives on and takes the
    next pack. One that hangs ends the worker, see ``watchdog``.
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
        self._runs: list[ProxyRun] = config["members"]
        nothing = [NOTHING_EARLIER] * len(self._runs)
        self._earlier: list[Earlier] = config.get("earlier", nothing)
        self._watchdog = Watchdog(
            config.get("patience", PATIENCE_SECONDS),
            config.get("longest_wait"),
            self._runs[0].checkpoint_dir,
        )
        self._rows: Iterator[list[Watched | None]] | None = None

    def step(self) -> dict[str, Any]:
        """Advance to the next measurement."""
        if self._rows is None:
            # Not before: Tune may start a worker for a trial and then give it to another one.
            self._rows = watch_members(self._trainable, self._runs, self._earlier)
        try:
            row = self._advance(self._rows)
        except Interrupted:
            return {"done": True, "interrupted": True}
        except Exception as error:
            return {"done": True, "failure": describe(error), "kind": kind_of(error)}
        if row is None:
            return {"done": True}
        return {"done": False, "watched": row}

    def _advance(self, rows: Iterator[list[Watched | None]]) -> list[Watched | None] | None:
        with self._watchdog.watching() as wait:
            row = next(rows, None)
            wait.counts = row is not None and is_news(row, self._earlier)
        if row is not None:
            # Of a member that goes on: the folder of one that has ended may be gone.
            pairs = zip(self._runs, row, strict=True)
            going = (run for run, one in pairs if one is not None and not one.diverged)
            self._watchdog.folder = next(going, self._runs[0]).checkpoint_dir
        return row

    def cleanup(self) -> None:
        """Close the generator, so that a user's ``finally`` runs, and not for ever."""
        close = getattr(self._rows, "close", None)
        if close is not None:
            self._watchdog.folder = None  # the driver may be about to remove it
            with self._watchdog.watching():
                close()
