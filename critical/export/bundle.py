"""A folder with all that an export has to say: the edited file, the hook, and report.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from critical.errors import ExportError
from critical.export import Edited
from critical.export.files import write_atomically

REPORT = "report.json"


def write_bundle(
    folder: Path, config: Path, edited: Edited, of_study: Mapping[str, Any]
) -> tuple[Path, ...]:
    """Write an export's files into a folder, each in one step, report.json last.

    Args:
        folder: Made where it is missing; an earlier bundle in it is replaced.
        config: The configuration that was edited; its name and permissions are kept.
        edited: The export.
        of_study: What the report says of where γ comes from.

    Returns:
        The files written. A configuration that was not edited is not copied.

    Raises:
        ExportError: The folder cannot be made or written to, or holds a file of one of the names
            and is no bundle.
    """
    file_name = config.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise ExportError(
            f"{folder} cannot be made: {reason.strerror}: write --bundle with another folder"
        ) from reason
    texts: dict[str, str] = {}
    if edited.report.key is not None:
        texts[file_name] = edited.text
    if edited.hook is not None:
        texts[edited.hook.file_name] = edited.hook.text
    document = {
        **edited.report.to_document(),
        **of_study,
        "files": {
            "configuration": file_name if file_name in texts else None,
            "hook": None if edited.hook is None else edited.hook.file_name,
        },
    }
    if REPORT in texts:
        raise ExportError(f"{file_name} would be lost under the report: rename it")
    texts[REPORT] = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    own = config.resolve()  # Where it stands, its user decides.
    taken = [n for n in texts if (folder / n).exists() and (folder / n).resolve() != own]
    if taken and not (folder / REPORT).exists():
        raise ExportError(
            f"{folder} is no bundle and has a {taken[0]}: write --bundle with another folder"
        )
    for name, text in texts.items():
        write_atomically(folder / name, text, config if name == file_name else None)
    return tuple(folder / name for name in texts)
