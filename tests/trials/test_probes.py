"""Saturation, sinks, activations and gradients are read right, and reading leaves no trace."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from critical.trials.initialization import initialize
from critical.trials.mixture import Group
from critical.trials.model import Decoder, ModelShape
from critical.trials.probes import SINK_TOKENS, flow, sinks, transferred, watched_saturation
from critical.trials.stretches import Stretch
from critical.trials.training import mixture_loss

WIDTH = 16
SHAPE = ModelShape(vocabulary=48, width=WIDTH, depth=2, heads=2, feed_forward=24, norm_eps=1e-3)
TOKENS = torch.arange(36).view(4, 9)


def decoder(gamma: float = 0.6) -> Decoder:
    """A decoder of two blocks."""
    model = Decoder(SHAPE)
    initialize(model, gamma, seed=1)
    return model


def batch() -> list[Group]:
    """Four sequences with their answers."""
    return [Group("reasoning", TOKENS, torch.tensor([[1], [2], [3], [4]]))]


def numbers(values: dict[str, Tensor]) -> dict[str, float]:
    """The values of a probe."""
    return {name: float(value) for name, value in values.items()}


class VariantRMSNorm(nn.Module):
    """A norm as transformers writes it: its ε has another name."""

    def __init__(self) -> None:
        super().__init__()
        self.variance_epsilon = 0.5

    def forward(self, x: Tensor) -> Tensor:
        """Divide by the root mean square."""
        return x / (x.square().mean(-1, keepdim=True) + self.variance_epsilon).sqrt()


@pytest.mark.parametrize(
    "norm", [nn.RMSNorm(8, eps=0.5), nn.LayerNorm(8, eps=0.5), VariantRMSNorm()]
)
def test_saturation_is_the_rms_of_what_a_norm_gives(norm: nn.Module) -> None:
    """Averaged over tokens, for each kind of norm, whatever the mean of its input."""
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)) + 0.7
    with watched_saturation(nn.ModuleDict({"norm": norm})) as found:
        given = norm(x).detach()
    assert numbers(found) == pytest.approx(
        {"saturation/norm": float(given.square().mean(-1).sqrt().mean())}
    )


def test_saturation_follows_epsilon_and_gamma() -> None:
    """The first norm reads the embedding: √(ms / (ms + ε)) with ms about d^−2γ."""
    found = {}
    for gamma in (0.5, 1.0, 1.5):
        model = decoder(gamma)
        with watched_saturation(model) as values:
            model([TOKENS], [1])
        found[gamma] = numbers(values)
    for gamma, shares in found.items():
        ms = WIDTH ** (-2 * gamma)
        expected = math.sqrt(ms / (ms + SHAPE.norm_eps))
        assert shares["saturation/0.attention_norm"] == pytest.approx(expected, rel=0.05)
    assert list(found[0.5]) == [
        "saturation/0.attention_norm", "saturation/0.feed_forward_norm",
        "saturation/1.attention_norm", "saturation/1.feed_forward_norm", "saturation/norm",
    ]  # fmt: skip


def test_every_pass_counts_and_none_after_the_block() -> None:
    """The mean is over all tokens of several passes; the hooks are gone afterwards."""
    norm = nn.RMSNorm(1, eps=1.0)
    with watched_saturation(nn.Sequential(norm)) as found:
        norm(torch.zeros(3, 1))
        norm(torch.full((1, 1), math.sqrt(3)))
    assert numbers(found) == pytest.approx({"saturation/0": math.sqrt(3 / 4) / 4})
    norm(torch.ones(9, 1))
    assert len(found) == 1
    assert not norm._forward_pre_hooks


def test_hooks_go_though_the_pass_fails() -> None:
    """An evaluation that raises leaves no hook behind."""
    model = decoder()
    with pytest.raises(ZeroDivisionError), watched_saturation(model):
        raise ZeroDivisionError
    assert not any(module._forward_pre_hooks for module in model.modules())


class Attentive(nn.Module):
    """Tells the shares that it is given, and notes what it was shown."""

    def __init__(self, shares: Tensor | None) -> None:
        super().__init__()
        self.shares = shares
        self.shown: list[Tensor] = []

    def first_token_attention(self, tokens: Tensor) -> Tensor | None:
        """Return the shares, shape (depth,)."""
        self.shown.append(tokens)
        return self.shares


def test_sinks_are_told_by_block() -> None:
    """What a model says of each block; some whole sequences are shown to it."""
    model = Attentive(torch.tensor([0.25, 0.5]))
    tokens = torch.zeros(1000, 64, dtype=torch.int64)
    assert numbers(sinks(model, tokens)) == {"sink/0": 0.25, "sink/1": 0.5}
    assert model.shown[0].shape == (SINK_TOKENS // 64, 64)
    sinks(model, torch.zeros(2, 5000, dtype=torch.int64))
    assert model.shown[1].shape == (1, 5000)


@pytest.mark.parametrize("model", [nn.Linear(1, 1), Attentive(None)])
def test_a_model_that_cannot_tell_its_sinks_has_none(model: nn.Module) -> None:
    """It has no such method, or its family gives no attention."""
    assert sinks(model, TOKENS) == {}


def test_flow_by_hand() -> None:
    """The norms of the gradients that ``backward`` leaves, and the stream after each block."""
    model = decoder()
    loss = partial(mixture_loss, model, batch(), {"reasoning": 1.0})
    found = numbers(flow(model, loss, "initial"))
    assert all(parameter.grad is None for parameter in model.parameters())
    loss().backward()  # type: ignore[no-untyped-call]
    for name in ("embedding", "blocks.1.feed_forward.down_proj", "head"):
        gradient = model.get_parameter(f"{name}.weight").grad
        assert gradient is not None
        short = name.removeprefix("blocks.")
        norm = pytest.approx(float(gradient.norm()), rel=1e-5)
        assert found[f"gradient_norm_initial/{short}"] == norm
    x = model.embedding(TOKENS.flatten())
    for number, block in enumerate(model.blocks.children()):
        k = 9 if number == 0 else 1
        x = block(x, model.rotary[:9].repeat(4, 1, 1), [Stretch(4, 9, k)])
        rms = float(x.detach().square().mean().sqrt())
        assert found[f"activation_initial/{number}"] == pytest.approx(rms, rel=1e-5)
    assert len(found) == 10 + 2


class Stack(nn.Module):
    """Blocks that give a tuple, and a matrix that nothing depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Tupled()])
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's stream."""
        (stream, _) = self.layers[0](x)
        return stream  # type: ignore[no-any-return]


class Tupled(nn.Linear):
    """A block of a family that returns its stream first and more besides."""

    def __init__(self) -> None:
        super().__init__(2, 2, bias=False)

    def forward(self, x: Tensor) -> Sequence[Tensor]:  # type: ignore[override]
        """Return the stream and something else."""
        return super().forward(x), torch.full((), 1e9)


def test_blocks_may_give_a_tuple_and_matrices_be_unused() -> None:
    """The first of a tuple is the stream; a matrix without a gradient is left out."""
    model = Stack()
    found = flow(model, lambda: model(torch.ones(3, 2)).sum(), "final")
    assert found.keys() == {"activation_final/0", "gradient_norm_final/0"}
    assert float(found["activation_final/0"]) < 10


@given(st.dictionaries(st.text(max_size=4), st.floats(), max_size=6))
def test_what_is_transferred_is_finite_and_short(values: dict[str, float]) -> None:
    """In order, to six digits; NaN and infinity, which JSON has not, are left out."""
    given = {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
    found = transferred(given)
    assert list(found) == [name for name, value in values.items() if math.isfinite(value)]
    assert all(found[name] == pytest.approx(values[name], rel=5e-6, abs=0) for name in found)
    assert all(float(f"{value:.6g}") == value for value in found.values())
