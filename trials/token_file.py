"""A worker's view of a token file, mapped and never read as a whole."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from critical.trials.corpus import Corpus
from critical.trials.errors import CorpusError

VALIDATION = 0.05
"""The corpus' last part, kept from training."""


class TokenFile:
    """Random windows of a token file, from its training or its validation part.

    Raises:
        CorpusError: The token file is not on this machine, or is not the one that was prepared.
    """

    def __init__(self, corpus: Corpus) -> None:
        try:
            self._data = np.memmap(corpus.path, dtype=corpus.dtype, mode="r")
        except (OSError, ValueError) as error:
            raise CorpusError(
                f"token file {corpus.path} cannot be read ({error}): "
                "give a --work-dir that every worker sees"
            ) from error
        if len(self._data) != corpus.tokens:
            raise CorpusError(
                f"token file {corpus.path} holds {len(self._data)} tokens instead of "
                f"{corpus.tokens}: delete it and search again"
            )
        self._split = int(len(self._data) * (1 - VALIDATION))

    def windows(
        self, count: int, length: int, generator: torch.Generator, *, validation: bool = False
    ) -> Tensor:
        """Draw windows of ``length`` + 1 tokens. Shape (count, length + 1), int64."""
        low, high = (self._split, len(self._data)) if validation else (0, self._split)
        start = torch.randint(low, high - length, (count, 1), generator=generator)
        index = (start + torch.arange(length + 1)).numpy()
        return torch.from_numpy(self._data[index].astype(np.int64))
