"""The options and the simple assignments of a shell script, each where it stands.

A script is read from top to bottom without being run: what stands in a branch of an ``if`` or
``case``, or behind ``||`` or a test, may or may not hold, and is marked so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from critical.frameworks.documents.shell_statements import Assignment, Given, Script
from critical.frameworks.documents.shell_words import Token, UnclosedError, quoted_part, tokens

OPTION = re.compile(r"--([A-Za-z][A-Za-z0-9_-]*)(?:=(.*))?", re.DOTALL)
USE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")
VARIABLE = re.compile(r"\"?\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})\"?")
_LIST = re.compile(r"\"?\$(?:[@*]|\{@[^}]*\}|\{[A-Za-z_][A-Za-z0-9_]*\[[@*]\][^}]*\})\"?")
_HOLDS_OPTION = re.compile(r"(?:^|[\s'\"])--[A-Za-z]")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\+?=)", re.ASCII)
_OF_TRAINING = re.compile(r"^--[a-z]|\.py\b")
"""A word of a command, or of a list of options, that a training is started with."""
_DECLARING = frozenset({"export", "declare", "local", "readonly", "typeset"})
_PRINTING = frozenset({"echo", "printf"})
_TESTING = frozenset({"[", "[[", "test"})
_BEFORE_COMMANDS = frozenset(
    {"then", "else", "elif", "do", "while", "until", "{", "}", "!", "time", "function", "exec"}
)
_ENDS = frozenset({";", ";;", "&", "&&", "|", "||", "(", ")"})
_DEEPEST = 3
"""Quotes within quotes that are looked into."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where options stand: in the text of which variable, how, and in how many quotes."""

    group: str | None
    ends_with_line: bool
    depth: int = 0


def parse(text: str) -> Script:
    """Read a script.

    Raises:
        UnclosedError: A quote or an expansion is not closed.
    """
    reader = _Reader(text)
    reader.read(tokens(text))
    return Script(
        tuple(reader.options),
        tuple(reader.assignments),
        reader.uses,
        tuple(reader.lists),
        tuple(reader.unread),
    )


@dataclass
class _Reader:
    """Reads commands one after the other."""

    text: str
    options: list[Given] = field(default_factory=list)
    assignments: list[Assignment] = field(default_factory=list)
    uses: dict[str, list[bool]] = field(default_factory=dict)
    lists: list[str] = field(default_factory=list)
    unread: list[tuple[str, int]] = field(default_factory=list)
    _branches: int = 0
    _behind: bool = False
    _tested: bool = False
    _arrays: list[tuple[Token, list[Token]]] = field(default_factory=list)

    def read(self, stream: Iterator[Token]) -> None:
        """Read commands to the end of the stream."""
        command: list[Token] = []
        for token in stream:
            if token.kind == "word":
                command.append(token)
            elif token.kind == "newline" or token.text in _ENDS:
                opened = command[-1] if command and token.text == "(" else None
                if opened and opened.end == token.start and _ASSIGNMENT.fullmatch(opened.text):
                    self._arrays.append((opened, _array(stream)))
                    continue
                if command or self._arrays or token.kind == "operator":
                    self._finish(command)
                    self._behind = token.text == "||" or (token.text == "&&" and self._tested)
                command = []
            elif token.text.startswith("(("):
                command.append(Token("word", token.start, token.end, "[["))
            else:
                _redirect(stream, token, command)
        self._finish(command)

    def _finish(self, words: Sequence[Token]) -> None:
        words = self._after_keywords(list(words))
        arrays, self._arrays = self._arrays, []
        self._tested = bool(words) and (words[0].text in _TESTING or words[-1].text in ("]", "]]"))
        for name, body in arrays:
            self._array(name, body)
        opened = {name.start for name, _ in arrays}
        rest = [word for word in words if word.start not in opened]
        if rest and rest[0].text in _DECLARING:
            rest = [word for word in rest[1:] if not word.text.startswith("-")]
        assigned = [word for word in rest if _ASSIGNMENT.match(word.text)]
        if len(assigned) == len(rest):
            for word in rest:
                self._assign(word)
        elif rest[0].text in _TESTING:
            for word in rest:
                self._note_uses(word.text, None)
        elif rest[0].text not in _PRINTING:
            self._options(rest, _Place(None, True))

    def _after_keywords(self, words: list[Token]) -> list[Token]:
        """Return a command without the shell's words before it, and note what they mean."""
        for place, token in enumerate(words):
            word = token.text
            if word in ("if", "case"):
                self._branches += 1
            elif word in ("fi", "esac"):
                self._branches -= 1
            elif word in ("for", "select") and place + 1 < len(words):
                loop = Assignment(words[place + 1].text, token.start, None, False, False)
                self.assignments.append(loop)
                return []
            elif word not in _BEFORE_COMMANDS:
                return words[place:]
        return []

    @property
    def _sure(self) -> bool:
        return self._branches <= 0 and not self._behind

    def _array(self, opened: Token, body: list[Token]) -> None:
        match = _ASSIGNMENT.match(opened.text)
        assert match is not None
        extends = match[2] == "+="
        self.assignments.append(Assignment(match[1], opened.start, None, extends, self._sure))
        self._options(body, _Place(match[1], False))

    def _assign(self, word: Token) -> None:
        match = _ASSIGNMENT.match(word.text)
        assert match is not None
        name, value = match[1], _part(word, match.end())
        extends = match[2] == "+=" or any(used[1] == name for used in USE.finditer(value.text))
        self.assignments.append(Assignment(name, word.start, value, extends, self._sure))
        self._note_uses(value.text, name)
        self._inside(value, _Place(name, False))

    def _options(self, words: Sequence[Token], place: _Place) -> None:
        """Take the options from the words of a command, an array or a quoted text."""
        option: tuple[Token, str] | None = None
        values: list[Token] = []
        runs_python = any(_OF_TRAINING.search(word.text) for word in words)
        for word in words:
            if not place.depth:
                self._note_uses(word.text, place.group)
            match = OPTION.fullmatch(word.text)
            if _LIST.fullmatch(word.text) or (option is None and VARIABLE.fullmatch(word.text)):
                if runs_python:
                    self.lists.append(word.text)
            elif match is None:
                self._inside(word, place)
                values.append(word)
                continue
            self._give(option, values, place)
            option, values = None, []
            if match is not None and match[2] is None:
                option = (word, match[1])
            elif match is not None:
                self._give((word, match[1]), [_part(word, match.start(2))], place, joined=True)
        self._give(option, values, place)

    def _give(
        self,
        option: tuple[Token, str] | None,
        values: list[Token],
        place: _Place,
        *,
        joined: bool = False,
    ) -> None:
        if option is not None:
            word, name = option
            self.options.append(
                Given(
                    name, word.start, tuple(values), joined, place.group, place.ends_with_line,
                    self._sure,
                )
            )  # fmt: skip

    def _inside(self, word: Token, place: _Place) -> None:
        """Take the options from a quoted text, if it holds some."""
        if not _HOLDS_OPTION.search(word.text):
            return
        part = quoted_part(word.text)
        if part is None or place.depth >= _DEEPEST:
            self._leave(word)
            return
        inside = tokens(self.text, word.start + part[0], word.start + part[1])
        try:
            words = [token for token in inside if token.kind == "word"]
        except UnclosedError:
            self._leave(word)
            return
        self._options(words, _Place(place.group, False, place.depth + 1))

    def _leave(self, word: Token) -> None:
        """Note the options in a text that is not taken apart."""
        for match in re.finditer(r"--([A-Za-z][A-Za-z0-9_-]*)", word.text):
            self.unread.append((match[1], word.start + match.start()))

    def _note_uses(self, text: str, group: str | None) -> None:
        """Note which variables a text uses; one that adds to itself is not used by that."""
        if "$" in text:
            for used in USE.finditer(text):
                if used[1] != group:
                    self.uses.setdefault(used[1], []).append(self._sure)


def _array(stream: Iterator[Token]) -> list[Token]:
    """Return the words of an array's body, up to the parenthesis that closes it."""
    words: list[Token] = []
    for token in stream:
        if token.text == ")" and token.kind == "operator":
            break
        if token.kind == "word":
            words.append(token)
    return words


def _redirect(stream: Iterator[Token], operator: Token, command: list[Token]) -> None:
    """Leave out where a command's output goes: ``2>``, ``>&``, and the file's name."""
    if command and command[-1].end == operator.start and command[-1].text.isdigit():
        command.pop()
    for token in stream:
        if token.kind != "operator":  # ``<(…)`` has an operator next, which ends the command.
            break


def _part(word: Token, start: int) -> Token:
    """Return the part of a word from a place in it on."""
    return Token("word", word.start + start, word.end, word.text[start:])
