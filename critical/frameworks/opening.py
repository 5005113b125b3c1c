"""A file that a user named, as a document: of the format that a framework reads, or recognised."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from critical.errors import ExportError
from critical.frameworks.documents.document import Document, Format
from critical.frameworks.documents.json_document import JsonDocument
from critical.frameworks.documents.yaml_document import YamlDocument
from critical.frameworks.framework import Framework, Source
from critical.targets.config_file import read_text

_WHAT = "a training configuration"
_SUFFIXES: dict[str, Format] = {
    ".json": "json", ".yaml": "yaml", ".yml": "yaml", ".py": "python",
    ".sh": "arguments", ".bash": "arguments", ".args": "arguments", ".slurm": "arguments",
    ".sbatch": "arguments",
}  # fmt: skip
_SPOKEN: dict[Format, str] = {
    "json": "a JSON file",
    "yaml": "a YAML file",
    "arguments": "a script or file of arguments",
    "python": "a Python file of assignments",
}


def open_source(path: Path, chosen: Framework) -> Source:
    """Read a file as a framework's configuration.

    Raises:
        CriticalError: It cannot be read, or is in none of the framework's formats.
    """
    text = _read(path)
    formats = chosen.formats
    how = _format(path, text, formats)
    told = _SUFFIXES.get(path.suffix.lower(), "json" if _look(text) == "json" else how)
    # A JSON object is YAML too; else a file of one format is an empty one of another.
    if (
        told not in formats
        and _look(text) not in formats
        and not (told == "json" and how == "yaml")
    ):
        raise ExportError(
            f"{path.name} is {_SPOKEN[told]}, which {chosen.name} does not read: write "
            f"{' or '.join(_SPOKEN[each] for each in formats)}"
        )
    return Source(_document(text, path.name, how), path.parent)


def recognise(path: Path, frameworks: tuple[Framework, ...]) -> tuple[Framework, Source]:
    """Read a file, and tell whose it is by its format and the keys in it.

    Raises:
        CriticalError: It cannot be read, or no framework claims it.
    """
    text = _read(path)
    every: tuple[Format, ...] = ("json", "yaml", "arguments", "python")
    document = _document(text, path.name, _format(path, text, every))
    for each in _claiming(document, frameworks):
        return each, Source(document, path.parent)
    names = ", ".join(each.name for each in frameworks if document.format in each.formats)
    raise ExportError(
        f"{path.name} has the keys of no framework that is known here: check their names, write "
        f"--framework ({names}), or give the model's Hugging Face config.json"
    )


def _read(path: Path) -> str:
    """Return a file's text.

    Raises:
        ExportError: It cannot be read, or is of a format that no framework here has.
    """
    text = read_text(path, ExportError, _WHAT)
    if path.suffix.lower() == ".toml":
        raise ExportError(
            f"{path.name} is TOML, as torchtitan had before 0.3, and names a model without its "
            "shape: write the JSON that torchtitan saves beside a run, or the model's config.json"
        )
    return text


def _claiming(document: Document, frameworks: tuple[Framework, ...]) -> Iterator[Framework]:
    _ = document.values  # A file that cannot be read is told so, and not that nobody claims it.
    for each in frameworks:
        if document.format in each.formats and each.claims(document):
            yield each


def _format(path: Path, text: str, formats: tuple[Format, ...]) -> Format:
    """Tell a file's format by its name, else by its text; one the framework reads if it can be."""
    by_name = _SUFFIXES.get(path.suffix.lower())
    if by_name in formats:
        return by_name
    looks = _look(text)
    return looks if looks in formats else formats[0]


def _look(text: str) -> Format:
    if text.lstrip().startswith("{"):
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return "yaml"
        return "json"
    return "arguments" if text.startswith("#!") or "--num-layers" in text else "yaml"


def _document(text: str, name: str, how: Format) -> Document:
    if how == "json":
        return JsonDocument(text, name)
    if how == "yaml":
        return YamlDocument(text, name)
    if how == "arguments":
        from critical.frameworks.documents.arguments_document import ArgumentsDocument

        return ArgumentsDocument(text, name)
    from critical.frameworks.documents.python_document import PythonDocument

    return PythonDocument(text, name)
