"""A YAML mapping, block or flow style, edited as text: comments, order and quoting stay.

Read as PyYAML does, which is what the training frameworks read with (YAML 1.1: ``1e-5`` is a text),
but strictly: a key given twice, a tag, several documents and an alias into itself are errors.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from critical.errors import ExportError
from critical.frameworks.documents.document import Format, Path, Scalar, with_changes

LARGEST = 128 * 1024
"""Characters; a real configuration has some ten thousand, and PyYAML reads 100,000 a second."""
_MOST_NODES = 50_000
"""Once aliases are written out."""
_DEEPEST = 100
"""Brackets within brackets; PyYAML takes a time quadratic in them."""
_COMMENT = re.compile(r"(?P<comma>[ \t]*,)?[ \t]+#[^\n]*\n")
_MERGE = "tag:yaml.org,2002:merge"
_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ("null", "bool", "int", "float", "str", "timestamp", "value", "map", "seq")
)


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
        return _Values(self.name).mapping(self._root)

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
            document = document.with_text(_Edit(document).with_value(path, value))
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

    def _too_deep(self) -> ExportError:
        return ExportError(
            f"{self.name} is nested too deeply: write the path of a training configuration"
        )


class _Values:
    """Turns nodes into values, within bounds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._constructor = yaml.constructor.SafeConstructor()
        self._open: set[int] = set()
        self._left = _MOST_NODES

    def mapping(self, node: MappingNode) -> dict[str, Any]:
        """Return a mapping, merged ones (``<<``) below its own keys."""
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        with_id = self._enter(node)
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                merged = {**self._merged(value_node), **merged}
                continue
            key = self._key(key_node)
            if key in own:
                raise self._error(key_node, f"gives the key {key[:80]!r} twice: keep one of them")
            own[key] = self._value(value_node)
        self._open.discard(with_id)
        return {**merged, **own}

    def _value(self, node: Node) -> Any:  # noqa: ANN401  # any YAML
        if isinstance(node, MappingNode):
            return self.mapping(node)
        if isinstance(node, SequenceNode):
            with_id = self._enter(node)
            found = [self._value(each) for each in node.value]
            self._open.discard(with_id)
            return found
        self._count(node)
        try:
            return self._constructor.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError, OverflowError, LookupError):
            raise self._error(node, "has a value that cannot be read: write another") from None

    def _merged(self, node: Node) -> dict[str, Any]:
        parts = node.value if isinstance(node, SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for part in parts:
            if not isinstance(part, MappingNode):
                raise self._error(part, "merges (<<) what is no mapping: name one")
            merged = {**self.mapping(part), **merged}
        return merged

    def _key(self, node: Node) -> str:
        if not isinstance(node, ScalarNode):
            raise self._error(node, "has a key that is no text: write one")
        return str(node.value)

    def _enter(self, node: Node) -> int:
        self._count(node)
        if id(node) in self._open:
            raise self._error(node, "has an alias into itself: write the values out")
        self._open.add(id(node))
        return id(node)

    def _count(self, node: Node) -> None:
        self._left -= 1
        if self._left < 0:
            raise self._error(node, "holds too many values: write a training configuration")
        if node.tag not in _PLAIN_TAGS:
            raise self._error(node, f"has the tag {node.tag[:60]}: write a plain value")

    def _error(self, node: Node, sentence: str) -> ExportError:
        return ExportError(f"{self._name}, line {node.start_mark.line + 1}, {sentence}")


class _Edit:
    """Sets one value in a document's text."""

    def __init__(self, document: YamlDocument) -> None:
        self._text, self._name, self._root = document.text, document.name, document._root
        self._used = Counter(id(node) for node in _walk(self._root, set()))
        self._newline = "\r\n" if "\r\n" in self._text else "\n"

    def with_value(self, path: Path, value: Scalar) -> str:
        """Return the text with one value set."""
        mapping = self._root
        for depth, key in enumerate(path):
            node = _child(mapping, key)
            if node is None:
                return self._inserted(mapping, path[depth:], value)
            dotted = ".".join(path[: depth + 1])
            if self._used[id(node)] > 1 or self._text[node.start_mark.index] in "&*!":
                raise ExportError(
                    f"{self._name}: {dotted} has an anchor or is an alias, and what else it "
                    "would change is not known: write the value itself there"
                )
            if depth == len(path) - 1:
                return self._replaced(node, dotted, value)
            if not isinstance(node, MappingNode):
                raise ExportError(f"{self._name}: {dotted} is no mapping: write one there")
            mapping = node
        raise AssertionError("a path has at least one key")

    def _replaced(self, node: Node, dotted: str, value: Scalar) -> str:
        if not isinstance(node, ScalarNode) or node.style in ("|", ">"):
            raise ExportError(f"{self._name}: {dotted} is no plain value: write one there")
        start, end = node.start_mark.index, node.end_mark.index
        gap = " " if start == end else ""  # A value left out stands right after its colon.
        quote = node.style if isinstance(value, str) else None
        return f"{self._text[:start]}{gap}{written(value, quote)}{self._text[end:]}"

    def _inserted(self, mapping: MappingNode, path: Path, value: Scalar) -> str:
        if mapping.flow_style:
            return self._in_flow(mapping, path, value)
        key_node = mapping.value[0][0]
        indent = " " * key_node.start_mark.column
        lines = [f"{indent}{'  ' * depth}{_key(key)}:" for depth, key in enumerate(path)]
        lines[-1] += f" {written(value)}"
        place = self._end_of_line(_end(mapping))
        before = self._text[:place]
        if before and not before.endswith("\n"):
            before += self._newline
        return before + "".join(line + self._newline for line in lines) + self._text[place:]

    def _in_flow(self, mapping: MappingNode, path: Path, value: Scalar) -> str:
        inner = written(value)
        quoted = bool(mapping.value) and mapping.value[-1][0].style == '"'
        for key in reversed(path[1:]):
            inner = f"{{{_key(key, quoted=quoted)}: {inner}}}"
        entry = f"{_key(path[0], quoted=quoted)}: {inner}"
        if not mapping.value:
            place = mapping.start_mark.index + 1
            return f"{self._text[:place]}{entry}{self._text[place:]}"
        last_key, last_value = mapping.value[-1]
        line = self._text.rfind("\n", 0, last_key.start_mark.index) + 1
        indent = self._text[line : last_key.start_mark.index]
        own_line = line > mapping.start_mark.index and not indent.strip()
        place = last_value.end_mark.index
        comment = _COMMENT.match(self._text, place)
        if own_line and comment:  # It belongs to the last entry, and stays on its line.
            comma, end = comment["comma"], comment.end()
            kept = self._text[place:end] if comma else f",{self._text[place:end]}"
            new = f"{indent}{entry}{',' if comma else ''}{self._newline}"
            return f"{self._text[:place]}{kept}{new}{self._text[end:]}"
        gap = f"{self._newline}{indent}" if own_line else " "
        return f"{self._text[:place]},{gap}{entry}{self._text[place:]}"

    def _end_of_line(self, position: int) -> int:
        if position and self._text[position - 1] == "\n":
            return position  # A block scalar ends after its newline.
        found = self._text.find("\n", position)
        return len(self._text) if found < 0 else found + 1


def written(value: Scalar, quote: str | None = None) -> str:
    """Return a value as YAML text; ``1.0e-05`` and never ``1e-05``, which YAML 1.1 takes for text.

    Args:
        value: A finite number, a boolean or a text.
        quote: The quotes that a text has now, kept.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        mantissa, e, exponent = repr(value).partition("e")
        return repr(value) if not e or "." in mantissa else f"{mantissa}.0e{exponent}"
    if quote == "'":
        return "'" + value.replace("'", "''") + "'"
    plain = value.isascii() and value.isidentifier()
    if quote is None and plain and yaml.safe_load(value) == value:
        return value
    return str(yaml.dump(value, default_style='"', width=math.inf)).removesuffix("\n")


def _depth(text: str) -> int:
    """Return how deep brackets are nested; those in comments and texts count, as a bound may."""
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        depth = max(depth + (1 if bracket in "[{" else -1), 0)
        deepest = max(deepest, depth)
    return deepest


def _key(key: str, *, quoted: bool = False) -> str:
    return json.dumps(key) if quoted else written(key)


def _child(mapping: MappingNode, key: str) -> Node | None:
    for key_node, value_node in mapping.value:
        if isinstance(key_node, ScalarNode) and key_node.tag != _MERGE and key_node.value == key:
            found: Node = value_node
            return found
    return None


def _end(node: Node) -> int:
    """Return where a node's own text ends; a block collection's mark is past its comments."""
    while isinstance(node, MappingNode | SequenceNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(node, MappingNode) else last
    return int(node.end_mark.index)


def _walk(node: Node, seen: set[int]) -> Iterator[Node]:
    """Yield every node as often as it is referred to, its inside once."""
    yield node
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield from _walk(key, seen)
            yield from _walk(value, seen)
    elif isinstance(node, SequenceNode):
        for each in node.value:
            yield from _walk(each, seen)


def _plain(values: Mapping[str, Any]) -> str:
    """Return values as a text that equals where they do, NaN included."""
    return json.dumps(values, sort_keys=True, default=str)
