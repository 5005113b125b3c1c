"""A shell script, a batch job or a file of arguments that holds ``--options``, edited as text.

Nothing is run. An option whose value cannot be told for sure stands in ``unreadable`` with the
reason, so that whoever needs it can refuse it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from critical.errors import ExportError
from critical.frameworks.documents.document import Format, Path, Scalar
from critical.frameworks.documents.shell_options import Options, Value
from critical.frameworks.documents.shell_values import variable_of
from critical.frameworks.documents.shell_words import Token

_NEIGHBOUR = "hidden-size"
"""The option that a new one is put behind."""


@dataclass(frozen=True)
class ArgumentsDocument:
    """A file with command-line options.

    Attributes:
        text: As in the file.
        name: The file's, for messages.
    """

    text: str
    name: str
    format: Format = "arguments"

    @cached_property
    def options(self) -> Options:
        """The options, each where it stands."""
        return Options(self.text, self.name)

    @property
    def values(self) -> Mapping[str, Value]:
        """What it says, by option without dashes: texts, True for a flag, lists of several words.

        Raises:
            ExportError: The file is too big, or a quote in it is not closed.
        """
        return self.options.values

    @property
    def unreadable(self) -> Mapping[str, str]:
        """By option: a sentence on why its value cannot be told.

        Raises:
            ExportError: As for ``values``.
        """
        return self.options.unreadable

    def with_text(self, text: str) -> ArgumentsDocument:
        """Return the document of the same name with another text."""
        return replace(self, text=text)

    def edited(self, changes: Mapping[Path, Scalar]) -> str:
        """Return the text with some options set, as ``Document`` says.

        A new option is put behind ``--hidden-size``, in the style of that line.

        Raises:
            ExportError: An option's value is unreadable or comes from a variable that is used
                elsewhere too, or there is no ``--hidden-size`` to put a new one behind.
        """
        document = self
        written = {path[0]: _written(value) for path, value in changes.items()}
        for name, value in written.items():
            document = document.with_text(document._with(name, value))
        if document.values != {**self.values, **written} or (
            document.unreadable.keys() != self.unreadable.keys()
        ):
            keys = ", ".join(f"--{name}" for name in written)
            raise ExportError(f"{self.name} cannot be edited as text: set {keys} by hand")
        return document.text

    def _with(self, name: str, value: str) -> str:
        """Return the text with one option set."""
        options = self.options
        if name in options.unreadable:
            raise ExportError(options.unreadable[name])
        given = options.given.get(name)
        if given is None:
            return self._inserted(name, value)
        if name in options.defaults:
            raise ExportError(
                f"{options.where(given)} has a variable's default, and a run can set another: "
                "write the number itself there"
            )
        words = options.words(given)
        if len(words) != 1:
            raise ExportError(f"{options.where(given)} has no value of its own: write one there")
        variable = variable_of(words[0])
        if variable is None:
            return self._replaced(words[0], value)
        behind = options.assigned[variable][0].value
        if len(options.script.uses[variable]) > 1 or behind is None or variable_of(behind):
            raise ExportError(
                f"{options.where(given)} is ${variable}, which something else uses too: write the "
                "number itself there"
            )
        return self._replaced(behind, value)

    def _replaced(self, word: Token, value: str) -> str:
        return f"{self.text[: word.start]}{value}{self.text[word.end :]}"

    def _inserted(self, name: str, value: str) -> str:
        """Return the text with a new option behind its neighbour, on a line of its own if that is.

        In a command, a line that does not end with a backslash ends the command: there the option
        goes on the same line.
        """
        neighbour = self.options.given.get(_NEIGHBOUR)
        words = () if neighbour is None else self.options.words(neighbour)
        if neighbour is None or len(words) != 1:
            raise ExportError(
                f"{self.name} gives no --{_NEIGHBOUR} N: write it, as --{_NEIGHBOUR} 2048"
            )
        option = f"--{name}={value}" if neighbour.joined else f"--{name} {value}"
        end = words[0].end
        before, rest, newline = self._line_around(neighbour.start, end)
        first = self.text.rfind("\n", 0, neighbour.start) + 1
        continues = neighbour.ends_with_line and self.text[:first].endswith(("\\\n", "\\\r\n"))
        if before.strip():
            return f"{self.text[:end]} {option}{self.text[end:]}"
        if rest.strip() == "\\":
            return f"{self.text[:end]}{rest}{newline}{before}{option}{self.text[end:]}"
        stop = end + len(rest)
        if not continues and rest.strip()[:1] in ("", "#"):
            return f"{self.text[:stop]}{newline}{before}{option}{self.text[stop:]}"
        return f"{self.text[:end]} {option}{self.text[end:]}"

    def _line_around(self, start: int, end: int) -> tuple[str, str, str]:
        """Return what stands before ``start`` and behind ``end`` on its line, and how lines end."""
        before = self.text[self.text.rfind("\n", 0, start) + 1 : start]
        stop = self.text.find("\n", end)
        rest = self.text[end:] if stop < 0 else self.text[end:stop]
        return before, rest.rstrip("\r"), "\r\n" if rest.endswith("\r") else "\n"


def _written(value: Scalar) -> str:
    """Return a value as an argument.

    Raises:
        TypeError: It is a flag or a text, which nothing sets.
    """
    if isinstance(value, bool | str):
        raise TypeError("only numbers are written into a script")
    return repr(value)
