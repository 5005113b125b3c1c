"""What a shell script gives: options and assignments, each with its place."""

from __future__ import annotations

from dataclasses import dataclass

from critical.frameworks.documents.shell_words import Token


@dataclass(frozen=True, slots=True)
class Given:
    """An option where it is given.

    Attributes:
        name: Without its dashes.
        start: Where it starts in the text.
        values: The words that follow it, or what stands behind its ``=``.
        joined: Whether it is written with ``=``.
        group: The variable or array whose text it stands in; None where it is in a command.
        ends_with_line: Whether the end of the line ends the command that it stands in.
        sure: Whether it holds on every run.
    """

    name: str
    start: int
    values: tuple[Token, ...]
    joined: bool
    group: str | None
    ends_with_line: bool
    sure: bool


@dataclass(frozen=True, slots=True)
class Assignment:
    """A variable where it is assigned.

    Attributes:
        name: The variable's.
        start: Where the assignment starts.
        value: What is assigned; None for an array, or where a loop assigns it.
        extends: Whether it adds to the value that was there.
        sure: Whether it holds on every run.
    """

    name: str
    start: int
    value: Token | None
    extends: bool
    sure: bool


@dataclass(frozen=True, slots=True)
class Script:
    """What a script gives.

    Attributes:
        options: In order.
        assignments: In order.
        uses: For every variable that is used: whether each use is sure.
        lists: Variables that stand where options may come from them, as ``"$@"``.
        unread: Names of options in text that could not be taken apart, with their place.
    """

    options: tuple[Given, ...]
    assignments: tuple[Assignment, ...]
    uses: dict[str, list[bool]]
    lists: tuple[str, ...]
    unread: tuple[tuple[str, int], ...]
