"""OLMo before OLMo-core: ``init_fn``, ``init_std`` and ``emb_init_std`` in a YAML file.

Source: ai2-olmo 0.6.0, olmo/config.py, whose YAML OmegaConf reads: ``${model.d_model}`` is what
stands there, and 1e-5 is a number. One std serves all matrices, so that those whose fan-in is not
the width get another γ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from critical.errors import ExportError
from critical.frameworks.blocks import merged
from critical.frameworks.documents.document import Document, Format, Path, Scalar
from critical.frameworks.documents.interpolation import resolved
from critical.frameworks.framework import Changes, Hook, Source
from critical.frameworks.hooks import module_hook
from critical.frameworks.olmo_model import Model, model_of
from critical.frameworks.reading import (
    Attention,
    DepthScaling,
    Norms,
    Optimizer,
    Reading,
    Setting,
)
from critical.frameworks.truncation import kept
from critical.targets.config_keys import Keys

_OWN = frozenset(
    {
        "init_fn",
        "mlp_ratio",
        "mlp_hidden_size",
        "activation_type",
        "block_type",
        "layer_norm_type",
        "embedding_size",
        "weight_tying",
        "attention_layer_norm",
    }
)
"""Keys of its ModelConfig that others do not have beside d_model and n_layers."""
_USAGE = (
    "in scripts/train.py, after the last olmo_model.reset_parameters() and before the optimizer is "
    "made, call critical_init.initialize(olmo_model); under FSDP, which holds shards there, as "
    "with FSDP.summon_full_params(dist_model): critical_init.initialize(olmo_model)"
)


class Olmo:
    """The YAML file that OLMo's scripts/train.py takes."""

    name = "olmo"
    title = "OLMo (ai2-olmo 0.6)"
    formats: tuple[Format, ...] = ("yaml",)

    def claims(self, document: Document) -> bool:
        """Return whether it has a model section with OLMo's keys; LLM Foundry's has a name."""
        if document.format != "yaml":
            return False
        model = document.values.get("model")
        return (
            isinstance(model, Mapping)
            and {"d_model", "n_layers"} <= set(model)
            and not {"name", "block"} & set(model)
            and bool(_OWN & set(model))
        )

    def read(self, source: Source) -> Reading:
        """Return the model that a YAML file describes.

        Raises:
            ExportError: There is no model, or a key of it is wrong or not known here.
        """
        keys = _keys(source)
        model = model_of(keys.inner("model"))
        return Reading(
            framework=self.name,
            file_name=source.name,
            model="OLMo",
            width=model.width,
            depth=model.depth,
            matrices=merged(model.matrices()),
            std=_std(model),
            norms=_norms(model),
            tied=model.tied,
            attention=Attention(model.keys.boolean("attention_layer_norm", False), gated=False),
            depth_scaling=_depth_scaling(model),
            optimizer=_optimizer(keys),
            remarks=_remarks(model),
        )

    def changes(self, source: Source, reading: Reading, gamma: float) -> Changes:
        """Return both stds for width^−γ, within the file's cut, and ``init_fn`` normal."""
        section = _keys(source).inner("model")
        factor = section.number(("init_cutoff_factor",), 0.0)
        std = float(reading.width**-gamma) / kept(factor or None)
        values: dict[Path, Scalar] = {("model", "init_std"): std, ("model", "emb_init_std"): std}
        if section.text("init_fn", "normal") != "normal":
            values = {("model", "init_fn"): "normal", **values}
        cut = (
            f"draws are cut at ±{factor:g} std (init_cutoff_factor), so that init_std is written "
            f"as {std:.6g} for a std of {reading.width**-gamma:.6g}"
        )
        return Changes(values, (cut,) if factor else ())

    def hook(self, reading: Reading, gamma: float) -> Hook | None:
        """Return the module that redraws every matrix by its own fan-in."""
        return module_hook(gamma, _USAGE)


def _keys(source: Source) -> Keys:
    values: Mapping[str, Any] = resolved(source.document.values, source.name)
    keys = Keys(values, source.name, None, error=ExportError, lenient=True, hint="as OLMo does")
    if keys.lacks(("model",)):
        raise keys.error("there is no model: write one, as OLMo's configs/ do")
    return keys


def _std(model: Model) -> Setting[float] | None:
    if model.init_fn == "mitchell":  # Does not use it.
        return None
    return Setting("model.init_std", model.init_std, model.keys.values.get("init_std") is not None)


def _remarks(model: Model) -> tuple[str, ...]:
    if model.keys.boolean("alibi", False) or model.keys.boolean("rope", False):
        return ()
    return ("positions are embedded as words are (wpe), and the first norm reads their sum",)


def _norms(model: Model) -> Norms:
    keys = model.keys
    before = keys.text("block_type", "sequential") == "llama" or not keys.boolean(
        "norm_after", False
    )
    reads = before or keys.boolean("embedding_layer_norm", False)
    stated = keys.values.get("layer_norm_eps") is not None
    eps = keys.positive(("layer_norm_eps",), 1e-5)
    return Norms(Setting("model.layer_norm_eps", eps, stated), read_embedding=reads)


def _depth_scaling(model: Model) -> DepthScaling | None:
    formulas = {
        "mitchell": "1 / √(2 · fan_in · (block + 1)), blocks from 0",
        "full_megatron": f"std / √(2 · {model.depth})",
    }
    formula = formulas.get(model.init_fn)
    if formula is None:
        return None
    remedy = "model.init_fn: normal"
    if model.init_fn == "mitchell":  # It draws the rest with 1/√width, and not with init_std.
        factor = model.keys.number(("init_cutoff_factor",), 0.0) or None
        std = model.width**-0.5 * kept(model.cut) / kept(factor)
        remedy += f" and model.init_std: {std:.6g}, which the rest has now"
    return DepthScaling(formula, remedy)


def _optimizer(keys: Keys) -> Optimizer | None:
    """Return AdamW's settings; where embeddings are decayed is decided module by module."""
    if keys.lacks(("optimizer",)):
        return None
    optimizer = keys.inner("optimizer")
    if optimizer.text("name", "lionw") != "adamw":
        return None
    decay = optimizer.number(("weight_decay",), 0.01)
    reached = optimizer.boolean("decay_embeddings", False)
    if optimizer.values.get("no_decay_norm_and_bias") is not None:  # Older, and it wins.
        reached = not optimizer.boolean("no_decay_norm_and_bias", True)
    return Optimizer(
        Setting("optimizer.eps", optimizer.number(("eps",), 1e-5), "eps" in optimizer.values),
        Setting("optimizer.weight_decay", decay, "weight_decay" in optimizer.values),
        reached and decay > 0,
    )
