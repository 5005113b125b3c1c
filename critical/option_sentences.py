"""One sentence for an option that pydantic refuses: which, what was given, what to write."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

_HIDDEN = "--storage"
"""Its value is never repeated, for it may hold a password."""
_INSTEAD: Mapping[str, str] = {
    "literal_error": "write {expected}",
    "greater_than_equal": "write a number of at least {ge}",
    "greater_than": "write a number above {gt}",
    "less_than": "write a number below {lt}",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "write a whole number"),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), "write a finite number"),
    "string_type": "write a text, in quotes",
    "string_too_short": "write a text that is not empty",
}
"""What to write by the kind of pydantic's own errors; our validators say it themselves."""


def sentence(error: ValidationError) -> str:
    """Return the first of what was refused as a sentence."""
    first = error.errors()[0]
    name, kind = flag(str(first["loc"][0])), first["type"]
    if kind == "extra_forbidden":
        return f"{name.removeprefix('--')!r} is no option of search: see critical search --help"
    given = name if name == _HIDDEN else f"{name} {first['input']!r}"
    message = first["msg"].removeprefix("Value error, ")
    if kind in _INSTEAD:
        message = _INSTEAD[kind].format_map(first.get("ctx", {})).replace("'", "")
    return f"{given} is not allowed: {message[0].lower()}{message[1:]}"


def flag(name: str) -> str:
    """Return an option's name as it is typed."""
    return "--" + name.replace("_", "-")
