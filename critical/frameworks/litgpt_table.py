"""The sizes that LitGPT knows a model by: its own table, where it is installed beside critical.

Source: litgpt 0.5.13, config.py (``configs``, and ``Config.from_name``, which looks a name up).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module, metadata
from typing import Any


def table() -> tuple[Mapping[str, Any], ...] | None:
    """Return every entry, as a model_config has it; None where LitGPT cannot be imported."""
    try:
        return tuple(import_module("litgpt.config").configs)
    # What it imports, torch and Lightning among it, raises anything where versions do not fit.
    except Exception:
        return None


def entry(entries: tuple[Mapping[str, Any], ...], name: str) -> Mapping[str, Any] | None:
    """Return what a name stands for, LitGPT's or that on the hub, with its organization or not."""
    for each in entries:
        if each.get("name") == name:
            return each
    for each in entries:
        hub = each.get("hf_config") or {}
        if name in (hub.get("name"), f"{hub.get('org')}/{hub.get('name')}"):
            return each
    return None


def version() -> str:
    """Return LitGPT's version."""
    return metadata.version("litgpt")
