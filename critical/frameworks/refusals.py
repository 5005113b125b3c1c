"""Speedrun trainers whose initialization leaves no place for γ: the reason, and what to do.

Source: nanochat's nanochat/gpt.py (init_weights, setup_optimizers) and modded-nanogpt's
train_gpt.py.
"""

from __future__ import annotations

from typing import NoReturn

from critical.errors import ExportError
from critical.frameworks.documents.document import Document, Format
from critical.frameworks.framework import Changes, Hook, Source
from critical.frameworks.reading import Reading

_EVERY: tuple[Format, ...] = ("python", "yaml", "json", "arguments")
_WHY = (
    "draws its output projections at 0, where fan_in^−γ is never 0, and trains its matrices with "
    "Muon, whose steps do not shrink with them, while γ is searched under AdamW"
)
_INSTEAD = (
    "train the same shape with nanoGPT and AdamW (--to nanogpt), or redraw a model of your own "
    "with --to pytorch"
)


class Nanochat:
    """nanochat: zero-initialized projections, trained with Muon."""

    name = "nanochat"
    title = "nanochat"
    formats: tuple[Format, ...] = _EVERY

    def claims(self, document: Document) -> bool:
        """Return whether it assigns the learning rates of nanochat's own optimizer groups."""
        rates = {"matrix_lr", "unembedding_lr"}
        return document.format == "python" and rates <= document.values.keys()

    def read(self, source: Source) -> Reading:
        """Refuse.

        Raises:
            ExportError: Always.
        """
        _refuse(source, self.name)

    def changes(self, source: Source, reading: Reading, gamma: float) -> Changes:
        """Refuse.

        Raises:
            ExportError: Always.
        """
        _refuse(source, self.name)

    def hook(self, reading: Reading, gamma: float) -> Hook | None:
        """Return None."""
        return None


class ModdedNanoGPT(Nanochat):
    """modded-nanogpt: the same, in a script that is edited for every record."""

    name = "modded-nanogpt"
    title = "modded-nanogpt"

    def claims(self, document: Document) -> bool:
        """Return whether it is the script, which brings its Hyperparameters and Muon along."""
        text = document.text
        return document.format == "python" and "class Hyperparameters" in text and "Muon" in text


def _refuse(source: Source, name: str) -> NoReturn:
    raise ExportError(f"{source.name}: {name} {_WHY}: {_INSTEAD}")
