"""Hugging Face transformers: one std for every matrix, ``initializer_range`` in config.json.

std = width^−γ is exact for every matrix whose fan-in is the width and that the family draws with
its plain std; every other one has the std that ``_init_weights`` gives it (source: transformers
5.23, run on torch's meta device).

A multimodal configuration nests its language model in ``text_config``. That alone is read, as the
whole model builds and draws it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import takewhile

from critical.errors import ExportError, TargetError
from critical.frameworks.documents.document import Document, Format
from critical.frameworks.fla_families import OF_FLA_ONLY
from critical.frameworks.framework import Changes, Hook, Source
from critical.frameworks.hf_attention import attention
from critical.frameworks.hf_folder import trainer_optimizer
from critical.frameworks.hf_norms import norms
from critical.frameworks.hooks import module_hook
from critical.frameworks.reading import DepthScaling, Reading, Setting
from critical.targets.config_keys import Keys
from critical.targets.family_kinds import FAMILY_KINDS
from critical.targets.layout import Matrix
from critical.targets.matrices import matrices
from critical.targets.target import Target, parse_target

_USAGE = (
    "call critical_init.initialize(model) right after AutoModelForCausalLM.from_config(config), "
    "before the model is wrapped or its optimizer is made"
)
_HEAD_UNKNOWN = "whether a head of its own is drawn, and by which configuration, is not known here"
_NESTED_USAGE = (
    "call {calls} right after the whole model is built, before it is wrapped or its optimizer is "
    "made: on the whole model it would draw vision towers and projectors too"
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
            ExportError: The family draws no matrix with that std.
        """
        if reading.std is None:
            return Changes({}, (f"no key is written, for {_HEAD_UNKNOWN}",))
        std = std_of(parse_target(source.document.text, source.name), reading, gamma)
        return Changes({tuple(reading.std.key.split(".")): std}, notes(reading))

    def hook(self, reading: Reading, gamma: float) -> Hook | None:
        """Return the module that redraws every matrix by its own fan-in."""
        return module_hook(gamma, nested_usage(reading) or _USAGE)


def reading_of(target: Target, framework: str) -> Reading:
    """Return the reading of a Hugging Face model, for every framework that builds one.

    Raises:
        TargetError: The model's matrices are not known without transformers.
    """
    if target.outer is not None:
        return _reading_of_nested(target, framework)
    found = matrices(target)
    return _reading_of(target, framework, found, tied=not any(m.kind == "head" for m in found))


def alone(target: Target, framework: str) -> Target:
    """Return a language model that stands alone in its file.

    Raises:
        ExportError: It is nested in a multimodal configuration.
    """
    if target.section is not None:
        raise ExportError(
            f"{target.name} nests its language model in {target.section}, which {framework} is "
            "not known here to draw: audit or export it as hf"
        )
    return target


def nested_usage(reading: Reading) -> str | None:
    """Say where to call the hook on a nested language model; None of one that stands alone."""
    if reading.target is None or reading.target.section is None:
        return None
    if reading.std is None:
        return _NESTED_USAGE.format(
            calls="critical_init.initialize(…) on the language model, and on its head,"
        )
    heads = [each.name.removesuffix(".weight") for each in reading.matrices if each.kind == "head"]
    parts = [each.name.split(".") for each in reading.matrices if each.kind != "head"]
    levels = zip(*parts, strict=False)
    same = (names[0] for names in takewhile(lambda names: len(set(names)) == 1, levels))
    calls = [f"critical_init.initialize(model.{path})" for path in (".".join(same), *heads)]
    return _NESTED_USAGE.format(calls=" and ".join(calls))


def _reading_of_nested(target: Target, framework: str) -> Reading:
    """Return the reading of a language model as the whole model builds it, where that is known."""
    # torch and transformers take seconds to import.
    from critical.targets.nested_model import build_nested

    only = (
        f"only the language model in {target.section} is read: vision towers, projectors and the "
        "like are drawn by rules of their own"
    )
    try:
        nested = build_nested(target)
    except TargetError as reason:
        found = tuple(each for each in matrices(target) if each.kind != "head")
        reading = _reading_of(target, framework, found, tied=False)
        said = (*reading.remarks, only, f"{_HEAD_UNKNOWN}: {reason}")
        return replace(reading, std=None, remarks=said)
    reading = _reading_of(target, framework, nested.matrices, tied=nested.head is None)
    return replace(reading, remarks=(*reading.remarks, only))


def _reading_of(
    target: Target, framework: str, found: tuple[Matrix, ...], *, tied: bool
) -> Reading:
    key = target.initializer_key
    stated = target.config.get(key)
    where = "" if target.section is None else f"{target.section}."
    remarks = []
    if target.model_type not in FAMILY_KINDS:
        remarks.append(f"how {target.model_type} places its norms is not known here")
    if key == "initializer_range" and stated == 0:
        remarks.append(f"transformers reads {key} 0 as {target.initializer_range:g}")
    elif key in target.config and stated is None:
        remarks.append(
            f"{key} is null, which transformers 5 refuses: taken is {target.initializer_range:g}"
        )
    return Reading(
        framework=framework,
        file_name=target.name,
        model=target.model_type,
        width=target.width,
        depth=target.depth,
        matrices=found,
        std=Setting(f"{where}{key}", target.initializer_range, bool(stated)),
        norms=norms(target),
        tied=tied,
        attention=attention(target),
        depth_scaling=_depth_scaling(target, found),
        optimizer=TRAINER,
        remarks=tuple(remarks),
        target=target,
    )


def std_of(target: Target, reading: Reading, gamma: float) -> float:
    """Return width^−γ, the std to write.

    Raises:
        ExportError: The family draws no matrix with the std of its key.
    """
    key, now = target.initializer_key, target.initializer_range
    if not any(math.isclose(each.configured_std, now, rel_tol=1e-9) for each in reading.matrices):
        raise ExportError(
            f"{target.name}: {target.model_type} draws no matrix with {key}, so that no value of "
            "it is γ: write --to pytorch for a module that draws with γ"
        )
    return float(target.width**-gamma)


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
