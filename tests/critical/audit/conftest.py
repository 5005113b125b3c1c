"""Readings to audit: public models' configurations, and some by hand as other frameworks draw."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from critical.audit import Case, Finding, Recommended, audit
from critical.frameworks.hf import reading_of
from critical.frameworks.reading import Norms, Reading, Setting
from critical.targets.layout import Kind, Matrix
from critical.targets.target import parse_target

Find = Callable[..., Finding | None]

LLAMA_3_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-05,
    "tie_word_embeddings": False,
}


@pytest.fixture
def llama() -> Callable[..., Reading]:
    """Read Llama-3-8B's config.json, some of its keys replaced."""

    def read(**keys: object) -> Reading:
        text = json.dumps(LLAMA_3_8B | keys)
        return reading_of(parse_target(text, "config.json"), "hf")

    return read


@pytest.fixture
def by_hand() -> Callable[..., Reading]:
    """Make a reading of matrices given as (name, kind, fan-in, std), of width 768, 12 blocks."""

    def made(*matrices: tuple[str, Kind, int, float], **more: Any) -> Reading:
        values: dict[str, Any] = {
            "framework": "megatron",
            "file_name": "pretrain.sh",
            "model": "GPT",
            "width": 768,
            "depth": 12,
            "matrices": tuple(
                Matrix(name, 1, (7, fan_in), fan_in, kind, std)
                for name, kind, fan_in, std in matrices
            ),
            "std": None,
            "norms": Norms(Setting("--norm-epsilon", 1e-5, False)),
            "tied": False,
        }
        return Reading(**{**values, **more})

    return made


@pytest.fixture
def find() -> Find:
    """Audit a reading and return its only finding of a code, or None."""

    def found(code: str, reading: Reading, gamma: float | None = None) -> Finding | None:
        recommended = None if gamma is None else Recommended(gamma)
        findings = audit(Case(reading, "config.json", recommended)).findings
        of_code = [each for each in findings if each.code == code]
        assert len(of_code) <= 1
        return of_code[0] if of_code else None

    return found
