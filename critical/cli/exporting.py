"""What ``critical export`` does: γ of a study into a configuration, and where the result goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from critical.cli.output import Output, say
from critical.cli.studying import existing_store
from critical.errors import ExportError
from critical.export import ExportReport, export, framework
from critical.export.files import unified_diff, write_atomically


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
    study: str, to: str, config: Path, gamma: float | None, storage: str | None
) -> Exported:
    """Write a study's γ*, at the width of the configuration, into that configuration.

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
            document = recommend(store, store.study(study), target)
        gamma = float(document["gamma"]["median"])
        if document["exploratory"]:
            raise ExportError(
                f"study {study!r} is exploratory, no scale of it has learned: search a new "
                f"--study with a bigger --budget, or write --gamma {gamma:.3g} all the same"
            )
        conditions = tuple(document["conditions"])
    after, report = export(to, text, config.name, gamma)
    return Exported(config, text, after, report, study, conditions)
