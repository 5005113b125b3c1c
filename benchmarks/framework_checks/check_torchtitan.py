# pip: torch==2.13.0 torchtitan==0.3.0 triton numpy
"""Checks an export for torchtitan against the models that torchtitan 0.3 builds.

    python check_torchtitan.py BUNDLE OUT.json
    python check_torchtitan.py --configuration FILE     dump a small llama3, as torchtitan does

The export edits nothing, so that "edit" is the model as torchtitan draws it, depth scaling and all;
"hook" is the same configuration after ``--override.imports critical_init.with_gamma``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from measuring import compared, empty, main, report_of, stds
from torchtitan.config.override import OverrideConfig, apply_overrides
from torchtitan.models.common import ComplexRoPE, Embedding, Linear, RMSNorm
from torchtitan.models.llama3 import (
    _EMBEDDING_INIT,
    _NORM_INIT,
    Llama3Model,
    _build_llama3_layers,
    _output_linear_init,
    model_registry,
)
from torchtitan.trainer import Trainer

_WIDTH, _HEADS, _DEPTH, _INNER, _WORDS = 512, 8, 4, 1536, 4096


def configuration() -> Trainer.Config:
    """Return a run of a small llama3, made as torchtitan's own are."""
    rope = ComplexRoPE.Config(dim=_WIDTH // _HEADS, max_seq_len=1024, theta=500000, scaling="llama")
    spec = model_registry("debugmodel")
    spec.model = Llama3Model.Config(
        dim=_WIDTH,
        vocab_size=_WORDS,
        tok_embeddings=Embedding.Config(
            num_embeddings=_WORDS, embedding_dim=_WIDTH, param_init=_EMBEDDING_INIT
        ),
        norm=RMSNorm.Config(normalized_shape=_WIDTH, param_init=_NORM_INIT),
        lm_head=Linear.Config(
            in_features=_WIDTH, out_features=_WORDS, param_init=_output_linear_init(_WIDTH)
        ),
        layers=_build_llama3_layers(
            n_layers=_DEPTH,
            dim=_WIDTH,
            n_heads=_HEADS,
            n_kv_heads=2,
            hidden_dim=_INNER,
            rope=rope,
            attn_backend="flex",
        ),
    )
    return Trainer.Config(model_spec=spec)


def check(bundle: Path) -> dict[str, Any]:
    """Return the rows of a bundle."""
    report, run = report_of(bundle), configuration()
    edited = _measured(run, report)
    hooked = None
    if (bundle / "critical_init.py").exists():
        sys.path.insert(0, str(bundle))
        apply_overrides(OverrideConfig(imports=["critical_init.with_gamma"]), run)
        hooked = _measured(run, report)
    return compared(report, edited, hooked)


def _measured(run: Trainer.Config, report: dict[str, Any]) -> dict[str, tuple[float, int]]:
    with torch.device("meta"):
        model = empty(run.model_spec.model.build())
    initialize: Any = model.init_weights
    with torch.no_grad():
        initialize(buffer_device=None)
    return stds(model, report)


if __name__ == "__main__":
    if sys.argv[1] == "--configuration":
        dump = json.dumps(configuration().to_dict(), indent=2)
        Path(sys.argv[2]).write_text(dump + "\n", encoding="utf-8")
    else:
        main(check)
