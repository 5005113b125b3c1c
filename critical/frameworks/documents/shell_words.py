"""A shell script cut into words, as far as options need it; nothing is executed or expanded.

Known are quotes, escapes, comments, line continuations, here-documents, redirections, and
``$(…)``, ``${…}`` and backticks as parts of words. Every character is looked at a bounded number
of times, so that a huge file takes time in proportion.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["word", "newline", "operator"]

_SPACE = re.compile(r"(?:[ \t\r\f\v]+|\\\r?\n)+")
_PLAIN = re.compile(r"[^\s\\'\"`$;&|()<>]+")
_OPERATOR = re.compile(
    r"\(\((?:[^()\n]|\([^()\n]*\))*\)\)|&>>?|<<<|<<-?|>>|>\||[<>]&|<>|&&|\|\||;;|[;&|()<>]"
)
_NESTING = re.compile(r"[\\'\"`(){}]")
_CLOSES = {'"': '"', "(": ")", "{": "}"}
_DELIMITER = re.compile(r"[ \t]*['\"]?([A-Za-z_][A-Za-z0-9_]*)['\"]?")


class UnclosedError(ValueError):
    """A quote or an expansion that the text does not close.

    Attributes:
        position: Where it opens.
    """

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


@dataclass(frozen=True, slots=True)
class Token:
    """A word, the end of a line, or an operator such as ``;`` or ``>``.

    Attributes:
        kind: Which of them.
        start: Where it starts in the text.
        end: Where it ends.
        text: As it stands there, quotes included.
    """

    kind: Kind
    start: int
    end: int
    text: str


def tokens(text: str, start: int = 0, end: int | None = None) -> Iterator[Token]:
    """Yield the tokens of a script, comments and here-documents left out.

    Args:
        text: The script.
        start: Where to begin.
        end: Where to stop; None for the end of the text.

    Raises:
        UnclosedError: A quote or an expansion is not closed before ``end``.
    """
    end = len(text) if end is None else end
    here: list[str] = []
    position = start
    while position < end:
        if space := _SPACE.match(text, position, end):
            position = space.end()
        elif text[position] == "\n":
            yield Token("newline", position, position + 1, "\n")
            position = _after_documents(text, position + 1, end, here)
            here = []
        elif text[position] == "#":
            found = text.find("\n", position, end)
            position = end if found < 0 else found
        elif operator := _OPERATOR.match(text, position, end):
            position = operator.end()
            if operator[0] in ("<<", "<<-") and (name := _DELIMITER.match(text, position, end)):
                here.append(name[1])
                position = name.end()
                continue
            yield Token("operator", operator.start(), position, operator[0])
        else:
            after = _after_word(text, position, end)
            yield Token("word", position, after, text[position:after])
            position = after


def unquoted(text: str) -> str | None:
    """Return what a word says once its quotes are removed; None where it has an expansion."""
    parts: list[str] = []
    position = 0
    while position < len(text):
        character = text[position]
        if character in "$`":
            return None
        if character == "\\":
            parts.append(text[position + 1 : position + 2].replace("\n", ""))
            position += 2
        elif character == "'":
            closing = text.index("'", position + 1)
            parts.append(text[position + 1 : closing])
            position = closing + 1
        elif character == '"':
            closing = _after(text, position + 1, len(text), '"', position) - 1
            inner = text[position + 1 : closing]
            if re.search(r"(?<!\\)[$`]", inner):
                return None
            parts.append(re.sub(r"\\(\r?\n|[$`\"\\])", _escaped, inner))
            position = closing + 1
        else:
            plain = _PLAIN.match(text, position)
            parts.append(plain[0] if plain else character)
            position += len(parts[-1])
    return "".join(parts)


def quoted_part(text: str) -> tuple[int, int] | None:
    """Return where the inside of a word that is quoted as a whole starts and ends, else None."""
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "'\"":
        return None
    closing = text.index("'", 1) + 1 if text[0] == "'" else _after(text, 1, len(text), '"', 0)
    return (1, len(text) - 1) if closing == len(text) else None


def _escaped(match: re.Match[str]) -> str:
    return match[1] if match[1] in '$`"\\' else ""


def _after_word(text: str, start: int, end: int) -> int:
    """Return where the word that starts at ``start`` ends."""
    position = start
    while position < end:
        character = text[position]
        if plain := _PLAIN.match(text, position, end):
            position = plain.end()
        elif character == "\\":
            position = min(position + 2, end)
        elif character in "'`":
            position = _find(text, character, position, end) + 1
        elif character == '"':
            position = _after(text, position + 1, end, '"', position)
        elif character == "$":
            opening = text[position + 1 : position + 2]
            if opening in ("(", "{") and position + 1 < end:
                position = _after(text, position + 2, end, opening, position)
            else:
                position += 1
        else:
            break
    return position


def _after(text: str, position: int, end: int, opened: str, start: int) -> int:
    """Return where a double quote, ``$(`` or ``${`` that is open at ``position`` is closed."""
    stack = [opened]
    while stack:
        found = _NESTING.search(text, position, end)
        if found is None:
            raise UnclosedError(start)
        character, position = found[0], found.end()
        inside = stack[-1]
        if character == "\\":
            position += 1
        elif character == _CLOSES[inside]:
            stack.pop()
        elif character == '"' or (
            character in "({" and (inside != '"' or text[found.start() - 1] == "$")
        ):
            stack.append(character)
        elif character in "'`" and inside != '"':
            position = _find(text, character, found.start(), end) + 1
    return position


def _find(text: str, character: str, start: int, end: int) -> int:
    found = text.find(character, start + 1, end)
    if found < 0:
        raise UnclosedError(start)
    return found


def _after_documents(text: str, position: int, end: int, names: list[str]) -> int:
    """Return where the here-documents that start at ``position`` have ended."""
    for name in names:
        closing = re.compile(rf"^\t*{re.escape(name)}\r?$", re.MULTILINE)
        found = closing.search(text, position, end)
        position = end if found is None else found.end()
    return position
