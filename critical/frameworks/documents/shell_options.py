"""What the options of a script are worth: the values that hold on every run, and why others do not.

A value is what stands there, or what a variable says that the same file sets once, plainly and
before, or a variable's default. An option that is given twice, or on a condition only, is worth
nothing here.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from critical.errors import ExportError
from critical.frameworks.documents.shell_script import parse
from critical.frameworks.documents.shell_statements import Assignment, Given, Script
from critical.frameworks.documents.shell_values import Told, told, variable_of
from critical.frameworks.documents.shell_words import Token, UnclosedError

LARGEST = 512 * 1024
"""Characters; a real script has some thousand."""
Value = str | bool | list[str]


@dataclass(frozen=True)
class Options:
    """The options of one file.

    Attributes:
        text: The file's.
        name: The file's, for messages.
    """

    text: str
    name: str

    @cached_property
    def given(self) -> Mapping[str, Given]:
        """Every option in use, by name; of one that is given twice, the first."""
        return {name: all_given[0] for name, all_given in self._all_given.items()}

    @cached_property
    def values(self) -> Mapping[str, Value]:
        """What is told for sure: texts, True for a flag, lists of several words."""
        found: dict[str, Value] = {}
        for name, given in self.given.items():
            if name not in self.unreadable:
                texts = [self._told(word).text or "" for word in self.words(given)]
                found[name] = texts if len(texts) > 1 else texts[0] if texts else True
        return found

    @cached_property
    def unreadable(self) -> Mapping[str, str]:
        """By option: a sentence on why its value cannot be told."""
        found = dict(self._problems)
        for name, given in self.given.items():
            for word in self.words(given):
                one = self._told(word)
                if one.text is None and name not in found:
                    found[name] = (
                        f"{self.where(given)} is {word.text[:40]}, {one.problem}: write the value "
                        "itself there"
                    )
        return found

    @cached_property
    def defaults(self) -> Mapping[str, str]:
        """By option: a sentence on a variable's default that is taken for its value."""
        found = {}
        for name in self.values:
            for word in self.words(self.given[name]):
                one = self._told(word)
                if one.default_of is not None:
                    found[name] = (
                        f"taken for --{name} is {one.text}, the default of ${one.default_of}: a "
                        "run can set another"
                    )
        return found

    @cached_property
    def flags(self) -> frozenset[str]:
        """The options that are given for sure, and nothing behind them but unknown variables."""
        return frozenset(
            name
            for name, given in self.given.items()
            if name not in self._problems
            and not given.joined
            and all(self._is_unknown(word) for word in self.words(given))
        )

    @cached_property
    def remarks(self) -> tuple[str, ...]:
        """Sentences on options that may come from elsewhere, or stand here and are not used."""
        sentences = [
            f"the options in {group} are not read: nothing in {self.name} uses {group}"
            for group in self._unused
        ]
        elsewhere = [
            each
            for each in dict.fromkeys(word.strip('"') for word in self.script.lists)
            if self.assigned.keys().isdisjoint(re.findall(r"\w+", each))
        ]
        if elsewhere:
            sentences.append(f"options that come from {', '.join(elsewhere)} are not seen")
        return tuple(sentences)

    @cached_property
    def script(self) -> Script:
        """The file, taken apart.

        Raises:
            ExportError: It is too big, or a quote in it is not closed.
        """
        if len(self.text) > LARGEST:
            raise ExportError(f"{self.name} is over 512 KiB: write the path of a training script")
        try:
            return parse(self.text)
        except UnclosedError as where:
            raise ExportError(
                f"{self.name}, line {self.line(where.position)}, opens a quote or a parenthesis "
                "that the file does not close: close it"
            ) from None

    @cached_property
    def assigned(self) -> Mapping[str, list[Assignment]]:
        """Every assignment, by variable."""
        by_name: dict[str, list[Assignment]] = {}
        for each in self.script.assignments:
            by_name.setdefault(each.name, []).append(each)
        return by_name

    def words(self, given: Given) -> Sequence[Token]:
        """Return an option's own words, without variables behind them that hold other options."""
        words = given.values
        while words and not given.joined:
            variable = variable_of(words[-1])
            holds_options = variable in self._groups or (
                len(words) > 1 and variable is not None and variable not in self.assigned
            )
            if not holds_options:
                break
            words = words[:-1]
        return words

    def where(self, given: Given) -> str:
        """Return how a message names an option: by its file and line."""
        return f"{self.name}, line {self.line(given.start)}: --{given.name}"

    def line(self, position: int) -> int:
        """Return the number of the line that holds a place in the text."""
        return bisect.bisect_left(self._newlines, position) + 1

    @cached_property
    def _newlines(self) -> list[int]:
        return [match.start() for match in re.finditer("\n", self.text)]

    def _lines(self, places: Sequence[Given] | Sequence[Assignment]) -> str:
        return " and ".join(str(self.line(each.start)) for each in places[:8])

    @cached_property
    def _groups(self) -> frozenset[str]:
        """The variables and arrays that hold options."""
        return frozenset(each.group for each in self.script.options if each.group is not None)

    @cached_property
    def _unused(self) -> tuple[str, ...]:
        """The groups that nothing uses, unless the file has nothing but groups."""
        used = self._groups & self.script.uses.keys()
        if not used and all(each.group is not None for each in self.script.options):
            return ()
        return tuple(sorted(self._groups - used))

    @cached_property
    def _all_given(self) -> Mapping[str, list[Given]]:
        by_name: dict[str, list[Given]] = {}
        for each in self.script.options:
            if each.group not in self._unused:
                by_name.setdefault(each.name, []).append(each)
        return by_name

    @cached_property
    def _problems(self) -> Mapping[str, str]:
        return dict(self._found_problems())

    def _found_problems(self) -> Iterator[tuple[str, str]]:
        """Yield (option, sentence) for those that are given twice, or not for sure."""
        for name, at in self.script.unread:
            yield (
                name,
                (
                    f"{self.name}, line {self.line(at)}, has --{name} in a text that is not read: "
                    "write it plainly"
                ),
            )
        for name, all_given in self._all_given.items():
            first = all_given[0]
            if len(all_given) > 1:
                lines = self._lines(all_given)
                yield name, f"{self.name} gives --{name} at lines {lines}: keep one of them"
            elif not first.sure:
                yield (
                    name,
                    (
                        f"{self.where(first)} holds on a condition only: write it where it always "
                        "holds"
                    ),
                )
            elif problem := self._problem_of(first.group):
                yield name, f"{self.where(first)} stands in {first.group}, {problem}"

    def _problem_of(self, group: str | None) -> str | None:
        """Return why the options of a group may not hold."""
        if group is None:
            return None
        uses = self.script.uses.get(group)
        if uses is not None and not any(uses):
            return "which is used on a condition only: use it where it always holds"
        whole = [each for each in self.assigned.get(group, ()) if not each.extends]
        if len(whole) > 1:
            return f"which lines {self._lines(whole)} set: keep one of them"
        return None

    def _is_unknown(self, word: Token) -> bool:
        variable = variable_of(word)
        return variable is not None and variable not in self.assigned

    def _told(self, word: Token) -> Told:
        return told(word, self.assigned, self._lines)
