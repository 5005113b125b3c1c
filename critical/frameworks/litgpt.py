"""LitGPT: ``litgpt pretrain`` has no key for its initialization, so γ comes as a launcher.

Read is the YAML file of ``litgpt pretrain --config``, or the model_config.yaml that LitGPT leaves
beside a checkpoint (litgpt 0.5.13, pretrain.py and config.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from critical.errors import ExportError
from critical.frameworks.blocks import merged
from critical.frameworks.documents.document import Document, Format
from critical.frameworks.framework import Changes, Hook, Source
from critical.frameworks.hooks import FILE_NAME, filled
from critical.frameworks.litgpt_model import Model, model_of
from critical.frameworks.litgpt_table import entry, table, version
from critical.frameworks.reading import (
    Attention,
    DepthScaling,
    Norms,
    Optimizer,
    Reading,
    Setting,
)
from critical.targets.config_keys import Keys

_SECTION = "model_config"
_PRETRAIN = frozenset({"out_dir", "precision", "train", "eval", "devices", "tokenizer_dir", "data"})
"""Keys of the pretraining's file; model_name is only there among LitGPT's commands."""
_USAGE = f"start with python {FILE_NAME} pretrain … in place of litgpt pretrain …"
_ADAMS = ("Adam", "AdamW")


class LitGPT:
    """The YAML file of ``litgpt pretrain --config``, with a model_config; or that alone."""

    name = "litgpt"
    title = "LitGPT 0.5"
    formats: tuple[Format, ...] = ("yaml",)

    def claims(self, document: Document) -> bool:
        """Return whether it is a pretraining's file, or a model_config.yaml."""
        if document.format != "yaml":
            return False
        values = document.values
        model = values.get(_SECTION)
        if isinstance(model, Mapping):
            return bool({"n_embd", "n_layer", "padded_vocab_size"} & set(model))
        if "model_name" in values and len(_PRETRAIN & set(values)) >= 2:
            return True
        return {"n_embd", "n_layer", "padded_vocab_size"} <= set(values)

    def read(self, source: Source) -> Reading:
        """Return the model that a file describes.

        Raises:
            ExportError: It names a model whose sizes are not known here, or a key of it is wrong.
        """
        keys = Keys(
            source.document.values,
            source.name,
            None,
            error=ExportError,
            lenient=True,
            hint="as LitGPT's model_config.yaml has it",
        )
        tied = keys.inner("train").boolean("tie_embeddings", False)
        given = _given(keys)
        model = model_of(_named(keys) if given is None else given, tied=tied)
        said = () if given is not None else (f"the model's sizes are those of litgpt {version()}",)
        return Reading(
            framework=self.name,
            file_name=source.name,
            model=model.keys.text("name", "GPT") or "GPT",
            width=model.width,
            depth=model.depth,
            matrices=merged(model.matrices()),
            std=None,
            norms=_norms(model, in_file=given is not None),
            tied=tied,
            attention=Attention(model.keys.boolean("norm_qk", False), gated=False),
            depth_scaling=_depth_scaling(model),
            optimizer=_optimizer(keys, source.name),
            remarks=said,
        )

    def changes(self, source: Source, reading: Reading, gamma: float) -> Changes:
        """Return no value: LitGPT takes none."""
        return Changes({})

    def hook(self, reading: Reading, gamma: float) -> Hook | None:
        """Return the launcher that starts LitGPT with another ``initialize_weights``."""
        return Hook(FILE_NAME, filled("litgpt", {"GAMMA": gamma}), _USAGE)


def _given(keys: Keys) -> Keys | None:
    """Return the model's sizes where the file has them."""
    if not keys.lacks((_SECTION,)) and keys.values[_SECTION] is not None:
        return keys.inner(_SECTION)
    return None if keys.lacks(("n_embd", "n_layer")) else keys


def _named(keys: Keys) -> Keys:
    """Return the sizes that LitGPT's table has for model_name."""
    name = keys.text("model_name", "")
    where = f"as {_SECTION}, as LitGPT saves them in model_config.yaml"
    if not name:
        raise keys.error(f"there is no model_name: write one, or the model's sizes {where}")
    entries = table()
    if entries is None:
        raise keys.error(
            f"{name[:60]!r} has its sizes in LitGPT's own table: pip install litgpt beside "
            f"critical, or write them {where}"
        )
    found = entry(entries, name)
    if found is None:
        raise keys.error(
            f"{name[:60]!r} is not in the table of litgpt {version()}: write a name that "
            f"litgpt pretrain list shows, or the model's sizes {where}"
        )
    return Keys({_SECTION: found}, name, None, error=ExportError).inner(_SECTION)


def _norms(model: Model, *, in_file: bool) -> Norms | None:
    keys = model.keys
    stated = in_file and keys.values.get("norm_eps") is not None
    return Norms(
        Setting("model_config.norm_eps", keys.positive(("norm_eps",), 1e-5), stated),
        read_embedding=keys.boolean("norm_1", True),
        embedding_scale=math.sqrt(model.width) if keys.boolean("scale_embeddings", False) else 1.0,
    )


def _depth_scaling(model: Model) -> DepthScaling | None:
    if not any(each.configured_std == model.last for each in model.matrices()):
        return None
    return DepthScaling(f"1 / ({model.depth} · √width)", None)


def _optimizer(keys: Keys, name: str) -> Optimizer | None:
    """Return Adam's settings; ``optimizer`` is a class's name, or its class_path and init_args."""
    given, prefix = keys.values.get("optimizer") or "AdamW", "optimizer.init_args"
    if isinstance(given, Mapping):
        inner = keys.inner("optimizer")
        settings, path = inner.inner("init_args"), inner.text("class_path", "")
    else:
        settings, path = Keys({}, name, prefix, error=ExportError), str(given)
    module, _, kind = path.rpartition(".")
    if kind not in _ADAMS or module not in ("", "torch.optim"):
        return None
    decay = 0.01 if kind == "AdamW" else 0.0
    return Optimizer(
        Setting(f"{prefix}.eps", settings.number(("eps",), 1e-8), "eps" in settings.values),
        Setting(
            f"{prefix}.weight_decay",
            settings.number(("weight_decay",), decay),
            "weight_decay" in settings.values,
        ),
        True,
    )
