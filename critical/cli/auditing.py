"""What ``critical audit`` does: a configuration read, held against a γ, and told."""

from __future__ import annotations

from pathlib import Path

from critical.audit import Audit, Case, Recommended, audit
from critical.cli.exporting import recommended_gamma
from critical.cli.output import Output
from critical.export import check_gamma
from critical.frameworks import FRAMEWORKS, Framework, Reading, Source, framework
from critical.frameworks.opening import open_source, recognise


def audit_file(
    file: Path,
    name: str | None,
    gamma: float | None,
    study: str | None,
    settings: str | None,
    storage: str | None,
) -> Audit:
    """Audit a training configuration.

    Args:
        file: The configuration.
        name: Its framework; None to tell it by the file.
        gamma: A γ to hold it against, or None.
        study: A study whose γ* to hold it against, or None.
        settings: By which of those that were searched γ* is; None for the headline's.
        storage: As the command line gives it.

    Raises:
        CriticalError: The file, the framework, γ or the study cannot be used.
    """
    if gamma is not None:
        check_gamma(gamma)
    chosen, source = _opened(file, name)
    reading = chosen.read(source)
    recommended = _recommended(reading, gamma, study, settings, storage)
    return audit(Case(reading, str(file), recommended))


def print_audit(found: Audit, output: Output) -> None:
    """Print an audit, as one document or for a person."""
    if output.as_json:
        output.document(found.to_document())
        return
    from critical.cli.audit_view import audit_view

    output.show(*audit_view(found))


def _opened(file: Path, name: str | None) -> tuple[Framework, Source]:
    if name is None:
        return recognise(file, tuple(FRAMEWORKS.values()))
    chosen = framework(name)
    return chosen, open_source(file, chosen)


def _recommended(
    reading: Reading,
    gamma: float | None,
    study: str | None,
    settings: str | None,
    storage: str | None,
) -> Recommended | None:
    if gamma is not None:
        return Recommended(gamma)
    if study is None:
        return None
    origin = recommended_gamma(study, reading, settings, storage)
    return Recommended(origin.gamma, study, settings, origin.conditions)
