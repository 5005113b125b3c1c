"""``text``: windows of real text, in which every token is to be predicted."""

from __future__ import annotations

from typing import ClassVar

import torch

from critical.trials.corpus import SYMBOLS, Corpus
from critical.trials.tasks.source import Alphabet, Items, Source
from critical.trials.token_file import TokenFile

LENGTH = 64
"""Tokens of context of a window."""


class Text(Source):
    """Random windows of a corpus; validation has the corpus' last part to itself.

    Raises:
        CorpusError: The token file is not on this machine, or is not the one that was prepared.
    """

    name: ClassVar = "text"
    length = LENGTH
    validation_items: ClassVar = 12

    def __init__(self, corpus: Corpus) -> None:
        self.alphabet = alphabet_of_text(corpus)
        self._file = TokenFile(corpus)

    def training(self, count: int, generator: torch.Generator) -> Items:
        """Draw windows of the training part."""
        return self._windows(count, generator, validation=False)

    def validation(self, count: int, generator: torch.Generator) -> Items:
        """Draw windows of the validation part."""
        return self._windows(count, generator, validation=True)

    def _windows(self, count: int, generator: torch.Generator, *, validation: bool) -> Items:
        found = self._file.windows(count, LENGTH, generator, validation=validation)
        return Items(found[:, :-1], found[:, 1:])


def alphabet_of_text(corpus: Corpus | None) -> Alphabet:
    """Return a corpus' token ids, or bytes where there is none."""
    return Alphabet("text", SYMBOLS if corpus is None else corpus.symbols)
