"""Text of others, as it is shown: what would move a terminal's cursor or hide a letter is visible.

A trial's exception, a study's name in a shared store or a file's name may hold anything.
"""

from __future__ import annotations

import re

_PICTURES = {code: 0x2400 + code for code in range(0x20)} | {0x7F: 0x2421}
_KEPT = "\n\t"
_HIDDEN = (
    *range(0x80, 0xA0),  # an escape sequence begins with U+009B too
    *range(0x202A, 0x202F),  # these and the next turn the direction of writing
    *range(0x2066, 0x206A),
    *range(0x2028, 0x202A),  # line ends
    *range(0xD800, 0xE000),  # halves of a letter, which cannot be encoded
)
_SHOWN = {**_PICTURES, **dict.fromkeys(_HIDDEN, 0xFFFD)}
for _letter in _KEPT:
    del _SHOWN[ord(_letter)]
_ESCAPED = {code: f"\\u{code:04x}" for code in (*_HIDDEN, 0x7F)}
_PASSWORDS = (
    (re.compile(r"(://[^\s/@:]*:)\S*@"), r"\1***@"),
    (re.compile(r"([?&\s]\w*pass\w*=)[^\s&)'\"]+", re.IGNORECASE), r"\1***"),
)


def visible(text: str) -> str:
    """Return a text with a picture for every control character but line ends and tabs."""
    return text.translate(_SHOWN)


def visible_line(text: str) -> str:
    """Return a text as one line, and without the password of a URL that somebody has typed."""
    line = visible(text).replace("\n", "\N{SYMBOL FOR NEWLINE}")
    for pattern, hidden in _PASSWORDS:
        line = pattern.sub(hidden, line)
    return line


def escaped_json(text: str) -> str:
    """Return a JSON document in which such characters are escaped, as JSON itself does with some.

    It is the same document: they can only stand in strings.
    """
    return text.translate(_ESCAPED)
