"""What a YAML document says, from its nodes: strictly, and within bounds.

Aliases and merged mappings are written out; a key given twice, a tag and an alias into itself are
errors.
"""

from __future__ import annotations

from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from critical.errors import ExportError

MERGE = "tag:yaml.org,2002:merge"
_MOST_NODES = 50_000
"""Once aliases are written out."""
_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ("null", "bool", "int", "float", "str", "timestamp", "value", "map", "seq")
)


class YamlValues:
    """Turns the nodes of one file into values.

    Args:
        name: The file's, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._constructor = yaml.constructor.SafeConstructor()
        self._open: set[int] = set()
        self._left = _MOST_NODES

    def mapping(self, node: MappingNode) -> dict[str, Any]:
        """Return a mapping, merged ones (``<<``) below its own keys.

        Raises:
            ExportError: It cannot be read in one way only, or is too large.
        """
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        with_id = self._enter(node)
        for key_node, value_node in node.value:
            if key_node.tag == MERGE:
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
