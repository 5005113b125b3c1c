"""OLMo-core 3: ``init_std`` and ``embedding_init_std`` in the config.json that a run leaves behind.

Both are nominal: OLMo-core cuts its draws at ±3 std, which leaves 0.9866 of them. One number serves
all matrices, so that those whose fan-in is not the width get another γ.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from critical.errors import ExportError
from critical.frameworks.blocks import merged
from critical.frameworks.documents.document import Document, Format, Path, Scalar
from critical.frameworks.framework import Changes, Hook, Source
from critical.frameworks.hooks import FILE_NAME, filled
from critical.frameworks.olmo_core_model import PRE_NORM, Model, mixer_of, model_of
from critical.frameworks.reading import (
    Attention,
    DepthScaling,
    Norms,
    Optimizer,
    Reading,
    Setting,
)
from critical.frameworks.truncation import TRUNCATED_AT_3
from critical.targets.config_keys import Keys

_HINT = "as in the config.json of an OLMo-core run"
_USAGE = (
    "write import critical_init and critical_init.install() at the top of the training script: "
    "every matrix is then redrawn right after OLMo-core's own init_weights"
)


class OlmoCore:
    """The configuration of an OLMo-core run, as JSON or YAML; its ``model`` is what counts."""

    name = "olmo-core"
    title = "OLMo-core 3"
    formats: tuple[Format, ...] = ("json", "yaml")

    def claims(self, document: Document) -> bool:
        """Return whether its model is OLMo-core's TransformerConfig."""
        if document.format not in self.formats:
            return False
        model = document.values.get("model")
        if not isinstance(model, Mapping):
            return False
        stated = str(model.get("_CLASS_", "")).startswith("olmo_core.")
        return stated or {"d_model", "n_layers", "block"} <= set(model)

    def read(self, source: Source) -> Reading:
        """Return the model that a run's configuration describes.

        Raises:
            ExportError: There is no model, or a part of it is not known here.
        """
        keys = Keys(
            source.document.values,
            source.name,
            None,
            error=ExportError,
            hint=_HINT,
            lenient=source.document.format == "yaml",
        )
        if keys.lacks(("model",)):
            raise keys.error(f"there is no model: write it, {_HINT}")
        model = model_of(keys.inner("model"))
        first = model.blocks[0]
        mixer = mixer_of(first)
        return Reading(
            framework=self.name,
            file_name=source.name,
            model="Transformer",
            width=model.width,
            depth=model.depth,
            matrices=merged(model.matrices()),
            std=_std(model),
            norms=_norms(model, first),
            tied=model.tied,
            attention=Attention(
                mixer.values.get("qk_norm") is not None, mixer.values.get("gate") is not None
            ),
            depth_scaling=_depth_scaling(model),
            optimizer=_optimizer(keys),
        )

    def changes(self, source: Source, reading: Reading, gamma: float) -> Changes:
        """Return both stds for width^−γ, and the init method that uses them."""
        std = float(reading.width**-gamma) / TRUNCATED_AT_3
        values: dict[Path, Scalar] = {
            ("model", "init_std"): std,
            ("model", "embedding_init_std"): std,
        }
        if source.document.values["model"].get("init_method", "normal") != "normal":
            values = {("model", "init_method"): "normal", **values}
        flags = " ".join(f"--{'.'.join(path)}={value}" for path, value in values.items())
        return Changes(
            values,
            (
                f"a script that builds its configuration in Python takes the same as {flags}",
                "OLMo-core cuts its draws at ±3 std, so that init_std is written as "
                f"{std:.6g} for a std of {reading.width**-gamma:.6g}",
            ),
        )

    def hook(self, reading: Reading, gamma: float) -> Hook | None:
        """Return the module that redraws every matrix after OLMo-core's init_weights."""
        return Hook(FILE_NAME, filled("olmo_core", {"GAMMA": gamma}), _USAGE)


def _std(model: Model) -> Setting[float] | None:
    if model.method in ("fan_in", "normalized"):  # Neither uses it.
        return None
    return Setting("model.init_std", model.std, model.keys.values.get("init_std") is not None)


def _norms(model: Model, first: Keys) -> Norms | None:
    norm, named = first.inner("layer_norm"), model.keys.values.get("block_pattern")
    section = f"model.block.{f'{named[0]}.' if named else ''}layer_norm.eps"
    if model.keys.values.get("embedding_norm") is not None:
        norm, section = model.keys.inner("embedding_norm"), "model.embedding_norm.eps"
        reads = True
    else:
        reads = first.text("name", "default") in PRE_NORM
    if norm.text("name", "default") == "l2_norm":
        return None
    stated = norm.values.get("eps") is not None
    return Norms(
        Setting(section, norm.positive(("eps",), 1e-5), stated),
        read_embedding=reads,
        embedding_scale=model.keys.positive(("embed_scale",), 1.0),
    )


def _depth_scaling(model: Model) -> DepthScaling | None:
    formulas = {
        "llama": f"std / √(2 · {model.depth})",
        "llama_depth": "std / √(2 · (block + 1)), blocks from 0",
        "normalized": f"std / √(2 · {model.depth})",
    }
    formula = formulas.get(model.method)
    if formula is None:
        return None
    remedy = "model.init_method: normal"
    if model.method == "normalized":  # It draws the rest with 1/√width, and not with init_std.
        remedy += f" and model.init_std: {model.width**-0.5:.6g}, which the rest has now"
    return DepthScaling(formula, remedy)


def _optimizer(keys: Keys) -> Optimizer | None:
    module = keys.inner("train_module") if not keys.lacks(("train_module",)) else keys
    if module.lacks(("optim",)):
        return None
    optim = module.inner("optim")
    if "adamw" not in f"{optim.values.get('type', '')} {optim.values.get('_CLASS_', '')}".lower():
        return None
    prefix = "train_module.optim" if module is not keys else "optim"
    decay = optim.number(("weight_decay",), 1e-2)
    return Optimizer(
        Setting(f"{prefix}.eps", optim.number(("eps",), 1e-8), "eps" in optim.values),
        Setting(f"{prefix}.weight_decay", decay, "weight_decay" in optim.values),
        _embedding_decay(optim, decay) > 0,
    )


def _embedding_decay(optim: Keys, decay: float) -> float:
    groups = optim.values.get("group_overrides") or []
    for group in groups if isinstance(groups, list) else []:
        patterns = group.get("params") if isinstance(group, Mapping) else None
        options = group.get("opts") if isinstance(group, Mapping) else None
        for pattern in patterns if isinstance(patterns, list) else []:
            named = isinstance(pattern, str) and len(pattern) <= 100
            if named and fnmatchcase("embeddings.weight", pattern) and isinstance(options, Mapping):
                own = options.get("weight_decay", decay)
                return float(own) if isinstance(own, int | float) else decay
    return decay
