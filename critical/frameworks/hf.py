"""Hugging Face transformers: one std for every matrix, ``initializer_range`` in config.json.

std = width^−γ is exact for every matrix whose fan-in is the width and that the family draws with
its plain std; every other one has the std that ``_init_weights`` gives it (source: transformers
5.23, run on torch's meta device).
"""

from __future__ import annotations

import math

from critical.config_keys import Keys
from critical.errors import ExportError
from critical.family_kinds import FAMILY_KINDS
from critical.frameworks.documents.document import Document, Format
from critical.frameworks.fla_families import OF_FLA_ONLY
from critical.frameworks.framework import Changes, Hook, Source
from critical.frameworks.hf_attention import attention
from critical.frameworks.hf_folder import trainer_optimizer
from critical.frameworks.hf_norms import norms
from critical.frameworks.hooks import module_hook
from critical.frameworks.reading import DepthScaling, Reading, Setting
from critical.layout import Matrix
from critical.matrices import matrices
from critical.target import Target, parse_target

_USAGE = (
    "call critical_init.initialize(model) right after AutoModelForCausalLM.from_config(config), "
    "before the model is wrapped or its optimizer is made"
)
TRAINER = trainer_optimizer(Keys({}, "", None))
"""What is taken for a config.json, which has no optimizer."""


class HuggingFace:
    """The config.json that transformers builds a model from."""

    name = "hf"
    title = "Hugging Face transformers 5"
    formats: tuple[Format, ...] = ("json",)

    def claims(self, document: Document) -> bool:
        """Return whether it names a family that transformers can know."""
        values = document.values
        nested = values.get("text_config")
        if isinstance(nested, dict) and "model_type" in nested:
            return True
        if not isinstance(values.get("model_type"), str):
            return "model_type" in values  # Reading it says what is wrong.
        return values["model_type"] not in OF_FLA_ONLY

    def read(self, source: Source) -> Reading:
        """Return the model that a config.json describes.

        Raises:
            TargetError: The file is not the configuration of a decoder, or its matrices are not
                known without transformers.
        """
        return reading_of(parse_target(source.document.text, source.name), self.name)

    def changes(self, source: Source, reading: Reading, gamma: float) -> Changes:
        """Return ``initializer_range`` = width^−γ.

        Raises:
            ExportError: The language model is nested in a multimodal configuration, or its family
                draws no matrix with that std.
        """
        target = parse_target(source.document.text, source.name)
        return Changes({(target.initializer_key,): std_of(target, reading, gamma)}, notes(reading))

    def hook(self, reading: Reading, gamma: float) -> Hook | None:
        """Return the module that redraws every matrix by its own fan-in."""
        return module_hook(gamma, _USAGE)


def reading_of(target: Target, framework: str) -> Reading:
    """Return the reading of a Hugging Face model, for every framework that builds one.

    Raises:
        TargetError: The model's matrices are not known without transformers.
    """
    found = matrices(target)
    key = target.initializer_key
    remarks = []
    if target.model_type not in FAMILY_KINDS:
        remarks.append(f"how {target.model_type} places its norms is not known here")
    if key == "initializer_range" and target.config.get(key) == 0:
        remarks.append("transformers reads initializer_range 0.0 as 0.02")
    return Reading(
        framework=framework,
        file_name=target.name,
        model=target.model_type,
        width=target.width,
        depth=target.depth,
        matrices=found,
        std=Setting(key, target.initializer_range, target.config.get(key) is not None),
        norms=norms(target),
        tied=not any(each.kind == "head" for each in found),
        attention=attention(target),
        depth_scaling=_depth_scaling(target, found),
        optimizer=TRAINER,
        remarks=tuple(remarks),
        target=target,
    )


def std_of(target: Target, reading: Reading, gamma: float) -> float:
    """Return width^−γ, the std to write.

    Raises:
        ExportError: The language model is nested in a multimodal configuration, or its family
            draws no matrix with the std of its key.
    """
    std, key = float(target.width**-gamma), target.initializer_key
    if target.section is not None:
        raise ExportError(
            f"{target.name} nests its language model in {target.section}, and transformers "
            f"takes the output head's std from elsewhere: write {key} {std!r} into a "
            "config.json of the language model alone"
        )
    now = target.initializer_range
    if not any(math.isclose(each.configured_std, now, rel_tol=1e-9) for each in reading.matrices):
        raise ExportError(
            f"{target.name}: {target.model_type} draws no matrix with {key}, so that no value of "
            "it is γ: write --to pytorch for a module that draws with γ"
        )
    return std


def notes(reading: Reading) -> tuple[str, ...]:
    """Say what one std for all cannot, whatever its value."""
    said = []
    if reading.depth_scaling is not None:
        said.append(
            f"{reading.model} draws its residual projections with {reading.depth_scaling.formula}, "
            "and no key turns that off"
        )
    zero = [each.name for each in reading.matrices if each.configured_std == 0]
    if zero:
        said.append(f"{reading.model} draws {', '.join(zero)} at 0, whatever the key says")
    return tuple(said)


def _depth_scaling(target: Target, found: tuple[Matrix, ...]) -> DepthScaling | None:
    divided = target.initializer_range / math.sqrt(2 * target.depth)
    if any(math.isclose(each.configured_std, divided, rel_tol=1e-6) for each in found):
        return DepthScaling(f"std / √(2 · {target.depth})", None)
    return None
