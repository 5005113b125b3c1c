"""torchtitan: every module's ``param_init`` is Python, so γ comes as a Python module, and is exact.

Its configurations are Python and are neither run nor rewritten here. What is read is the JSON that
torchtitan dumps of one (``--debug.save_config_file``, or the log's "Running with configs").
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from critical.errors import ExportError
from critical.frameworks.blocks import merged
from critical.frameworks.documents.document import Document, Format
from critical.frameworks.framework import Changes, Hook, Source
from critical.frameworks.hooks import FILE_NAME, filled
from critical.frameworks.reading import (
    Attention,
    DepthScaling,
    Norms,
    Optimizer,
    Reading,
    Setting,
)
from critical.frameworks.torchtitan_dump import FAMILIES, LARGEST, Node, nodes, std_of, tied
from critical.frameworks.torchtitan_init import is_fused
from critical.targets.config_keys import Keys
from critical.targets.layout import Matrix

_DUMP = (
    "write the JSON that torchtitan saves with --debug.save_config_file, as "
    "outputs/configs/config.json"
)
_USAGE = (
    "put it where Python finds it and add --override.imports critical_init.with_gamma to the "
    "command line, or call critical_init.with_gamma(config.model_spec.model) in a config_registry"
)
_ADAMS = ("Adam", "AdamW")
_REMEDY = "param_init of the residual projections, in the model's Python configuration"


class Torchtitan:
    """The configuration that torchtitan dumps of a run: model_spec, optimizer, training and all."""

    name = "torchtitan"
    title = "torchtitan 0.3"
    formats: tuple[Format, ...] = ("json", "python")

    def claims(self, document: Document) -> bool:
        """Return whether it is a dump with a model_spec."""
        if document.format != "json":
            return False
        spec = document.values.get("model_spec")
        return isinstance(spec, Mapping) and "model" in spec and "flavor" in spec

    def read(self, source: Source) -> Reading:
        """Return the model that a dump describes, each matrix with the std that its init draws.

        Raises:
            ExportError: It is Python, no dump, or of a family or with an initializer that is not
                known here.
        """
        if source.document.format == "python":
            raise ExportError(
                f"{source.name} is Python, which is never run here, and torchtitan has its "
                f"configurations nowhere else: {_DUMP}"
            )
        keys = Keys(source.document.values, source.name, None, error=ExportError, hint=_DUMP)
        spec = keys.inner("model_spec")
        if not spec.values:
            raise keys.error(f"there is no model_spec: {_DUMP}")
        family = spec.text("name")
        if family not in FAMILIES:
            raise spec.error(
                f"the family {family[:40]!r} is not known here: known are {', '.join(FAMILIES)}"
            )
        return _reading(keys, spec.inner("model"), family, source.name)

    def changes(self, source: Source, reading: Reading, gamma: float) -> Changes:
        """Return no value: the dump is what torchtitan writes, and it never reads it."""
        return Changes(
            {},
            (
                f"torchtitan never reads {source.name} back: {FILE_NAME} sets every param_init of "
                "the configuration that it was dumped from",
            ),
        )

    def hook(self, reading: Reading, gamma: float) -> Hook | None:
        """Return the override that sets every Linear's, Embedding's and expert's param_init."""
        return Hook(FILE_NAME, filled("torchtitan", {"GAMMA": gamma}), _USAGE)


def _reading(keys: Keys, model: Keys, family: str, name: str) -> Reading:
    if model.values.get("mtp_layers"):
        raise model.error("multi-token prediction (mtp_layers) is not known here: dump without it")
    layers = model.values.get("layers")
    if not isinstance(layers, list) or not layers or not isinstance(layers[0], Mapping):
        raise model.error("there are no layers: write a dump of a model that has some")
    first = Keys(layers[0], name, "model_spec.model.layers.0", error=ExportError, hint="as dumped")
    one, found = tied(model.values, name, nodes(model.values, name))
    drawn = _drawn(found, name)
    return Reading(
        framework="torchtitan",
        file_name=name,
        model=family,
        width=model.integer(("dim",), high=LARGEST),
        depth=len(layers),
        matrices=merged(drawn),
        std=None,
        norms=_norms(first),
        tied=one,
        attention=Attention(bool(first.inner("attention").values.get("qk_norm")), gated=False),
        depth_scaling=_depth_scaling(drawn, len(layers)),
        optimizer=_optimizer(keys, name),
        remarks=_remarks(found),
    )


def _drawn(found: list[Node], name: str) -> list[Matrix]:
    linear = _linear_init(found)
    drawn = []
    for node in found:
        std = std_of(node, linear)
        if std is None:
            raise ExportError(
                f"{name}: the initializer of {node.name}, {str(node.init)[:60]}, is not known "
                "here: known are torch's normal_ and trunc_normal_ around 0, and zeros_"
            )
        drawn.append(node.matrix(std))
    return drawn


def _linear_init(found: list[Node]) -> object:
    """Return the init that llama3 and qwen3 share between QKV, w1 and the router's gate."""
    ends = ("feed_forward.w1.weight", "moe.router.gate.weight")
    return next((node.init for node in found if node.name.endswith(ends)), "")


def _remarks(found: list[Node]) -> tuple[str, ...]:
    if not any(is_fused(node.init) for node in found):
        return ()
    return (
        "a dump hides how the fused wqkv is drawn: it is taken to be drawn as w1 or the router "
        "is, which is so in torchtitan's own llama3 and qwen3",
    )


def _norms(first: Keys) -> Norms:
    eps = first.inner("attention_norm").positive(("eps",), 1e-5)
    return Norms(Setting("RMSNorm.Config(eps)", eps, True))


def _depth_scaling(drawn: list[Matrix], depth: int) -> DepthScaling | None:
    by_end: dict[str, list[float]] = {}
    for matrix in drawn:
        if matrix.name.startswith("layers."):
            end = matrix.name.split(".", 2)[2]
            by_end.setdefault(end, []).append(matrix.configured_std)
    stds = [group for end, group in by_end.items() if end.endswith(("wo.weight", "w2_EDF"))]
    for group in stds:
        scaled = [std * math.sqrt(2 * (number + 1)) for number, std in enumerate(group)]
        if len(group) > 1 and all(math.isclose(each, scaled[0], rel_tol=1e-6) for each in scaled):
            return DepthScaling("std / √(2 · (block + 1)), blocks from 0", _REMEDY)
    every = {std for group in by_end.values() for std in group}
    divided = {std / math.sqrt(2 * depth) for std in every}
    if any(math.isclose(each, std, rel_tol=1e-6) for each in every for std in divided if each):
        return DepthScaling(f"std / √(2 · {depth})", _REMEDY)
    return None


def _optimizer(keys: Keys, name: str) -> Optimizer | None:
    """Return AdamW's settings where one group holds every parameter."""
    groups: Any = keys.inner("optimizer").values.get("param_groups")
    if not isinstance(groups, list) or len(groups) != 1 or not isinstance(groups[0], Mapping):
        return None
    group = Keys(groups[0], name, "optimizer.param_groups.0", error=ExportError)
    if group.values.get("pattern") != ".*" or group.values.get("optimizer_name") not in _ADAMS:
        return None
    settings = group.inner("optimizer_kwargs")
    adamw = group.values["optimizer_name"] == "AdamW"
    return Optimizer(
        Setting("default_adamw(eps)", settings.number(("eps",), 1e-8), "eps" in settings.values),
        Setting(
            "default_adamw(weight_decay)",
            settings.number(("weight_decay",), 0.01 if adamw else 0.0),
            "weight_decay" in settings.values,
        ),
        True,
    )
