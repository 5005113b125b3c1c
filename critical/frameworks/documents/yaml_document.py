"""A YAML mapping, block or flow style, edited as text: comments, order and quoting stay.

Read as PyYAML does, which is what the training frameworks read with (YAML 1.1: ``1e-5`` is a text),
but strictly: a key given twice, a tag, several documents and an alias into itself are errors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import yaml
from yaml.nodes import MappingNode

from critical.errors import ExportError
from critical.frameworks.documents.document import Format, Path, Scalar, with_changes
from critical.frameworks.documents.yaml_edit import YamlEdit
from critical.frameworks.documents.yaml_values import YamlValues

LARGEST = 128 * 1024
"""Characters; a real configuration has some ten thousand, and PyYAML reads 100,000 a second."""
_DEEPEST = 100
"""Brackets within brackets; PyYAML takes a time quadratic in them."""


@dataclass(frozen=True)
class YamlDocument:
    """A YAML mapping.

    Attributes:
        text: As in the file.
        name: The file's, for messages.
    """

    text: str
    name: str
    format: Format = "yaml"

    @cached_property
    def values(self) -> Mapping[str, Any]:
        """What it says; aliases and merged mappings written out, keys as texts.

        Raises:
            ExportError: It is no YAML, or not a mapping that can be read in one way only.
        """
        return YamlValues(self.name).mapping(self._root)

    def with_text(self, text: str) -> YamlDocument:
        """Return the document of the same name with another text."""
        return replace(self, text=text)

    def edited(self, changes: Mapping[Path, Scalar]) -> str:
        """Return the text with some values set, as ``Document`` says.

        Raises:
            ExportError: A value has an anchor or comes by an alias, or cannot be set as text.
        """
        document, wished = self, with_changes(self.values, changes)
        for path, value in changes.items():
            document = document._with(path, value)
        try:
            as_wished = _plain(document.values) == _plain(wished)
        except ExportError:
            as_wished = False
        if not as_wished:
            keys = ", ".join(".".join(path) for path in changes)
            raise ExportError(f"{self.name} cannot be edited as text: set {keys} by hand")
        return document.text

    @cached_property
    def _root(self) -> MappingNode:
        if len(self.text) > LARGEST:
            raise ExportError(
                f"{self.name} is over 128 KiB: write the path of a training configuration"
            )
        if _depth(self.text) > _DEEPEST:
            raise self._too_deep()
        try:
            node = yaml.compose(self.text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as reason:
            mark = reason.problem_mark or reason.context_mark
            where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
            problem = " ".join((reason.problem or reason.context or "").split())[:120]
            raise ExportError(f"{self.name} is not YAML{where}: {problem}") from None
        except (yaml.YAMLError, ValueError) as reason:
            first = " ".join(str(reason).split())[:120]
            raise ExportError(f"{self.name} is not YAML: {first}") from None
        except RecursionError:
            raise self._too_deep() from None
        if not isinstance(node, MappingNode):
            raise ExportError(f"{self.name} holds no YAML mapping: write one, as model: {{…}}")
        return node

    def _with(self, path: Path, value: Scalar) -> YamlDocument:
        return self.with_text(YamlEdit(self.text, self.name, self._root).with_value(path, value))

    def _too_deep(self) -> ExportError:
        return ExportError(
            f"{self.name} is nested too deeply: write the path of a training configuration"
        )


def _depth(text: str) -> int:
    """Return how deep brackets are nested; those in comments and texts count, as a bound may."""
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        depth = max(depth + (1 if bracket in "[{" else -1), 0)
        deepest = max(deepest, depth)
    return deepest


def _plain(values: Mapping[str, Any]) -> str:
    """Return values as a text that equals where they do, NaN included."""
    return json.dumps(values, sort_keys=True, default=str)
