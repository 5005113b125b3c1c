"""Hugging Face transformers: one std for every matrix, ``initializer_range`` in config.json.

std = width^−γ is exact for every matrix whose fan-in is the width and that the family draws with
its plain std; the report says what every other one gets (source: ``_init_weights`` of
transformers 5.23, run).
"""

from __future__ import annotations

from critical.config_file import parse_object
from critical.errors import ExportError
from critical.export.json_edit import with_number
from critical.export.report import ExportReport, reported
from critical.matrices import matrices
from critical.target import Target, parse_target

_SINGLE_STD = (
    "config.json holds one std for all matrices: a std of its own for each fan-in takes a hook in "
    "Python where the model is built"
)


class HuggingFace:
    """The config.json that transformers, LLaMA-Factory and flame build a model from."""

    name = "hf"

    def read(self, text: str, file_name: str) -> Target:
        """Return the model that a config.json describes.

        Raises:
            TargetError: The file is not the configuration of a decoder.
        """
        return parse_target(text, file_name)

    def edit(self, text: str, file_name: str, gamma: float) -> str:
        """Return the config.json with its std set to width^−γ and every other byte untouched.

        Raises:
            TargetError: The file is not the configuration of a decoder.
            ExportError: The language model is nested in a multimodal configuration, or the edit
                would change another key.
        """
        target = self.read(text, file_name)
        std = _std(target, gamma)
        key = target.initializer_key
        if target.section is not None:
            raise ExportError(
                f"{file_name} nests its language model in {target.section}, and transformers takes "
                f"the output head's std from elsewhere: write {key} {std!r} into a config.json of "
                "the language model alone"
            )
        edited = with_number(text, key, std)
        before = parse_object(text, file_name, ExportError)
        if parse_object(edited, file_name, ExportError) != {**before, key: std}:
            raise ExportError(f"{file_name} cannot be edited as text: set {key} to {std!r} by hand")
        return edited

    def report(self, text: str, file_name: str, gamma: float) -> ExportReport:
        """Return the std of every matrix that an edited config.json yields.

        Raises:
            TargetError: The file is not the configuration of a decoder, or its matrices are not
                known without transformers.
            ExportError: The family draws no matrix with the std that was written.
        """
        target = self.read(text, file_name)
        found = reported(matrices(target), gamma)
        if not any(each.exact for each in found):
            raise ExportError(
                f"{file_name}: {target.model_type} draws no matrix with {target.initializer_key}: "
                "draw each by its own fan-in, in Python where the model is built"
            )
        notes = () if all(each.exact for each in found) else (_SINGLE_STD,)
        return ExportReport(self.name, gamma, target.width, _std(target, gamma), found, notes)


def _std(target: Target, gamma: float) -> float:
    return float(target.width**-gamma)
