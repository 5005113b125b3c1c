"""Settings by name: what each changes of a model, and what each needs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from critical.trials import ProxyRun, Scale
from critical.trials.architecture import Architecture, Kinds, ModelShape
from critical.trials.errors import SettingsError
from critical.trials.initialization import initialize
from critical.trials.model import Decoder
from critical.trials.settings import (
    RELAXED_EPS,
    SETTINGS,
    carried_eps,
    check_settings,
    effective_shape,
)
from critical.trials.stretches import Stretch
from critical.trials.training import TrainingRecipe

RUN = ProxyRun(0.8, None, Scale(64, 2, 4, 1), seed=0)
TARGET = Architecture(norm_eps=1e-5)


def shape(settings: str, target_width: int | None = 2048, **changes: Any) -> ModelShape:
    """Return the shape of a run under some settings."""
    return effective_shape(
        replace(TARGET, **changes),
        replace(RUN, settings=settings),
        target_width=target_width,
        vocabulary=384,
        longest=64,
    )


def saturation(ms: float, eps: float) -> float:
    """Return the RMS of what a norm gives."""
    return math.sqrt(ms / (ms + eps))


def test_target_is_the_target() -> None:
    """Its ε in every norm, and no gate."""
    found = shape("target", None)
    assert (found.norm_eps, found.first_norm_eps, found.gated_attention) == (1e-5, None, False)


def test_relaxed_has_hardly_an_eps_and_a_gate() -> None:
    """And differs from the target in nothing else."""
    found = shape("relaxed", None)
    assert found == replace(shape("target"), norm_eps=RELAXED_EPS, gated_attention=True)
    assert RELAXED_EPS == 1e-12


def test_relaxed_draws_what_it_shares_as_the_target_does() -> None:
    """Arms of one seed are paired: the gate is the only matrix that is new."""
    models = [Decoder(shape(name)) for name in ("target", "relaxed")]
    for model in models:
        initialize(model, RUN.gamma, seed=3)
    ours, theirs = (dict(model.named_parameters()) for model in models)
    assert {name for name in theirs if name not in ours} == {
        f"blocks.{block}.attention.gate_proj.weight" for block in range(2)
    }
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())


def test_carried_changes_the_first_eps_alone() -> None:
    """By (d_target / d_proxy)^2γ: a factor 2^8 at γ = 0.8 and 32 times the width."""
    found = shape("carried")
    assert found.first_norm_eps == pytest.approx(1e-5 * 2**8)
    assert replace(found, first_norm_eps=None) == shape("target")


@given(
    gamma=st.floats(0.1, 2),
    width=st.integers(8, 4096),
    target=st.integers(8, 16384),
    eps=st.floats(1e-12, 1e-3),
    scaled=st.booleans(),
)
def test_carried_has_the_saturation_of_the_target(
    gamma: float, width: int, target: int, eps: float, scaled: bool
) -> None:
    """At initialization, with embeddings as drawn and with Gemma's, multiplied by √d."""
    architecture = Architecture(norm_eps=eps, kinds=Kinds(scaled_embedding=scaled))
    exponent = (1 if scaled else 0) - 2 * gamma
    found = carried_eps(architecture, gamma, width, target)
    assert saturation(width**exponent, found) == pytest.approx(saturation(target**exponent, eps))


@torch.no_grad()
@pytest.mark.parametrize("kinds", [Kinds(), Kinds(scaled_embedding=True), Kinds(norm="layer")])
def test_a_real_first_norm_is_saturated_as_the_targets(kinds: Kinds) -> None:
    """The RMS of what it gives is what the formula says of the target's width."""
    run = replace(RUN, gamma=0.9, settings="carried")
    architecture = Architecture(norm_eps=1e-5, kinds=kinds)
    model = Decoder(
        effective_shape(architecture, run, target_width=1024, vocabulary=384, longest=64)
    )
    initialize(model, run.gamma)
    x = model._embedded([torch.arange(384)[None]], [Stretch(1, 384, 384)])
    first: Any = model.blocks[0]
    found = first.attention_norm(x).square().mean().sqrt()
    exponent = (1 if kinds.scaled_embedding else 0) - 2 * run.gamma
    assert float(found) == pytest.approx(saturation(1024**exponent, 1e-5), rel=0.02)


def test_carried_needs_a_target() -> None:
    """The message says what to write."""
    with pytest.raises(SettingsError, match=r"--settings carried needs --target config\.json"):
        shape("carried", None)


def test_carried_needs_a_norm_that_reads_the_embedding() -> None:
    """OLMo-2 has none: the arm would be the target's again."""
    with pytest.raises(SettingsError, match="carried changes nothing in this target"):
        shape("carried", kinds=Kinds(placement="post"))


def test_unknown_settings_are_named() -> None:
    """With those that there are."""
    with pytest.raises(SettingsError, match="'open' are not one of target, relaxed, carried"):
        check_settings("open", TARGET, None)


def test_every_name_trains_on_its_own(tasks_only: TrainingRecipe) -> None:
    """Each of the settings comes to other numbers than the others."""
    recipe = replace(tasks_only, architecture=Architecture(norm_eps=1e-3), target_width=512)
    run = ProxyRun(0.8, None, Scale(16, 1, 2, 8_000), seed=3)
    last = {name: list(recipe(replace(run, settings=name)))[-1].loss.hex() for name in SETTINGS}
    assert len(set(last.values())) == len(SETTINGS) == 3
