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
    folder: Path, file_name: str, edited: Edited, of_study: Mapping[str, Any]
) -> tuple[Path, ...]:
    """Write an export's files into a folder, each in one step, report.json last.

    Args:
        folder: Made where it is missing.
        file_name: Of the edited configuration, as its user calls it.
        edited: The export.
        of_study: What the report says of where γ comes from.

    Returns:
        The files written. A configuration that was not edited is not copied.

    Raises:
        ExportError: The folder cannot be made or written to.
    """
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
    texts[REPORT] = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    for name, text in texts.items():
        write_atomically(folder / name, text)
    return tuple(folder / name for name in texts)
