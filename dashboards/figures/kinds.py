"""The kinds of items that trials tell losses of: their order, and their names beside a row."""

from __future__ import annotations

from collections.abc import Iterable

from critical.dashboards.figures import style

_PREFIX = "loss_"
_TASKS = ("reasoning", "keys", "symmetric", "deduction", "addition", "memory", "text")
"""The built-in sources, in the order of the rows; others follow."""
_PLACES = ("held_out", "", "contrast")
"""What stands before a task in the name of its items, in the order of its rows."""
_KINDS = {
    "held_out": "held-out compositions",
    "reasoning": "trained compositions",
    "held_out/keys": "keys,<br>held-out keys",
    "keys": "keys,<br>trained",
    "held_out/symmetric/inferential": "symmetric,<br>inferential answer",
    "symmetric": "symmetric,<br>trained",
    "contrast/symmetric/symmetric": "symmetric,<br>symmetric answer",
    "held_out/deduction/deeper": "deduction,<br>longer proofs",
    "held_out/deduction/names": "deduction,<br>held-out names",
    "deduction": "deduction,<br>trained",
    "held_out/addition": "addition,<br>held-out operands",
    "addition": "addition,<br>trained",
    "memory": "memory anchors",
    "text": "text",
}
"""What the built-in sources' items are, short enough to stand upright beside a row."""
_LABEL_CHARACTERS = 22
"""What a line of such a label holds."""


def source_losses(extras: Iterable[str]) -> list[str]:
    """Return the names of extras that are losses on one kind of item, in the order of the rows.

    A task's rows stand together: its held-out items, its trained ones, and what is contrasted.
    """
    found = {name.removeprefix(_PREFIX) for name in extras if name.startswith(_PREFIX)}
    return [_PREFIX + source for source in sorted(found, key=_row)]


def kind_label(name: str) -> str:
    """Return a row's label, in at most two lines; of a user's own source only its name is known."""
    source = name.removeprefix(_PREFIX)
    if source in _KINDS:
        return _KINDS[source]
    place, task, kind = _parts(source)
    told = [task, kind or place] if kind or place else [task]
    return ",<br>".join(style.safe(_clipped(part.replace("_", " "))) for part in told)


def _row(source: str) -> tuple[int, str, int, str]:
    """Order sources by task, known ones first, and within a task by what the items are."""
    place, task, _ = _parts(source)
    known = _TASKS.index(task) if task in _TASKS else len(_TASKS)
    return known, task, _PLACES.index(place), source


def _parts(source: str) -> tuple[str, str, str]:
    """Return what a source's items are to their task, the task, and their kind, or ""."""
    first, _, rest = source.partition("/")
    if first not in _PLACES or (first != _PLACES[0] and not rest):
        return "", first, rest
    task, _, kind = rest.partition("/")
    return first, task or _TASKS[0], kind  # the default task's name is left out


def _clipped(text: str) -> str:
    """Return a text that fits a line of a label: a longer one would run into the next row's."""
    return text if len(text) <= _LABEL_CHARACTERS else text[: _LABEL_CHARACTERS - 1] + "…"
