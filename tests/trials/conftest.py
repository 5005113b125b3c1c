"""A small corpus and runs that train in under a second."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from critical.trials import ProxyRun, Scale
from critical.trials.corpus import Corpus, prepare
from critical.trials.text_files import FEWEST_BYTES
from critical.trials.training import TrainingRecipe

torch.set_num_threads(1)

TINY = ProxyRun(gamma=0.6, learning_rate=None, scale=Scale(16, 1, 2, 8_000), seed=3)


def small_text(size: int) -> str:
    """Words of a few letters, always the same ones."""
    chosen = random.Random(0)
    words = ("".join(chosen.choices("aeiostn", k=chosen.randint(1, 5))) for _ in range(size))
    return " ".join(words)[:size]


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """The smallest text that is allowed."""
    path = tmp_path / "text.txt"
    path.write_text(small_text(FEWEST_BYTES))
    return path


@pytest.fixture
def corpus(text_file: Path, tmp_path: Path) -> Corpus:
    """The smallest corpus that is allowed."""
    return prepare(text_file, tmp_path / "corpora")


@pytest.fixture
def recipe(corpus: Corpus) -> TrainingRecipe:
    """All three sources, in small batches."""
    return TrainingRecipe(corpus, batch_tokens=256)


@pytest.fixture
def tasks_only() -> TrainingRecipe:
    """A mixture without text, which needs no corpus."""
    return TrainingRecipe(None, {"reasoning": 0.75, "memory": 0.25}, batch_tokens=144)


@pytest.fixture
def tiny() -> Callable[..., ProxyRun]:
    """Return a run of about 30 or 40 steps with what a test changes."""

    def make(**changes: object) -> ProxyRun:
        return replace(TINY, **changes)  # type: ignore[arg-type]

    return make
