"""What a report is drawn from: everything that the store knows of one study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from critical.storage.records import (
    ChargeRecord,
    LedgerRecord,
    MeasurementRecord,
    PosteriorRecord,
    PosteriorSummary,
    RecommendationRecord,
    StudyRecord,
    TrialCounts,
    TrialRecord,
    TrialState,
    as_held,
)

if TYPE_CHECKING:
    from critical.storage.store import Store


@dataclass(frozen=True, slots=True)
class ReportData:
    """One study, as it stood when it was gathered."""

    study: StudyRecord
    trials: Sequence[TrialRecord]
    curves: Mapping[int, Sequence[MeasurementRecord]]
    """Measurements by trial id, of the trials that can be drawn."""
    posterior: PosteriorRecord | None
    narrowing: Sequence[PosteriorSummary]
    ledger: LedgerRecord
    charges: Sequence[ChargeRecord]
    recommendation: RecommendationRecord | None
    last: Mapping[int, MeasurementRecord] = field(default_factory=dict)
    """The last measurement of every trial by its number, with its losses by source alone."""

    @property
    def counts(self) -> TrialCounts:
        """How many trials are in each state."""
        states = Counter(trial.state for trial in self.trials)
        return TrialCounts(**{state.value: states[state] for state in TrialState})


def gather(store: Store, name: str) -> ReportData:
    """Read everything about a study. Raises StudyNotFound where there is none of that name."""
    from critical.dashboards.figures.kinds import source_losses  # Plotly takes long to import
    from critical.dashboards.figures.training import drawn_trials

    found = store.study(name)
    study = as_held(found, store.lease(found.id))
    trials = store.trials(study.id)
    curves = {
        trial.id: curve
        for trial in drawn_trials(trials)
        if (curve := store.trial_measurements(trial.id))
    }
    losses = source_losses(name for curve in curves.values() for name in curve[-1].extras)
    return ReportData(
        study=study,
        trials=trials,
        curves=curves,
        posterior=store.latest_posterior(study.id),
        narrowing=store.narrowing(study.id),
        ledger=store.ledger(study.id),
        charges=store.charges(study.id),
        recommendation=store.latest_recommendation(study.id),
        last=store.last_measurements(study.id, losses) if losses else {},
    )
