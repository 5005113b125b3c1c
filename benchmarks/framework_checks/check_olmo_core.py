# pip: torch==2.13.0 ai2-olmo-core==3.0.0 numpy omegaconf google-api-core google-cloud-storage tokenizers  # noqa: E501
"""Checks an export for OLMo-core against the models that OLMo-core 3 builds.

    python check_olmo_core.py BUNDLE OUT.json
    python check_olmo_core.py --configuration FILE     the config.json of a small run

"edit" is the model of the bundle's config.json, "hook" the same after critical_init.install().
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
from measuring import compared, empty, main, report_of, stds
from olmo_core.nn.transformer import TransformerConfig
from olmo_core.optim import AdamWConfig, OptimGroupOverride


def configuration() -> dict[str, Any]:
    """Return what OLMo-core's config saver writes of a small model and its optimizer."""
    model = TransformerConfig.llama_like(
        d_model=512,
        vocab_size=4096,
        n_layers=4,
        n_heads=8,
        n_kv_heads=2,
        hidden_size_multiple_of=1536,
        hidden_size_multiplier=1.0,
    )
    optim = AdamWConfig(
        lr=4e-4,
        weight_decay=0.1,
        group_overrides=[
            OptimGroupOverride(params=["embeddings.weight"], opts={"weight_decay": 0})
        ],
    )
    return {
        "model": model.as_config_dict(),
        "train_module": {"optim": optim.as_config_dict()},
        "init_seed": 12536,
    }


def check(bundle: Path) -> dict[str, Any]:
    """Return the rows of a bundle."""
    report = report_of(bundle)
    values = json.loads((bundle / "config.json").read_text("utf-8"))["model"]
    edited, hooked = _measured(values, report), None
    if (bundle / "critical_init.py").exists():
        sys.path.insert(0, str(bundle))
        importlib.import_module("critical_init").install()
        hooked = _measured(values, report)
    return compared(report, edited, hooked)


def _measured(values: dict[str, Any], report: dict[str, Any]) -> dict[str, tuple[float, int]]:
    model = TransformerConfig.from_dict(values).build(init_device="meta")
    empty(model)
    model.init_weights(max_seq_len=128, device=torch.device("cpu"))
    return stds(model, report)


if __name__ == "__main__":
    if sys.argv[1] == "--configuration":
        Path(sys.argv[2]).write_text(json.dumps(configuration()), encoding="utf-8")
    else:
        main(check)
