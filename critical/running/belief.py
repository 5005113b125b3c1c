"""What a search believes of γ*: its posterior, kept in memory and in the store alike."""

from __future__ import annotations

import numpy as np

from critical.inference.posterior import Inference, PosteriorSpec, infer
from critical.running.history import History
from critical.storage.records import EVIDENCE, PosteriorRecord, ScalePosterior, TrialState


class Belief:
    """The posterior of a search, inferred anew after each trial that says something.

    Attributes:
        spec: What is inferred.
        posterior: What everything that has ended says of γ*; None before anything has.
    """

    def __init__(self, history: History, spec: PosteriorSpec, seed: int) -> None:
        self.spec = spec
        self.posterior: PosteriorRecord | None = None
        self._history = history
        self._seed = seed
        self._inference: Inference | None = None
        self._take_up()

    def update(self) -> None:
        """Infer it from all that has ended, and store it."""
        self._infer()
        self._store()

    def widest_scale(self, settings: str) -> ScalePosterior | None:
        """Return the settings' widest scale that learned, or the widest at all where none has."""
        scales = self.posterior.scales if self.posterior is not None else ()
        own = (scale for scale in scales if scale.settings == settings)
        return max(own, key=lambda scale: (scale.learned, scale.width), default=None)

    def is_precise(self, precision: float | None) -> bool:
        """Whether γ* is expected to lose less share than ``precision``, under all settings.

        It is that of their widest scale, which must have learned.
        """
        if precision is None:
            return False
        widest = [self.widest_scale(settings) for settings in self.spec.settings]
        return all(
            scale is not None and scale.learned and scale.expected_loss < precision
            for scale in widest
        )

    def _take_up(self) -> None:
        """Take the stored posterior if it says all, else infer and store it.

        A driver may have died between a result and its posterior, and this one may assume another
        slope.
        """
        latest = self._history.store.latest_posterior(self._history.study.id)
        if latest is None or not self._says_all(latest):
            self.update()
        elif latest.slope_sd == self.spec.slope_sd:
            self.posterior = latest
        else:
            self._infer()

    def _says_all(self, latest: PosteriorRecord) -> bool:
        store, study = self._history.store, self._history.study
        ended = [trial for trial in self._history.trials if trial.state in EVIDENCE]
        completed = sum(trial.state is TrialState.COMPLETED for trial in ended)
        inferred_at = store.inferred_at(study.id)
        if latest.trials != completed or inferred_at is None:
            return False
        return all(t.finished_at is not None and t.finished_at <= inferred_at for t in ended)

    def _infer(self) -> None:
        runs = self._history.runs()
        if runs:
            rng = np.random.default_rng((self._seed, len(runs)))
            self._inference = infer(runs, self.spec, rng, self._inference)
            self.posterior = self._inference.record

    def _store(self) -> None:
        if self.posterior is not None:
            spent = self._history.ledger.spent_seconds
            self._history.store.add_posterior(self._history.study.id, self.posterior, spent)
