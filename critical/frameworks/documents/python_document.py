"""Python that assigns values, as nanoGPT's config/train_*.py: read with ``ast``, never run.

Known is what a name holds after the last statement if that is a literal, or arithmetic on numbers.
Any other name that the file assigns, in a loop or from a call, is told by its line, so that nobody
takes a default for it. The text is never edited: it is somebody's program.
"""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from critical.errors import ExportError
from critical.frameworks.documents.document import Format, Path, Scalar

LARGEST = 512 * 1024
"""Characters; a real configuration has some hundred."""
EVERY_NAME = "*"
"""In ``unread`` where the file imports every name of a module: any name may come from there."""
_LARGEST_NUMBER = 10**30
_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


class _UnknownError(ValueError):
    """An expression whose value is known to Python alone."""


@dataclass(frozen=True)
class PythonDocument:
    """A Python file's assignments.

    Attributes:
        text: As in the file.
        name: The file's, for messages.
    """

    text: str
    name: str
    format: Format = "python"

    @cached_property
    def values(self) -> Mapping[str, Any]:
        """What each name holds at the end; tuples as lists, and no name of ``unread``.

        Raises:
            ExportError: It is no Python.
        """
        return self._assigned[0]

    @cached_property
    def unread(self) -> Mapping[str, int]:
        """The names that are assigned what only running the file would tell, with their lines.

        Raises:
            ExportError: It is no Python.
        """
        return self._assigned[1]

    def with_text(self, text: str) -> PythonDocument:
        """Return the document of the same name with another text."""
        return replace(self, text=text)

    def edited(self, changes: Mapping[Path, Scalar]) -> str:
        """Return the text where nothing is to change.

        Raises:
            ExportError: Something is.
        """
        if changes:
            keys = ", ".join(".".join(path) for path in changes)
            raise ExportError(f"{self.name} is Python and stays as it is: set {keys} by hand")
        return self.text

    @cached_property
    def _assigned(self) -> tuple[dict[str, Any], dict[str, int]]:
        values: dict[str, Any] = {}
        unread: dict[str, int] = {}
        for statement in self._parsed().body:
            names, value = _assignment(statement)
            try:
                found = _value(value) if value is not None else None
            except (_UnknownError, RecursionError):
                names, value = [], None
            if value is None:
                stored = set(_stored(statement))
                if EVERY_NAME in stored:
                    stored |= values.keys()
                for name in stored:
                    values.pop(name, None)
                    unread[name] = statement.lineno
            for name in names:
                values[name] = found
                unread.pop(name, None)
        return values, unread

    def _parsed(self) -> ast.Module:
        if len(self.text) > LARGEST:
            raise ExportError(
                f"{self.name} is over 512 KiB: write the path of a training configuration"
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Of the file's own escapes and comparisons.
                return ast.parse(self.text)
        except SyntaxError as reason:
            where = f" at line {reason.lineno}" if reason.lineno else ""
            problem = " ".join((reason.msg or "").split())[:120]
            raise ExportError(f"{self.name} is not Python{where}: {problem}") from None
        except (ValueError, RecursionError, MemoryError):
            raise ExportError(
                f"{self.name} is not Python that can be read: write the path of a training "
                "configuration"
            ) from None


def _assignment(statement: ast.stmt) -> tuple[list[str], ast.expr | None]:
    """Return the names that a plain assignment sets, and what to; else no names and None."""
    if isinstance(statement, ast.Assign):
        targets, value = statement.targets, statement.value
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets, value = [statement.target], statement.value
    else:
        return [], None
    names = [each.id for each in targets if isinstance(each, ast.Name)]
    return (names, value) if len(names) == len(targets) else ([], None)


def _value(node: ast.expr) -> Any:  # noqa: ANN401  # any literal
    """Return a literal's value, or that of arithmetic on numbers."""
    if isinstance(node, ast.Constant):
        return _plain(node.value)
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(each) for each in node.elts]
    if isinstance(node, ast.Dict):
        keys = [_value(key) if key is not None else None for key in node.keys]
        if not all(isinstance(key, str) for key in keys):
            raise _UnknownError
        return {key: _value(value) for key, value in zip(keys, node.values, strict=True)}
    return _number(node)


def _number(node: ast.expr) -> float:
    if isinstance(node, ast.Constant):
        value = _plain(node.value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _UnknownError
        return value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        operand = _number(node.operand)
        return -operand if isinstance(node.op, ast.USub) else operand
    if isinstance(node, ast.BinOp):
        left, right = _number(node.left), _number(node.right)
        return _bounded(node.op, left, right)
    raise _UnknownError


def _bounded(how: ast.operator, left: float, right: float) -> float:
    """Calculate, and refuse what grows beyond any number of a configuration."""
    try:
        if isinstance(how, ast.Pow) and abs(left) <= 1000 and abs(right) <= 10:
            result = left**right
        else:
            result = _OPERATORS[type(how)](left, right)
    except (KeyError, ArithmeticError, ValueError):
        raise _UnknownError from None
    if isinstance(result, complex) or not abs(result) < _LARGEST_NUMBER:
        raise _UnknownError
    return float(result) if isinstance(result, float) else int(result)


def _plain(value: object) -> Any:  # noqa: ANN401  # a literal
    if isinstance(value, float) and not math.isfinite(value):
        raise _UnknownError
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise _UnknownError


def _stored(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement may set in the module's own scope."""
    open_: list[ast.AST] = [statement]
    while open_:
        node = open_.pop()
        if isinstance(node, _SCOPES):
            if not isinstance(node, ast.Lambda):
                yield node.name
            declared = (each for each in ast.walk(node) if isinstance(each, ast.Global))
            yield from (name for each in declared for name in each.names)
            continue
        if isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield from (each.id for each in ast.walk(node.value) if isinstance(each, ast.Name))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            yield node.id
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]
        elif isinstance(node, ast.MatchAs | ast.MatchStar | ast.ExceptHandler) and node.name:
            yield node.name
        elif isinstance(node, ast.MatchMapping) and node.rest:
            yield node.rest
        open_.extend(ast.iter_child_nodes(node))
