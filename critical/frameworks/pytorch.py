"""Plain PyTorch: no configuration to edit, and a module that draws any model by its fan-ins.

The shape comes from a config.json in Hugging Face's words, so that there is a table of the
matrices; the module itself asks only the model that it is called with.
"""

from __future__ import annotations

from dataclasses import replace

from critical.frameworks.documents.document import Document, Format
from critical.frameworks.framework import Changes, Hook, Source
from critical.frameworks.hf import nested_usage, reading_of
from critical.frameworks.hooks import module_hook
from critical.frameworks.reading import Reading
from critical.targets.target import parse_target

_REMARK = (
    "the std of each matrix is what transformers draws it with; a model's own code may draw others"
)
_USAGE = (
    "call critical_init.initialize(model) once the model is built, before it is wrapped or its "
    "optimizer is made; it warns of every matrix that it does not know, and takes their fan-in"
)


class PlainPyTorch:
    """A model of one's own, described in the words of a Hugging Face config.json."""

    name = "pytorch"
    title = "plain PyTorch 2"
    formats: tuple[Format, ...] = ("json",)

    def claims(self, document: Document) -> bool:
        """Return False: a config.json is transformers' until its user says otherwise."""
        return False

    def read(self, source: Source) -> Reading:
        """Return the model that a config.json describes.

        Raises:
            TargetError: As of ``HuggingFace.read``.
        """
        reading = reading_of(parse_target(source.document.text, source.name), self.name)
        remarks = (*reading.remarks, _REMARK)
        return replace(reading, std=None, optimizer=None, remarks=remarks)

    def changes(self, source: Source, reading: Reading, gamma: float) -> Changes:
        """Return nothing to set."""
        return Changes({})

    def hook(self, reading: Reading, gamma: float) -> Hook | None:
        """Return the module that redraws every matrix by its own fan-in."""
        return module_hook(gamma, nested_usage(reading) or _USAGE)
