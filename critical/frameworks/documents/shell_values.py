"""What one word of a script says, through the variables that the same file sets.

A variable counts that is set once, plainly and before, or that has a default, as ``${N:-24}`` and
``N=${N:-24}`` have: it is what holds unless a run sets another, by its environment or arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from critical.frameworks.documents.shell_script import VARIABLE
from critical.frameworks.documents.shell_statements import Assignment
from critical.frameworks.documents.shell_words import Token, unquoted

_DEFAULT = re.compile(
    r"\"?\$\{([A-Za-z_][A-Za-z0-9_]*|[1-9]):?[-=]([A-Za-z0-9_.,:/@%+][A-Za-z0-9_.,:/@%+-]*)\}\"?"
)
"""Of plain characters only, which no shell splits, expands or takes for an option."""
_MOST_VARIABLES = 8
"""Variables that are looked up one from the other."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a word says.

    Attributes:
        text: Its text; None where that cannot be told.
        problem: Why it cannot.
        default_of: The variable whose default it is; None where it is sure.
    """

    text: str | None
    problem: str = ""
    default_of: str | None = None


def told(
    word: Token,
    assigned: Mapping[str, Sequence[Assignment]],
    lines: Callable[[Sequence[Assignment]], str],
) -> Told:
    """Return what a word says.

    Args:
        word: As it stands.
        assigned: Every assignment of the file, by variable.
        lines: Returns the numbers of the lines that some assignments stand at, as text.
    """
    for _ in range(_MOST_VARIABLES):
        default = default_of(word)
        if default is not None:
            name, text = default
            others = [each for each in assigned.get(name, ()) if each.value != word]
            if others:
                return Told(None, f"and {name} is set at line {lines(others)} too")
            return Told(text, default_of=name)
        variable = variable_of(word)
        if variable is None:
            return Told(unquoted(word.text), "which only a shell can work out")
        found = assigned.get(variable, ())
        only = found[0].value if len(found) == 1 else None
        if only is None or not _is_plain(found[0], before=word.start):
            return Told(None, _unset(found, lines))
        word = only
    return Told(None, "which leads through too many variables")


def variable_of(word: Token) -> str | None:
    """Return the variable that a word is as a whole, as ``$WIDTH`` or ``"${WIDTH}"``."""
    match = VARIABLE.fullmatch(word.text)
    return None if match is None else match[1] or match[2]


def default_of(word: Token) -> tuple[str, str] | None:
    """Return the variable and its default that a word is as a whole, as ``${N:-24}``."""
    match = _DEFAULT.fullmatch(word.text)
    return None if match is None else (match[1], match[2])


def _unset(found: Sequence[Assignment], lines: Callable[[Sequence[Assignment]], str]) -> str:
    if not found:
        return "which the file does not set"
    if len(found) > 1:
        return f"which lines {lines(found)} set"
    return f"which line {lines(found)} does not set plainly before"


def _is_plain(only: Assignment, before: int) -> bool:
    if only.value is None or not only.sure or only.start > before:
        return False
    default = default_of(only.value)  # Of itself, it adds nothing to what was there.
    return not only.extends or (default is not None and default[0] == only.name)
