"""Axolotl: a Hugging Face model drawn anew, ``reinit_weights`` and ``overrides_of_model_config``.

What overrides_of_model_config sets is set on the configuration after transformers has read it, and
with reinit_weights the model is built by ``from_config`` (source: axolotl 0.19, loaders/utils.py
load_model_config and loaders/model.py _build_model).
"""

from __future__ import annotations

from dataclasses import replace

from critical.errors import ExportError
from critical.frameworks.documents.document import Document, Format
from critical.frameworks.framework import Changes, Hook, Source
from critical.frameworks.hf import notes, reading_of, std_of
from critical.frameworks.hf_folder import target_in_folder, trainer_optimizer
from critical.frameworks.hooks import module_hook
from critical.frameworks.reading import Optimizer, Reading
from critical.targets.config_keys import Keys
from critical.targets.target import Target

_OVERRIDES = "overrides_of_model_config"
_ALIAS = "model_config"
_OWN = ("datasets", "pretraining_dataset", "sequence_len", "micro_batch_size", "reinit_weights")
_USAGE = (
    "put it into a folder of PYTHONPATH, and write plugins: [critical_init.AxolotlPlugin] into the "
    "YAML: it draws once the model is built"
)


class Axolotl:
    """Axolotl's YAML, of a model that is trained from scratch."""

    name = "axolotl"
    title = "Axolotl 0.19"
    formats: tuple[Format, ...] = ("yaml",)

    def claims(self, document: Document) -> bool:
        """Return whether it names a base_model and something of Axolotl's."""
        values = document.values
        return isinstance(values.get("base_model"), str) and any(key in values for key in _OWN)

    def read(self, source: Source) -> Reading:
        """Return the model in the folder base_model, as overrides_of_model_config changes it.

        Raises:
            CriticalError: The model keeps its trained weights, is not in a folder here, or is no
                decoder.
        """
        keys = _keys(source)
        target = _target(source, keys)
        reading = reading_of(target, self.name)
        std = reading.std
        overridden = keys.inner(_section(keys)).values.get(target.initializer_key) is not None
        if std is not None and overridden:
            std = replace(std, key=f"{_section(keys)}.{std.key}", stated=True)
        return replace(
            reading,
            std=std,
            optimizer=_optimizer(keys),
            remarks=(*reading.remarks, *_remarks(keys)),
        )

    def changes(self, source: Source, reading: Reading, gamma: float) -> Changes:
        """Return the std to set over base_model's config.json.

        Raises:
            CriticalError: As of ``hf.std_of``.
        """
        keys = _keys(source)
        target = _target(source, keys)
        path = (_section(keys), target.initializer_key)
        return Changes({path: std_of(target, reading, gamma)}, notes(reading))

    def hook(self, reading: Reading, gamma: float) -> Hook | None:
        """Return the module with a plugin of Axolotl's that redraws by each matrix's fan-in."""
        return module_hook(gamma, _USAGE, extension="axolotl")


def _keys(source: Source) -> Keys:
    return Keys(
        source.document.values,
        source.name,
        None,
        error=ExportError,
        hint="as axolotl reads it",
        lenient=True,
    )


def _section(keys: Keys) -> str:
    """Return the name that the file gives the overrides; axolotl takes either."""
    if _OVERRIDES in keys.values and _ALIAS in keys.values:
        raise keys.error(f"{_OVERRIDES} and {_ALIAS} are the same key: keep one of them")
    return _ALIAS if _ALIAS in keys.values else _OVERRIDES


def _target(source: Source, keys: Keys) -> Target:
    if not keys.boolean("reinit_weights", False):
        raise keys.error(
            "reinit_weights is not true, so that base_model keeps its trained weights and nothing "
            "is drawn: write reinit_weights: true to train from scratch"
        )
    key = "base_model_config" if keys.values.get("base_model_config") else "base_model"
    section = _section(keys)
    return target_in_folder(source, key, keys.text(key), keys.inner(section).values, section)


def _optimizer(keys: Keys) -> Optimizer | None:
    name = str(keys.values.get("optimizer") or "adamw_torch_fused")
    if "adam" not in name:
        return None
    # Axolotl's own groups of parameters, made where one of these is given, spare the embeddings.
    own_groups = ("embedding_lr", "embedding_lr_scale", "lr_groups", "loraplus_lr_ratio")
    if any(keys.values.get(key) is not None for key in own_groups):
        return replace(trainer_optimizer(keys), decays_embeddings=False)
    of_trainer = name.startswith(("adamw", "paged_adamw"))
    return replace(trainer_optimizer(keys), decays_embeddings=True if of_trainer else None)


def _remarks(keys: Keys) -> tuple[str, ...]:
    said = []
    if keys.values.get("adapter"):
        said.append("adapter trains low-rank matrices over the drawn weights, which stay fixed")
    if keys.values.get("resize_token_embeddings_to_32x") or keys.values.get("tokens"):
        said.append("rows that axolotl adds to the embeddings for new tokens are drawn otherwise")
    return tuple(said)
