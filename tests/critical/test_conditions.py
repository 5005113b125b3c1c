"""What the settings relaxed ask of a model, in a sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from critical.conditions import relaxed_needs
from critical.targets.target import Target, read_target


@pytest.fixture
def model(llama_config: Path) -> Target:
    """A Llama with rms_norm_eps 1e-05, as most have it."""
    return read_target(llama_config)


def test_a_model_is_told_what_it_lacks(model: Target) -> None:
    """Its key and ε are named, and that it has no gate."""
    key, told = model.norm_eps_key, f"{model.norm_eps:g}"
    assert key == "rms_norm_eps"
    assert relaxed_needs(model, gated=True) == (
        f"relaxed settings are norm ε 1e-12 and gated attention: {model.name} has rms_norm_eps "
        f"{told} and no gate, so change these too"
    )


def test_proxies_without_a_gate_ask_for_none(model: Target) -> None:
    """Those of transformers were relaxed in ε alone."""
    said = relaxed_needs(model, gated=False)
    assert said is not None
    assert said.startswith("relaxed settings are norm ε 1e-12: ")
    assert said.endswith("so change this too")
    assert "gate" not in said


def test_an_epsilon_that_no_key_holds_is_told_all_the_same(model: Target) -> None:
    """The family's own stands there."""
    config = {key: value for key, value in model.config.items() if key != "rms_norm_eps"}
    said = relaxed_needs(replace(model, config=config, norm_eps=1e-6), gated=True)
    assert said is not None
    assert f"{model.name} has norm ε 1e-06 and no gate" in said


@pytest.mark.parametrize(
    "changes",
    [{"model_type": "qwen3_next"}, {"model_type": "afmoe"}, {"config": {"attn_output_gate": True}}],
)
def test_a_model_that_has_it_all_is_told_nothing(model: Target, changes: dict[str, object]) -> None:
    """With an ε as small and a gate on attention nothing is to be changed."""
    relaxed = replace(model, norm_eps=1e-12, **changes)  # type: ignore[arg-type]
    assert relaxed_needs(relaxed, gated=True) is None
    assert relaxed_needs(replace(model, norm_eps=1e-12), gated=False) is None


def test_without_a_model_the_need_is_said(model: Target) -> None:
    """A bare width has no ε to compare."""
    assert relaxed_needs(None, gated=True) == (
        "relaxed settings are norm ε 1e-12 and gated attention: train with both, for γ* holds "
        "under these alone"
    )
    assert "train with it" in str(relaxed_needs(None, gated=False))
