# pip: torch==2.13.0 litgpt==0.5.13 numpy requests
"""Checks an export for LitGPT against the models that LitGPT 0.5 builds.

    python check_litgpt.py BUNDLE OUT.json

The export edits nothing, so that "edit" is the model as LitGPT draws it, its scaled projections and
all; "hook" is the same once critical_init.py has been imported, as its launcher does.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import litgpt.pretrain
import yaml
from lightning import Fabric
from litgpt import GPT, Config
from measuring import compared, empty, main, report_of, stds


def check(bundle: Path) -> dict[str, Any]:
    """Return the rows of a bundle."""
    report = report_of(bundle)
    values = yaml.safe_load((bundle / "pretrain.yaml").read_text("utf-8"))
    edited, hooked = _measured(values, report), None
    if (bundle / "critical_init.py").exists():
        sys.path.insert(0, str(bundle))
        importlib.import_module("critical_init")
        hooked = _measured(values, report)
    return compared(report, edited, hooked)


def _measured(values: dict[str, Any], report: dict[str, Any]) -> dict[str, tuple[float, int]]:
    fabric, config = Fabric(accelerator="cpu", devices=1), Config(**values["model_config"])
    with fabric.init_module(empty_init=True):
        model = GPT(config)
    empty(model)
    litgpt.pretrain.initialize_weights(fabric, model, config.n_layer, config.n_embd)
    if values["train"].get("tie_embeddings"):
        model.transformer.wte.weight = model.lm_head.weight
    return stds(model, report)


if __name__ == "__main__":
    main(check)
