"""One value of a YAML document set in its text, block or flow style; all else stays as it is."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from critical.errors import ExportError
from critical.frameworks.documents.document import Path, Scalar
from critical.frameworks.documents.yaml_values import MERGE

_COMMENT = re.compile(r"(?P<comma>[ \t]*,)?[ \t]+#[^\n]*\n")


class YamlEdit:
    """Sets one value in a document's text.

    Args:
        text: The document.
        name: The file's, for messages.
        root: What the text was composed to.
    """

    def __init__(self, text: str, name: str, root: MappingNode) -> None:
        self._text, self._name, self._root = text, name, root
        self._used = Counter(id(node) for node in _walk(self._root, set()))
        self._newline = "\r\n" if "\r\n" in self._text else "\n"

    def with_value(self, path: Path, value: Scalar) -> str:
        """Return the text with one value set.

        Raises:
            ExportError: The value, or a mapping around it, cannot be set as text.
        """
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


def _key(key: str, *, quoted: bool = False) -> str:
    return json.dumps(key) if quoted else written(key)


def _child(mapping: MappingNode, key: str) -> Node | None:
    for key_node, value_node in mapping.value:
        if isinstance(key_node, ScalarNode) and key_node.tag != MERGE and key_node.value == key:
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
