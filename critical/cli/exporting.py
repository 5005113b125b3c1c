"""What ``critical export`` does: γ into a configuration, and where the result goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from critical.audit.saturation import Saturation, saturation_of
from critical.cli.output import Output, say
from critical.errors import ExportError
from critical.export import Edited, export
from critical.export.bundle import write_bundle
from critical.export.files import unified_diff, write_atomically
from critical.frameworks import Reading, framework
from critical.frameworks.opening import open_source

_NORMALIZES = 0.95
"""RMS of a norm's output under which it no longer normalizes."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an exported γ comes from.

    Attributes:
        gamma: The exponent.
        study: The study that recommends it; None where the user wrote it.
        recommended: What the study says of γ*: its interval and plateau; None with ``study``.
        conditions: Sentences on what it rests on.
    """

    gamma: float
    study: str | None = None
    recommended: Mapping[str, Any] | None = None
    conditions: tuple[str, ...] = field(default=())

    def to_document(self) -> dict[str, Any]:
        """Return what report.json and ``--json`` say of it."""
        return {
            "study": self.study,
            "recommended": None if self.recommended is None else dict(self.recommended),
            "conditions": list(self.conditions),
        }


@dataclass(frozen=True, slots=True)
class Exported:
    """An edited configuration, not yet written anywhere."""

    config: Path
    before: str
    edited: Edited
    origin: Origin
    first_norm: Saturation | None

    def deliver(
        self,
        output: Output,
        *,
        output_file: Path | None,
        in_place: bool,
        diff: bool,
        bundle: Path | None = None,
    ) -> None:
        """Write or print the edited file; what it expresses and what not goes beside it.

        Raises:
            ExportError: A place cannot be written to, or would replace what was not asked for.
        """
        self._check(in_place=in_place, bundle=bundle)
        place = self.config if in_place else output_file
        if place is not None:
            write_atomically(place, self._result(), None if self._is_code else self.config)
        written = [] if place is None else [place]
        if bundle is not None:
            written += write_bundle(bundle, self.config, self.edited, self._context())
        if output.as_json:
            output.document(self._document(place, written))
            return
        if diff:
            self._print_diff()
        elif not written:
            print(self._result(), end="")
        for each in written:
            say(f"wrote {each}")
        with_hook = bundle is not None or (self._is_code and not diff)
        for sentence in self._sentences(with_hook=with_hook):
            say(sentence)

    def _check(self, *, in_place: bool, bundle: Path | None) -> None:
        """Refuse to write where nothing would change, or over a file that was not to be edited."""
        report, name = self.edited.report, self.config.name
        if in_place and report.key is None:
            raise ExportError(
                f"no key of {report.framework} holds γ, and {name} stays as it is: write --bundle "
                "FOLDER in place of --in-place, for code that draws with γ"
            )
        inside = bundle is not None and (bundle / name).resolve() == self.config.resolve()
        if inside and report.key is not None and not in_place:
            raise ExportError(
                f"--bundle {bundle} would replace {name}: write another folder, or --in-place too"
            )

    def _print_diff(self) -> None:
        path = self.config
        plain = not path.is_absolute() and ".." not in path.parts
        name = path.as_posix() if plain else path.name  # As git apply finds it from here.
        changed = unified_diff(self.before, self.edited.text, name)
        print(changed, end="")
        if not changed:
            say(f"nothing changes in {path.name}")

    def _context(self) -> dict[str, Any]:
        """Return what report.json and ``--json`` say besides the matrices."""
        norm = self.first_norm
        document = None if norm is None else norm.to_document(self.origin.gamma)
        return {**self.origin.to_document(), "first_norm": document}

    @property
    def _is_code(self) -> bool:
        """Whether the hook is all that there is, for no key holds γ."""
        return self.edited.report.key is None and self.edited.hook is not None

    def _result(self) -> str:
        """Return the edited file, or the hook where it is all."""
        hook = self.edited.hook
        return hook.text if self._is_code and hook is not None else self.edited.text

    def _sentences(self, *, with_hook: bool) -> list[str]:
        report, hook = self.edited.report, self.edited.hook
        sentences = [self._headline(), *report.could_not_express, *self._saturated()]
        if hook is not None and with_hook:
            sentences.append(f"{hook.file_name} makes it exact: {hook.usage}")
        elif hook is not None:
            sentences.append(f"--bundle FOLDER writes {hook.file_name} too, which makes it exact")
        return [*sentences, *self.origin.conditions]

    def _headline(self) -> str:
        report = self.edited.report
        if report.key is None:
            return (
                f"{report.framework} has no key for an initialization: γ {report.gamma:.4g} at "
                f"width {report.width} takes code"
            )
        return (
            f"γ {report.gamma:.4g} is {report.key} {report.std:.6g} at width {report.width}: "
            f"{report.summary()}"
        )

    def _document(self, place: Path | None, written: list[Path]) -> dict[str, Any]:
        hook = self.edited.hook
        return {
            **self.edited.report.to_document(),
            **self._context(),
            "file": None if place is None else str(place),
            "written": [str(each) for each in written],
            "edited": self.edited.text,
            "hook": None
            if hook is None
            else {"file_name": hook.file_name, "usage": hook.usage, "text": hook.text},
        }

    def _saturated(self) -> Iterator[str]:
        """Say so where the ε of the norm that reads the embedding outweighs it at this γ."""
        norm, gamma = self.first_norm, self.origin.gamma
        if norm is not None and norm.rms(gamma) < _NORMALIZES:
            yield (
                f"{norm.eps.key} {norm.eps.value:g} holds the first norm's output at an RMS of "
                f"{norm.rms(gamma):.2f} at this γ: critical audit {self.config} --gamma "
                f"{gamma:.4g} says what to write"
            )


def export_gamma(
    study: str | None,
    to: str,
    config: Path,
    gamma: float | None,
    settings: str | None,
    storage: str | None,
) -> Exported:
    """Write γ, a study's γ* at the width of the configuration, into that configuration.

    Args:
        study: Its name; None where γ is given.
        to: The framework.
        config: The training configuration.
        gamma: The γ to write in place of γ*, or None.
        settings: By which of those that were searched γ* is; None for the headline's.
        storage: As the command line gives it.

    Raises:
        CriticalError: The framework, the study or the configuration cannot be used.
    """
    chosen = framework(to)
    source = open_source(config, chosen)
    reading = chosen.read(source)
    if gamma is not None:
        _check_study(study, storage)
        origin = Origin(gamma, study)
    else:
        origin = recommended_gamma(study, reading, settings, storage)
    edited = export(to, source, origin.gamma, reading)
    return Exported(config, source.document.text, edited, origin, saturation_of(reading))


def _check_study(study: str | None, storage: str | None) -> None:
    """Refuse the name of a study that there is not, though γ is not taken from it."""
    if study is None:
        return
    from critical.cli.studying import existing_store

    with existing_store(storage) as store:
        store.study(study)


def recommended_gamma(
    study: str | None, reading: Reading, settings: str | None, storage: str | None
) -> Origin:
    """Return a study's γ* at the width of a configuration.

    Raises:
        CriticalError: No study is named, it cannot be used, or its γ* is not to be written without
            a further word.
    """
    if study is None:
        raise ExportError("there is no γ to write: name a STUDY, or write --gamma, as 0.7")
    # SQLAlchemy and NumPy are not needed without a study.
    from critical.cli.studying import existing_store
    from critical.recommend import recommend

    with existing_store(storage) as store:
        at = reading.width if reading.target is None else reading.target
        document = recommend(store, store.study(study), at, settings)
    _check_recommended(document, study)
    gamma = document["gamma"]
    conditions = tuple(document["conditions"])
    return Origin(float(gamma["median"]), study, gamma, conditions)


def _check_recommended(document: Mapping[str, Any], study: str) -> None:
    """Refuse a γ* that is not to be written without a further word."""
    from critical.storage.agreement import SETTINGS_DISAGREE

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
