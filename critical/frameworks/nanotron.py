"""nanotron: one std for every matrix, ``model.init_method.std``, divided for residual projections.

Column-parallel linears (query, key and value, gate and up, the head) and the embedding are
N(0, std²), row-parallel ones (o_proj, down_proj) N(0, (std/√(2L))²) unless scaling_method is NONE
(source: nanotron's scaling/parametrization.py, StandardParametrizator). nanotron 0.4 on PyPI has
no scaling_method and divides always (models/llama.py, init_model_randomly).
"""

from __future__ import annotations

import math
import re

from critical.errors import ExportError
from critical.frameworks.documents.document import Document, Format
from critical.frameworks.framework import Changes, Hook, Source
from critical.frameworks.hooks import module_hook
from critical.frameworks.nanotron_model import EMBEDDING, NanotronModel
from critical.frameworks.reading import (
    Attention,
    DepthScaling,
    Norms,
    Optimizer,
    Reading,
    Setting,
)
from critical.targets.config_keys import Keys

_INIT = ("model", "init_method")
_STD, _SCALING = "std", "scaling_method"
_METHODS = ("NONE", "NUM_LAYERS")
_OLD = (
    "nanotron 0.4 from PyPI has no scaling_method, refuses the key, and always divides: install "
    "nanotron from its repository"
)
_TIED = (
    "with pipeline stages nanotron averages the draws of tied embeddings on both ends, which "
    "makes their std 1/√2 of what it says"
)
_USAGE = (
    "in run_train.py, before DistributedTrainer is made, call critical_init.after("
    'LlamaForTraining, "init_model_randomly") with the model\'s own class'
)


class Nanotron:
    """nanotron's YAML, of its Llama and its Qwen without experts."""

    name = "nanotron"
    title = "nanotron, of its repository in 2025"
    formats: tuple[Format, ...] = ("yaml",)

    def claims(self, document: Document) -> bool:
        """Return whether it holds model.model_config and model.init_method."""
        model = document.values.get("model")
        return isinstance(model, dict) and {"model_config", "init_method"} <= model.keys()

    def read(self, source: Source) -> Reading:
        """Return the model that a configuration describes.

        Raises:
            ExportError: It starts from a checkpoint or with µP, or is of a model that is not known
                here.
        """
        keys = _keys(source)
        init = _random_init(keys)
        std = _std(init)
        model = NanotronModel.read(keys)
        divisor = _divisor(init, model.depth)
        return Reading(
            framework=self.name,
            file_name=source.name,
            model=model.family,
            width=model.width,
            depth=model.depth,
            matrices=model.matrices(std, std / divisor),
            std=Setting(".".join((*_INIT, _STD)), std, stated=True),
            norms=Norms(model.norm_eps),
            tied=model.tied,
            attention=Attention(qk_norm=False, gated=False),
            depth_scaling=None
            if divisor == 1
            else DepthScaling(
                f"std / √(2 · {model.depth})", f"{'.'.join((*_INIT, _SCALING))}: NONE"
            ),
            optimizer=_optimizer(keys),
            remarks=_remarks(keys, model),
        )

    def changes(self, source: Source, reading: Reading, gamma: float) -> Changes:
        """Return the std, width^−γ, and no scaling.

        Raises:
            ExportError: As of ``read``.
        """
        keys = _keys(source)
        notes = [] if _SCALING in _random_init(keys).values else [_OLD]
        if NanotronModel.read(keys).averaged:
            notes.append(_TIED)
        std = float(reading.width**-gamma)
        return Changes({(*_INIT, _STD): std, (*_INIT, _SCALING): "NONE"}, tuple(notes))

    def hook(self, reading: Reading, gamma: float) -> Hook | None:
        """Return the module that redraws every matrix by its own fan-in, shards included."""
        embedding = next(each for each in reading.matrices if each.name == EMBEDDING)
        averaged = reading.std is not None and embedding.configured_std < reading.std.value
        return module_hook(gamma, _USAGE, leaves=(EMBEDDING,) if averaged else ())


def _keys(source: Source) -> Keys:
    hint = "as nanotron reads it"
    return Keys(source.document.values, source.name, None, error=ExportError, hint=hint, yaml=True)


def _random_init(keys: Keys) -> Keys:
    init = keys.inner("model").inner("init_method")
    if init.values.get("path") is not None:
        raise init.error(
            "path starts from a checkpoint, so that nothing is drawn: write std in its place"
        )
    if init.values.get("use_mup") is not None:
        raise init.error("use_mup draws by µP's own rule: write std in its place to draw with γ")
    return init


def _std(init: Keys) -> float:
    """Read the std; PyYAML takes 1e-5 for a text, which nanotron refuses too."""
    if init.values.get(_STD) is None:
        raise init.error(f"{_STD} is missing: write one, as 0.02")
    return init.positive((_STD,), math.nan)


def _divisor(init: Keys, depth: int) -> float:
    method = init.text(_SCALING, "NUM_LAYERS").upper()
    if method not in _METHODS:
        raise init.error(
            f"{_SCALING} {method[:40]!r} is not known to draw: write NONE, or NUM_LAYERS"
        )
    return 1.0 if method == "NONE" else math.sqrt(2 * depth)


def _optimizer(keys: Keys) -> Optimizer | None:
    """Return the optimizer; its keys stand in optimizer_factory, or in 0.4 beside it."""
    optimizer = keys.inner("optimizer")
    factory = optimizer.inner("optimizer_factory")
    holder = factory if factory.values else optimizer
    if holder.values.get("adam_eps") is None or optimizer.values.get("weight_decay") is None:
        return None
    section = "optimizer.optimizer_factory" if holder is factory else "optimizer"
    return Optimizer(
        Setting(f"{section}.adam_eps", holder.positive(("adam_eps",), 1e-8), stated=True),
        Setting("optimizer.weight_decay", optimizer.number(("weight_decay",), 0.0), stated=True),
        decays_embeddings=_decays(optimizer.values.get("weight_decay_exclude_named_params")),
    )


def _decays(patterns: object) -> bool | None:
    """Return whether the embedding is decayed, of patterns whose meaning is plain; else None."""
    if not patterns:
        return True
    if not isinstance(patterns, list):
        return None
    excluded = []
    for pattern in patterns:
        match = re.fullmatch(r"(\.\*)?([\w.\\]+?)(\.\*)?", str(pattern)[:200])
        if match is None:
            return None
        literal = match[2].replace("\\.", ".")
        excluded.append(literal in EMBEDDING if match[1] else EMBEDDING.startswith(literal))
    return not any(excluded)


def _remarks(keys: Keys, model: NanotronModel) -> tuple[str, ...]:
    said = []
    if keys.inner("model").inner("model_config").values.get("initializer_range") is not None:
        said.append("model.model_config.initializer_range does nothing in nanotron")
    if keys.inner("checkpoints").values.get("resume_checkpoint_path") is not None:
        said.append("checkpoints.resume_checkpoint_path is loaded over the drawn weights")
    if model.averaged:
        said.append(_TIED)
    return tuple(said)
