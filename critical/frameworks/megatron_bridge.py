"""Megatron-Bridge: ``model.init_method_std`` in YAML, and a function of its own for the outputs.

A YAML of Megatron-Bridge holds the whole configuration (``logger.save_config_filepath`` writes it)
or overrides of a recipe; what it leaves out is the recipe's. Where ``model.init_method`` and its
siblings are given as partials they are used in place of the stds, and ``output_layer_init_method``
with a std of its own takes the place of Megatron's depth scaling (source: megatron-bridge 0.3.1,
training/utils/omegaconf_utils.py, utils/instantiate_utils.py, models/gpt_provider.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from critical.errors import ExportError
from critical.frameworks.documents.document import Document, Format, Scalar
from critical.frameworks.documents.document import Path as KeyPath
from critical.frameworks.framework import Changes, Hook, Source
from critical.frameworks.megatron import NO_DECAY, no_off_switch
from critical.frameworks.megatron_bridge_model import assumed, model_of
from critical.frameworks.megatron_model import Stds, depth_scaling, megatron_hook
from critical.frameworks.reading import Attention, Norms, Optimizer, Reading, Setting
from critical.targets.config_keys import Keys

_STD, _EMBEDDING_STD = "init_method_std", "embedding_init_method_std"
_INPUTS, _OUTPUTS, _EMBEDDINGS = (
    "init_method", "output_layer_init_method", "embedding_init_method",
)  # fmt: skip
_NORMAL = "torch.nn.init.normal_"
_USAGE = "call critical_init.apply(config.model) before pretrain(config, forward_step)"


class MegatronBridge:
    """A YAML of Megatron-Bridge with a GPT model's shape."""

    name = "megatron-bridge"
    title = "Megatron-Bridge 0.3"
    formats: tuple[Format, ...] = ("yaml",)

    def claims(self, document: Document) -> bool:
        """Return whether its model is a provider of Megatron-Bridge, or has the fields of one."""
        values = document.values
        model = values.get("model")
        if not isinstance(model, Mapping) or {"trainer", "exp_manager"} & values.keys():
            return False
        if "megatron.bridge" in f"{values.get('_target_')} {model.get('_target_')}":
            return True
        fields = {"num_layers", "hidden_size", "num_attention_heads"}
        own = {"gated_linear_unit", "share_embeddings_and_output_weights"}
        return fields <= model.keys() and bool(own & model.keys())

    def read(self, source: Source) -> Reading:
        """Return the model that a configuration describes.

        Raises:
            ExportError: The file leaves the model's shape to a recipe, or it is of a model that is
                not known here.
        """
        keys = _keys(source)
        inner = keys.inner("model")
        model = model_of(inner)
        stds, std = _stds(inner, model.depth)
        eps = _setting(inner, "model", "layernorm_epsilon", 1e-5)
        gemma = "Gemma" in str(inner.values.get("_target_"))
        return Reading(
            framework=self.name,
            file_name=source.name,
            model="GPT",
            width=model.width,
            depth=model.depth,
            matrices=model.matrices(stds),
            std=std,
            norms=Norms(eps, embedding_scale=math.sqrt(model.width) if gemma else 1.0),
            tied=model.tied,
            attention=Attention(inner.boolean("qk_layernorm", False), model.output_gate),
            depth_scaling=depth_scaling(
                stds, model.depth, f"model.{_OUTPUTS} with a std of its own"
            ),
            optimizer=_optimizer(keys, inner),
            remarks=_remarks(keys, inner),
        )

    def changes(self, source: Source, reading: Reading, gamma: float) -> Changes:
        """Return the std, width^−γ, for all matrices, also for those that Megatron divides.

        Raises:
            ExportError: As of ``read``.
        """
        model = _keys(source).inner("model").values
        std = float(reading.width**-gamma)
        values: dict[KeyPath, Scalar] = {("model", _STD): std}
        if model.get(_EMBEDDING_STD) is not None:
            values[("model", _EMBEDDING_STD)] = std
        for name in (_INPUTS, _EMBEDDINGS, _OUTPUTS):
            if model.get(name) is not None:
                values[("model", name, "std")] = std
        if _OUTPUTS not in model:
            place = ("model", _OUTPUTS)
            values[(*place, "_target_")] = _NORMAL
            values[(*place, "_partial_")] = True
            values[(*place, "mean")] = 0.0
            values[(*place, "std")] = std
        elif model[_OUTPUTS] is None:
            return Changes(values, (_null(reading.depth),))
        return Changes(values)

    def hook(self, reading: Reading, gamma: float) -> Hook | None:
        """Return the module with the three functions that a model provider takes."""
        return megatron_hook(reading, gamma, _USAGE)


def _keys(source: Source) -> Keys:
    hint = (
        "as the recipe has it, or write the whole configuration that "
        "logger.save_config_filepath saves"
    )
    values = source.document.values
    return Keys(values, source.name, None, error=ExportError, hint=hint, lenient=True)


def _null(depth: int) -> str:
    return (
        f"{no_off_switch(depth)}: remove the line model.{_OUTPUTS}: null, and export again, for "
        "one std of all"
    )


def _stds(model: Keys, depth: int) -> tuple[Stds, Setting[float]]:
    """Return what the model is drawn with, as TransformerConfig's __post_init__ has it."""
    std = _setting(model, "model", _STD, 0.02)
    embedding_std = model.positive((_EMBEDDING_STD,), std.value)
    inputs, outputs, embeddings = (
        _normal(model, name) for name in (_INPUTS, _OUTPUTS, _EMBEDDINGS)
    )
    if embeddings is None:
        own = inputs is None or embedding_std != std.value
        embeddings = embedding_std if own else inputs
    scaled = Stds.scaled(std.value, std.value, depth)
    stds = Stds(inputs or scaled.inputs, outputs or scaled.outputs, embeddings or std.value)
    if inputs is not None:
        std = Setting(f"model.{_INPUTS}.std", inputs, stated=True)
    return stds, std


def _normal(model: Keys, name: str) -> float | None:
    """Return the std of a function given as a partial of torch.nn.init.normal_."""
    if model.values.get(name) is None:
        return None
    partial = model.inner(name)
    plain = partial.values.get("_target_") == _NORMAL and partial.values.get("_partial_") is True
    if not plain or partial.values.get("_args_") or partial.number(("mean",), 0.0):
        raise partial.error(
            f"it is no partial of {_NORMAL} with mean 0 and a std: remove it, and Megatron draws "
            f"with model.{_STD}"
        )
    return partial.positive(("std",), 1.0)


def _setting(keys: Keys, section: str, name: str, default: float) -> Setting[float]:
    stated = keys.values.get(name) is not None
    return Setting(f"{section}.{name}", keys.positive((name,), default), stated)


def _optimizer(keys: Keys, model: Keys) -> Optimizer | None:
    optimizer = keys.inner("optimizer")
    if optimizer.text("optimizer", "adam") != "adam":
        return None
    decay = optimizer.number(("weight_decay",), 0.01)
    stated = optimizer.values.get("weight_decay") is not None
    own_std = model.values.get(_EMBEDDING_STD) is not None
    return Optimizer(
        _setting(optimizer, "optimizer", "adam_eps", 1e-8),
        Setting("optimizer.weight_decay", decay, stated),
        None if own_std else True,
    )


def _remarks(keys: Keys, model: Keys) -> tuple[str, ...]:
    said = list(assumed(model))
    if model.values.get(_EMBEDDING_STD) is not None:
        said.append(NO_DECAY)
    checkpoint: Mapping[str, Any] = keys.inner("checkpoint").values
    if checkpoint.get("pretrained_checkpoint") is not None:
        said.append("checkpoint.pretrained_checkpoint is loaded over the drawn weights")
    return tuple(said)
