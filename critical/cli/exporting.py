"""What ``critical export`` does: γ of a study into a configuration, and where the result goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from critical.cli.output import Output, say
from critical.cli.studying import existing_store
from critical.errors import ExportError
from critical.export import ExportReport, export, framework
from critical.export.files import unified_diff, write_atomically
from critical.storage.agreement import SETTINGS_DISAGREE


@dataclass(frozen=True, slots=True)
class Exported:
    """An edited configuration, not yet written anywhere."""

    config: Path
    before: str
    after: str
    report: ExportReport
    study: str
    conditions: tuple[str, ...]

    def deliver(
        self, output: Output, *, output_file: Path | None, in_place: bool, diff: bool
    ) -> None:
        """Write or print the edited file; what it expresses and what not goes beside it."""
        place = self.config if in_place else output_file
        if place is not None:
            write_atomically(place, self.after)
        if output.as_json:
            document = self.report.to_document()
            document.update(study=self.study, conditions=list(self.conditions))
            document.update(file=None if place is None else str(place), edited=self.after)
            output.document(document)
            return
        if diff:
            print(unified_diff(self.before, self.after, self.config.name), end="")
        elif place is None:
            print(self.after, end="")
        else:
            say(f"wrote {place}")
        for sentence in (self._headline(), *self.report.could_not_express, *self.conditions):
            say(sentence)

    def _headline(self) -> str:
        report = self.report
        return f"γ {report.gamma:.4g} is std {report.std:.6g} at width {report.width}: " + (
            report.summary()
        )


def export_study(
    study: str,
    to: str,
    config: Path,
    gamma: float | None,
    settings: str | None,
    storage: str | None,
) -> Exported:
    """Write a study's γ*, at the width of the configuration, into that configuration.

    Args:
        study: Its name.
        to: The framework.
        config: The training configuration.
        gamma: The γ to write in place of γ*, or None.
        settings: By which of those that were searched γ* is; None for the headline's.
        storage: As the command line gives it.

    Raises:
        CriticalError: The framework, the study or the configuration cannot be used.
    """
    from critical.config_file import read_text
    from critical.recommend import recommend

    chosen = framework(to)
    text = read_text(config, ExportError)
    target = chosen.read(text, config.name)
    conditions: tuple[str, ...] = ()
    if gamma is None:
        with existing_store(storage) as store:
            document = recommend(store, store.study(study), target, settings)
        _check_recommended(document, study)
        gamma = float(document["gamma"]["median"])
        conditions = tuple(document["conditions"])
    after, report = export(to, text, config.name, gamma)
    return Exported(config, text, after, report, study, conditions)


def _check_recommended(document: Mapping[str, Any], study: str) -> None:
    """Refuse a γ* that is not to be written without a further word."""
    if document["gamma"]["verdict"] == SETTINGS_DISAGREE:
        answers = document["settings"]
        told = ", ".join(f"{one['settings']} {one['gamma']['median']:.3f}" for one in answers)
        raise ExportError(
            f"the settings of study {study!r} disagree on γ* ({told}): name those that you train "
            f"under, as in --settings {answers[0]['settings']}"
        )
    if document["exploratory"]:
        raise ExportError(
            f"study {study!r} is exploratory, no scale of it has learned: search a new --study "
            f"with a bigger --budget, or write --gamma {document['gamma']['median']:.3g} all the "
            "same"
        )
