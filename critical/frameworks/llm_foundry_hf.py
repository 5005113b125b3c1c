"""LLM Foundry's hf_causal_lm: a Hugging Face model, drawn where ``pretrained`` is false.

config_overrides is set on the configuration after transformers has read it (source: llm-foundry
0.22, models/hf/hf_base.py, and utils/config_utils.py, set_config_overrides).
"""

from __future__ import annotations

from dataclasses import replace

from critical.frameworks.framework import Changes, Source
from critical.frameworks.hf import notes, reading_of, std_of
from critical.frameworks.hf_folder import target_in_folder
from critical.frameworks.reading import Reading
from critical.targets.config_keys import Keys
from critical.targets.target import Target

NAME = "hf_causal_lm"
_SECTION = "config_overrides"


def hf_reading(source: Source, model: Keys, framework: str) -> Reading:
    """Return the model in the folder that pretrained_model_name_or_path names.

    Raises:
        CriticalError: It keeps its trained weights, is not in a folder here, or is no decoder.
    """
    target = _target(source, model)
    reading = reading_of(target, framework)
    std = reading.std
    stated = model.inner(_SECTION).values.get(target.initializer_key) is not None
    if std is not None and stated:
        std = replace(std, key=f"model.{_SECTION}.{std.key}", stated=True)
    return replace(reading, std=std)


def hf_changes(source: Source, model: Keys, reading: Reading, gamma: float) -> Changes:
    """Return the std to set over the folder's config.json.

    Raises:
        CriticalError: As of ``hf.std_of``.
    """
    target = _target(source, model)
    path = ("model", _SECTION, target.initializer_key)
    return Changes({path: std_of(target, reading, gamma)}, notes(reading))


def _target(source: Source, model: Keys) -> Target:
    if model.boolean("pretrained", True):
        raise model.error(
            "pretrained is not false, so that the weights are loaded and nothing is drawn: write "
            "pretrained: false to train from scratch"
        )
    key = "pretrained_model_name_or_path"
    overrides = model.inner(_SECTION).values
    return target_in_folder(source, key, model.text(key), overrides, _SECTION)
