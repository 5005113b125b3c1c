"""Every source that a mixture can have, and where each alphabet's token ids lie in the model's.

To add a task, write a module with a ``Task`` beside this one and name it in ``TASKS``.
"""

from __future__ import annotations

from collections.abc import Iterable

from critical.trials.corpus import Corpus
from critical.trials.tasks.addition import Addition
from critical.trials.tasks.composition import ANCHORS, Composition
from critical.trials.tasks.deduction import Deduction
from critical.trials.tasks.keys import Keys
from critical.trials.tasks.memory import Memory
from critical.trials.tasks.source import Source, Task
from critical.trials.tasks.symmetric import Symmetric
from critical.trials.tasks.text import LENGTH as TEXT_LENGTH
from critical.trials.tasks.text import Text, alphabet_of_text

TASKS: tuple[type[Task], ...] = (Composition, Memory, Keys, Symmetric, Deduction, Addition)
"""In the order in which mixtures draw, so new ones belong at the end."""
_BY_NAME = {task.name: task for task in TASKS}
SOURCES = (*_BY_NAME, Text.name)
REASONING = tuple(task.name for task in TASKS if task.reasons)
"""The sources that R can be measured on."""


def make_source(name: str, seed: int, corpus: Corpus | None) -> Source:
    """Make a source for one seed; ``corpus`` is what ``text`` needs."""
    if name == Text.name:
        assert corpus is not None
        return Text(corpus)
    return _BY_NAME[name](seed)


def longest(names: Iterable[str]) -> int:
    """Return the most tokens that a sequence has; a text's window always fits."""
    return max((TEXT_LENGTH, *(_BY_NAME[name].length for name in names if name in _BY_NAME)))


def first_ids(names: Iterable[str], corpus: Corpus | None) -> tuple[dict[str, int], int]:
    """Lay the alphabets of a mixture's sources out one after another.

    Those of the anchors and of the text come first and are always there: mixtures of them have
    the same vocabulary, and so the same unscaled draws of their weights, with or without text.

    Returns:
        The first id of each alphabet, by its name, and the number of ids of all.
    """
    used = set(names)
    others = (task.alphabet for name, task in _BY_NAME.items() if name in used)
    first: dict[str, int] = {}
    size = 0
    for alphabet in (ANCHORS, alphabet_of_text(corpus), *others):
        if alphabet.name not in first:
            first[alphabet.name] = size
            size += alphabet.size
    return first, size
