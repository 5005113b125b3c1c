"""A Hugging Face model that another framework's configuration names by its folder.

Nothing is ever downloaded: a name that is no folder here is told so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from critical.errors import ExportError, TargetError
from critical.frameworks.framework import Source
from critical.frameworks.reading import Optimizer, Setting
from critical.targets.config_file import parse_object, read_text
from critical.targets.config_keys import Keys
from critical.targets.target import Target, parse_target

_CONFIG = "config.json"
_DERIVED = (
    *("hidden_size", "n_embd", "d_model"),
    *("num_attention_heads", "n_head", "num_heads", "n_heads"),
)
"""Keys that transformers derives others from, as head_dim, once: when it reads config.json."""


def target_in_folder(
    source: Source, key: str, named: str, overrides: Mapping[str, Any], section: str
) -> Target:
    """Return the model of a folder that a configuration names, with its overrides.

    Args:
        source: The configuration; the folder is looked for beside it, then where the user is.
        key: The configuration's key for the folder, for messages.
        named: What stands there.
        overrides: What is set over the folder's config.json, as an attribute after it is read.
        section: The configuration's key for them, for messages.

    Raises:
        CriticalError: There is no such folder, or its config.json is not a decoder's or nests it;
            or an override changes a key that transformers has by then derived others from.
    """
    path = config_of(source, key, named)
    values = parse_object(read_text(path, TargetError), path.name, TargetError)
    if isinstance(values.get("text_config"), dict):
        raise ExportError(
            f"{source.name}: {named[:80]!r} nests its language model in text_config, which nothing "
            f"in {source.name} reaches: audit or export {path} alone, as hf"
        )
    for name in _DERIVED:
        if name in overrides and overrides[name] != values.get(name):
            raise ExportError(
                f"{source.name}: {section} changes {name}, from which transformers has derived "
                f"others by then: write it into {path.name}"
            )
    merged = {**values, **overrides}
    return replace(parse_target(json.dumps(merged, default=str), path.name), name=source.name)


def config_of(source: Source, key: str, named: str) -> Path:
    """Return the path of the config.json in a folder that a configuration names.

    Raises:
        ExportError: There is none.
    """
    for base in (source.folder or Path(), Path()):
        path = base / named / _CONFIG
        try:
            if path.is_file():
                return path
        except (OSError, ValueError):
            break  # No path can be so long, or hold such a character.
    raise ExportError(
        f"{source.name}: {key} {named[:80]!r} is no folder here that holds a config.json, and "
        "nothing is downloaded: download its config.json, and audit or export that, as hf"
    )


def trainer_optimizer(keys: Keys) -> Optimizer:
    """Return the optimizer of a framework that hands these keys to transformers' Trainer.

    Defaults are those of TrainingArguments; the Trainer decays all but norms and biases.
    """
    stated = keys.values
    return Optimizer(
        Setting(
            "adam_epsilon",
            keys.positive(("adam_epsilon",), 1e-8),
            stated.get("adam_epsilon") is not None,
        ),
        Setting(
            "weight_decay",
            keys.number(("weight_decay",), 0.0),
            stated.get("weight_decay") is not None,
        ),
        decays_embeddings=True,
    )
