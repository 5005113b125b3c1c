"""GPT-NeoX: ``init_method`` and ``output_layer_init_method`` by name, ``init_method_std`` for two.

    normal                        init_method_std
    scaled_normal                 init_method_std / √(2 · layers), the default of output layers
    single_residual_scaled_normal init_method_std / √layers
    small_init                    √(2 / (5 · width))
    wang_init                     2 / (layers · √width)

Output layers are attention.dense and mlp.linear2 (source: EleutherAI/gpt-neox of 2025,
model/init_functions.py). Keys are written with ``_`` or, in older files, with ``-``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from critical.errors import ExportError
from critical.frameworks.documents.document import Document, Format, Scalar
from critical.frameworks.documents.document import Path as KeyPath
from critical.frameworks.framework import Changes, Hook, Source
from critical.frameworks.gpt_neox_model import NeoXModel
from critical.frameworks.megatron_model import megatron_hook
from critical.frameworks.reading import (
    Attention,
    DepthScaling,
    Norms,
    Optimizer,
    Reading,
    Setting,
)
from critical.targets.config_keys import Keys

_INPUTS, _OUTPUTS, _STD = "init_method", "output_layer_init_method", "init_method_std"
_BY_STD = ("normal", "scaled_normal", "single_residual_scaled_normal")
_ADAM = frozenset({"adam", "cpu_adam", "cpu_torch_adam"})
_EPS = {
    "layernorm": ("layernorm_epsilon", 1e-5),
    "te_layernorm": ("layernorm_epsilon", 1e-5),
    "non_parametric_layernorm": ("layernorm_epsilon", 1e-5),
    "rmsnorm": ("rms_norm_epsilon", 1e-8),
    "te_rmsnorm": ("rms_norm_epsilon", 1e-8),
}
_USAGE = (
    "in train.py, call critical_init.use_in_gpt_neox() before pretrain(neox_args=neox_args); this "
    "hook was checked against GPT-NeoX's source, not run in it"
)
_ONCE = (
    f"GPT-NeoX refuses a key that two of its files give: {_INPUTS}, {_OUTPUTS} and {_STD} must "
    "stand in this one only"
)


class GptNeoX:
    """The YAML of GPT-NeoX that has the model's shape."""

    name = "gpt-neox"
    title = "GPT-NeoX, of its repository in 2025"
    formats: tuple[Format, ...] = ("yaml",)

    def claims(self, document: Document) -> bool:
        """Return whether it has a model's shape and other keys of GPT-NeoX at its top."""
        given = {str(key).replace("-", "_") for key in document.values}
        own = {
            "pipe_parallel_size", "model_parallel_size", "no_weight_tying", "gpt_j_residual",
            _OUTPUTS, "checkpoint_activations",
        }  # fmt: skip
        return {"num_layers", "hidden_size", "num_attention_heads"} <= given and bool(own & given)

    def read(self, source: Source) -> Reading:
        """Return the model that a configuration describes.

        Raises:
            ExportError: A key is missing or given in two spellings, or is not known here.
        """
        keys = _keys(source)
        model = NeoXModel.read(keys)
        std = _setting(keys, _STD, 0.02)
        inputs = _drawn(keys, _INPUTS, "normal", std.value, model)
        outputs = _drawn(keys, _OUTPUTS, "scaled_normal", std.value, model)
        return Reading(
            framework=self.name,
            file_name=source.name,
            model="GPT",
            width=model.width,
            depth=model.depth,
            matrices=model.matrices(inputs, outputs),
            std=std,
            norms=_norms(keys),
            tied=model.tied,
            attention=Attention(keys.boolean("use_qk_layernorm", False), gated=False),
            depth_scaling=_depth_scaling(keys, model),
            optimizer=_optimizer(keys),
            remarks=_remarks(keys, model),
        )

    def changes(self, source: Source, reading: Reading, gamma: float) -> Changes:
        """Return ``normal`` for both methods, and the std, width^−γ.

        Raises:
            ExportError: As of ``read``.
        """
        std = float(reading.width**-gamma)
        spelled = _spellings(source)
        wished: dict[str, Scalar] = {_INPUTS: "normal", _OUTPUTS: "normal", _STD: std}
        dashes = not any("_" in key for key in spelled.values()) and "num_layers" in spelled
        values: dict[KeyPath, Scalar] = {
            (spelled.get(name) or (name.replace("_", "-") if dashes else name),): value
            for name, value in wished.items()
        }
        return Changes(values, (_ONCE,))

    def hook(self, reading: Reading, gamma: float) -> Hook | None:
        """Return the module that takes the place of GPT-NeoX's get_init_methods."""
        return megatron_hook(reading, gamma, _USAGE)


def _spellings(source: Source) -> dict[str, str]:
    """Return how each key is written in the file, by its name with underscores.

    Raises:
        ExportError: A key is given in both spellings, of which GPT-NeoX takes the last.
    """
    found: dict[str, str] = {}
    for key in source.document.values:
        name = str(key).replace("-", "_")
        if name in found:
            raise ExportError(f"{source.name} gives {found[name]} and {key}: keep one of them")
        found[name] = str(key)
    return found


def _keys(source: Source) -> Keys:
    values: Mapping[str, Any] = source.document.values
    by_name = {name: values[key] for name, key in _spellings(source).items()}
    hint = "into the same file as the model's other keys"
    return Keys(by_name, source.name, None, error=ExportError, hint=hint, yaml=True)


def _drawn(keys: Keys, name: str, default: str, std: float, model: NeoXModel) -> float:
    """Return what a method draws with."""
    width, depth = model.width, model.depth
    known = {
        "normal": std,
        "scaled_normal": std / math.sqrt(2 * depth),
        "single_residual_scaled_normal": std / math.sqrt(depth),
        "small_init": math.sqrt(2 / (5 * width)),
        "wang_init": 2 / (depth * math.sqrt(width)),
    }
    method = keys.text(name, default)
    if method not in known:
        raise keys.error(
            f"{name} {method[:40]!r} draws by the shape of each matrix and shard, or is not known: "
            "write normal"
        )
    return known[method]


def _depth_scaling(keys: Keys, model: NeoXModel) -> DepthScaling | None:
    formulas = {
        "scaled_normal": f"std / √(2 · {model.depth})",
        "single_residual_scaled_normal": f"std / √{model.depth}",
        "wang_init": f"2 / ({model.depth} · √{model.width})",
    }
    method, inputs = keys.text(_OUTPUTS, "scaled_normal"), keys.text(_INPUTS, "normal")
    if method not in formulas or method == inputs:
        return None
    return DepthScaling(formulas[method], f"{_OUTPUTS}: {inputs}")


def _setting(keys: Keys, name: str, default: float) -> Setting[float]:
    return Setting(name, keys.positive((name,), default), keys.values.get(name) is not None)


def _norms(keys: Keys) -> Norms | None:
    """Return the norms whose ε is added to a mean square (model/norms.py)."""
    name, default = _EPS.get(keys.text("norm", "layernorm"), (None, 0.0))
    if name is None or _adds_to_rms(keys):
        return None
    return Norms(_setting(keys, name, default))


def _adds_to_rms(keys: Keys) -> bool:
    own = not keys.boolean("rmsnorm_fusion", False)
    return own and keys.text("norm", "layernorm") == "rmsnorm"


def _optimizer(keys: Keys) -> Optimizer | None:
    """Return the optimizer, whose own keys stand in ``optimizer.params``, where it is Adam."""
    section = keys.inner("optimizer")
    if section.text("type", "adam").lower() not in _ADAM:
        return None
    params = section.inner("params")
    eps = params.positive(("eps",), 1e-8)
    decay = keys.number(("weight_decay",), 0.1)
    return Optimizer(
        Setting("optimizer.params.eps", eps, params.values.get("eps") is not None),
        Setting("weight_decay", decay, keys.values.get("weight_decay") is not None),
        decays_embeddings=True,
    )


def _remarks(keys: Keys, model: NeoXModel) -> tuple[str, ...]:
    said = []
    methods = {keys.text(_INPUTS, "normal"), keys.text(_OUTPUTS, "scaled_normal")}
    if keys.values.get(_STD) is not None and methods.isdisjoint(_BY_STD):
        said.append(f"{_STD} does nothing with {' and '.join(sorted(methods))}")
    if not model.vocabulary:
        said.append(
            "how many rows the embedding has is the tokenizer's to say, and shown as 0 here"
        )
    if _adds_to_rms(keys):
        eps = keys.positive(("rms_norm_epsilon",), 1e-8)
        said.append(
            f"GPT-NeoX's rmsnorm, unless fused, adds rms_norm_epsilon ({eps:g}) to the RMS of its "
            f"input and not to the mean square: it matters only to a std under {199 * eps:.3g}"
        )
    if keys.values.get("finetune"):
        said.append("finetune loads a checkpoint over the drawn weights")
    return tuple(said)
