"""A worker's view of the token file: which windows it draws, and when it refuses the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from critical.trials.corpus import Corpus, prepare
from critical.trials.errors import CorpusError
from critical.trials.randomness import generator
from critical.trials.token_file import VALIDATION, TokenFile


def test_a_token_file_that_a_worker_does_not_see(corpus: Corpus) -> None:
    """On another node without a shared folder; the message says what to share."""
    corpus.path.unlink()
    with pytest.raises(CorpusError, match="give a --work-dir that every worker sees"):
        TokenFile(corpus)


def test_a_token_file_of_another_length(corpus: Corpus) -> None:
    """Training on another text than the driver hashed is refused."""
    with pytest.raises(CorpusError, match=r"holds 4096 tokens instead of 5000: delete it"):
        TokenFile(replace(corpus, tokens=5000))


@pytest.mark.parametrize("validation", [False, True])
def test_windows_stay_within_their_part(validation: bool, tmp_path: Path) -> None:
    """The last 5% are validation and are never trained; both parts are reached to their ends."""
    size = 5000
    path = tmp_path / "parts.txt"
    split = int(size * (1 - VALIDATION))
    path.write_text("a" + "t" * (split - 2) + "b" + "c" + "v" * (size - split - 2) + "d")
    text = TokenFile(prepare(path, tmp_path / "corpora"))
    windows = text.windows(60_000, 64, generator("test"), validation=validation)
    assert windows.shape == (60_000, 65)
    assert windows.dtype == torch.int64
    expected = "cvd" if validation else "atb"
    assert set(windows.flatten().tolist()) == {ord(letter) for letter in expected}
