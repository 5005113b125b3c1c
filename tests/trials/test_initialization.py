"""γ-initialization: the std of every matrix, what is paired, what is known and what is left."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from critical.trials.initialization import (
    RESIDUAL_PROJECTION,
    Matrix,
    equivalent_gamma,
    gamma_std,
    initialize,
    measure,
)
from critical.trials.model import Decoder, ModelShape

SHAPE = ModelShape(vocabulary=96, width=32, depth=2, heads=2, feed_forward=48)
GAMMAS = [0.3, 0.5, 0.8, 1.2]


def decoder(*, tied: bool = False) -> Decoder:
    """A small proxy model."""
    return Decoder(ModelShape(96, 32, 2, 2, 48, tied=tied))


def is_drawn_with(std: float, weight: Tensor) -> bool:
    """Whether a sample std is within four of its standard errors, std / √(2n)."""
    found = float(weight.detach().double().square().mean().sqrt())
    return abs(found / std - 1) < 4 / math.sqrt(2 * weight.numel())


class ZeroCentredNorm(nn.Module):
    """RMSNorm with gain 1 + weight, as Gemma's, and optionally a bias."""

    def __init__(self, width: int, *, bias: float | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), 0.3))
        self.bias = None if bias is None else nn.Parameter(torch.full((width,), bias))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the last dimension."""
        out = x / x.square().mean(-1, keepdim=True).sqrt() * (1 + self.weight)
        return out if self.bias is None else out + self.bias


class PlainNorm(ZeroCentredNorm):
    """The same with gain = weight, as Llama's."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the last dimension."""
        out = x / x.square().mean(-1, keepdim=True).sqrt() * self.weight
        return out if self.bias is None else out + self.bias


@pytest.mark.parametrize("gamma", GAMMAS)
def test_every_matrix_has_the_std_of_its_fan_in(gamma: float) -> None:
    """Each within its sampling error, the embedding by its width and not its vocabulary."""
    model = decoder()
    result = initialize(model, gamma)
    assert {m.name: m.fan_in for m in result.drawn} == {
        "embedding.weight": 32,
        "head.weight": 32,
        **{
            f"blocks.{block}.{name}.weight": fan_in
            for block in (0, 1)
            for name, fan_in in {
                "attention.qkv_proj": 32,
                "attention.o_proj": 32,
                "feed_forward.gate_up_proj": 32,
                "feed_forward.down_proj": 48,
            }.items()
        },
    }
    for matrix in result.drawn:
        assert matrix.std == pytest.approx(matrix.fan_in**-gamma)
        assert matrix.gamma == pytest.approx(gamma)
        assert is_drawn_with(matrix.std, model.get_parameter(matrix.name))
    assert result.left == ()


def test_seeds_are_paired_over_gamma() -> None:
    """Two γ of one seed differ by exactly one scale a matrix."""
    one, other = decoder(), decoder()
    initialize(one, 0.4, seed=5)
    result = initialize(other, 0.9, seed=5)
    for matrix in result.drawn:
        scale = matrix.fan_in ** (0.4 - 0.9)
        expected = one.get_parameter(matrix.name) * scale
        torch.testing.assert_close(other.get_parameter(matrix.name), expected, rtol=1e-5, atol=0)


def test_every_seed_draws_other_weights() -> None:
    """Two seeds are as good as uncorrelated, and one seed is the same to the bit."""
    one, same, other = decoder(), decoder(), decoder()
    for model, seed in ((one, 0), (same, 0), (other, 1)):
        initialize(model, 0.5, seed=seed)
    a, b, c = (model.head.weight.detach().flatten() for model in (one, same, other))
    assert torch.equal(a, b)
    assert abs(float(torch.corrcoef(torch.stack((a, c)))[0, 1])) < 4 / math.sqrt(len(a))


def test_matrices_of_one_shape_are_drawn_apart() -> None:
    """The name counts, so that no two layers start as copies of each other."""
    model = decoder()
    initialize(model, 0.5)
    first, second = (block.attention.o_proj.weight for block in model.blocks)  # type: ignore[union-attr]
    assert not torch.equal(first, second)  # type: ignore[arg-type]


def test_global_random_state_is_left_alone() -> None:
    """Nothing else that the user draws changes."""
    model = decoder()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    initialize(model, 0.5)
    assert torch.equal(torch.rand(3), expected)


def test_a_tied_matrix_is_drawn_once() -> None:
    """Under its first name, and the tie holds."""
    model = decoder(tied=True)
    names = [m.name for m in initialize(model, 0.7).drawn]
    assert "embedding.weight" in names
    assert "head.weight" not in names
    assert model.head.weight is model.embedding.weight
    assert is_drawn_with(32**-0.7, model.head.weight)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_the_width_convention_divides_residual_projections(gamma: float) -> None:
    """d_model^−γ for every matrix, over √(2L) where it writes into the residual stream."""
    model = decoder()
    for matrix in initialize(model, gamma, convention="width", width=32, depth=2).drawn:
        residual = matrix.name.endswith(("o_proj.weight", "down_proj.weight"))
        assert matrix.std == pytest.approx(32**-gamma / (2 if residual else 1))
        assert is_drawn_with(matrix.std, model.get_parameter(matrix.name))


@pytest.mark.parametrize(
    ("name", "residual"),
    [
        ("model.layers.0.self_attn.o_proj.weight", True),
        ("transformer.h.0.mlp.c_proj.weight", True),
        ("model.decoder.layers.0.fc2.weight", True),
        ("gpt_neox.layers.0.attention.dense.weight", True),
        ("transformer.h.0.self_attention.dense.weight", True),
        ("transformer.h.0.mlp.dense_4h_to_h.weight", True),
        ("model.layers.0.mlp.up_proj.weight", False),
        ("model.decoder.layers.0.fc1.weight", False),
        ("pooler.dense.weight", False),
        ("lm_head.weight", False),
    ],
)
def test_residual_projections_are_known_by_name(name: str, residual: bool) -> None:
    """Under the names of Llama, GPT-2, OPT, GPT-NeoX, Falcon and BLOOM."""
    assert bool(RESIDUAL_PROJECTION.search(name)) == residual


def test_the_width_convention_needs_width_and_depth() -> None:
    """The message names both."""
    with pytest.raises(ValueError, match=r"'width' needs width= and depth="):
        initialize(decoder(), 0.5, convention="width", width=32)


def test_an_unknown_convention_is_refused() -> None:
    """It is not taken for one of the two, and the message shows them."""
    with pytest.raises(ValueError, match=r"'fanin' is not known: write 'fan_in' or 'width'"):
        initialize(decoder(), 0.5, convention="fanin", width=32, depth=2)  # type: ignore[arg-type]


def test_gains_become_one_and_biases_zero() -> None:
    """Whatever they were before, and without entering the list of matrices."""
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.RMSNorm(8))
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.7)
    result = initialize(model, 0.5)
    assert [m.name for m in result.drawn] == ["0.weight"]
    named = dict(model.named_parameters())
    assert all(named[name].eq(1).all() for name in ("1.weight", "2.weight"))
    assert all(named[name].eq(0).all() for name in ("0.bias", "1.bias"))


@pytest.mark.parametrize("bias", [None, 2.0])
def test_a_zero_centred_norm_gets_gain_one(bias: float | None) -> None:
    """Gemma's gain is 1 + weight, so its weight is 0; Llama's is 1; a bias misleads neither."""
    model = nn.ModuleList([ZeroCentredNorm(8, bias=bias), PlainNorm(8, bias=bias)])
    initialize(model, 0.5)
    weights = [parameter for name, parameter in model.named_parameters() if "weight" in name]
    assert weights[0].eq(0).all()
    assert weights[1].eq(1).all()


def test_a_gain_of_no_norm_is_one() -> None:
    """A module that cannot be probed with one vector is taken for a plain gain."""

    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(4))

        def forward(self, parts: dict[str, Tensor]) -> Tensor:
            return parts["x"] * self.weight

    model = Scale()
    initialize(model, 0.5)
    assert model.weight.eq(1).all()


def test_gemma_and_gpt2_of_transformers() -> None:
    """Gemma's own norm has gain 1; Conv1D is known by its input dimension, its first one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from transformers import GPT2Config, GPT2LMHeadModel
        from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
    norm = GemmaRMSNorm(16)
    initialize(norm, 0.5)
    assert norm.weight.eq(0).all()

    config = GPT2Config(vocab_size=64, n_positions=16, n_embd=16, n_layer=1, n_head=2, n_inner=40)
    model = GPT2LMHeadModel(config)
    result = initialize(model, 0.8)
    found = {m.name: m.fan_in for m in result.drawn}
    assert found == {
        "transformer.wte.weight": 16,
        "transformer.wpe.weight": 16,
        "transformer.h.0.attn.c_attn.weight": 16,
        "transformer.h.0.attn.c_proj.weight": 16,
        "transformer.h.0.mlp.c_fc.weight": 16,
        "transformer.h.0.mlp.c_proj.weight": 40,
    }
    assert result.left == ()
    assert all(is_drawn_with(m.std, model.get_parameter(m.name)) for m in result.drawn)
    assert model.transformer.h[0].ln_1.weight.eq(1).all()


@pytest.mark.parametrize("kdim", [None, 12])
def test_multihead_attention_is_known(kdim: int | None) -> None:
    """Its projections are drawn by the dimensions of what they read, fused or apart."""
    model = nn.MultiheadAttention(8, 2, kdim=kdim)
    found = {m.name: m.fan_in for m in initialize(model, 0.5).drawn}
    if kdim is None:
        assert found == {"in_proj_weight": 8, "out_proj.weight": 8}
    else:
        assert found == {
            "q_proj_weight": 8,
            "k_proj_weight": 12,
            "v_proj_weight": 8,
            "out_proj.weight": 8,
        }


def test_unknown_matrices_are_reported_and_left() -> None:
    """A parameter of two or more dimensions that no known module holds keeps its values."""
    model = nn.Module()
    model.experts = nn.Parameter(torch.full((2, 3, 4), 0.5))
    model.conv = nn.Conv1d(2, 2, 3)
    result = initialize(model, 0.5)
    assert result.drawn == ()
    assert result.left == ("experts", "conv.weight")
    assert model.experts.eq(0.5).all()


def test_measure_finds_what_initialize_drew() -> None:
    """The same names and fan-ins, and γ_eq near γ for every matrix."""
    model = decoder()
    drawn = initialize(model, 0.75).drawn
    found = measure(model)
    assert [(m.name, m.fan_in) for m in found] == [(m.name, m.fan_in) for m in drawn]
    assert all(abs(m.gamma - 0.75) < 0.03 for m in found)


def test_a_matrix_of_zeros_has_no_gamma() -> None:
    """Its std is 0, and asking for γ_eq says why there is none."""
    model = nn.Linear(4, 4)
    nn.init.zeros_(model.weight)
    (matrix,) = measure(model)
    assert matrix.std == 0
    with pytest.raises(ValueError, match=r"std is 0\.0: γ_eq exists for a positive one only"):
        _ = matrix.gamma


@given(st.floats(-2, 3), st.integers(2, 10**6))
def test_equivalent_gamma_inverts_gamma_std(gamma: float, fan_in: int) -> None:
    """For every γ and every fan-in from 2."""
    assert equivalent_gamma(gamma_std(gamma, fan_in), fan_in) == pytest.approx(gamma, abs=1e-9)


def test_known_equivalents() -> None:
    """A fixed 0.02 stands for the γ_eq that the literature's table gives."""
    widths = (256, 512, 768, 1024, 2048, 4096)
    found = [round(Matrix("any", width, 0.02).gamma, 3) for width in widths]
    assert found == [0.705, 0.627, 0.589, 0.564, 0.513, 0.470]


@pytest.mark.parametrize(
    ("std", "fan_in", "message"),
    [
        (-1.0, 8, r"std is -1\.0"),
        (math.nan, 8, r"std is nan"),
        (0.1, 1, r"fan_in is 1: γ_eq exists from 2 upwards only"),
    ],
)
def test_no_equivalent_gamma(std: float, fan_in: int, message: str) -> None:
    """The message says what was given and what is allowed."""
    with pytest.raises(ValueError, match=message):
        equivalent_gamma(std, fan_in)


def test_a_fan_in_of_zero_is_refused() -> None:
    """No std belongs to it."""
    with pytest.raises(ValueError, match=r"fan_in is 0: it must be at least 1"):
        gamma_std(0.5, 0)


def test_low_precision_weights_keep_their_type() -> None:
    """A bfloat16 model is drawn in bfloat16, with the same std."""
    model = nn.Linear(64, 64, bias=False).to(torch.bfloat16)
    initialize(model, 0.9)
    assert model.weight.dtype == torch.bfloat16
    assert is_drawn_with(64**-0.9, model.weight)


class Experts(nn.Module):
    """Stacked experts as transformers has them; its flag tells (out, in) from (in, out)."""

    def __init__(self, *, transposed: bool) -> None:
        super().__init__()
        self.is_transposed = transposed
        shapes = ((4, 96, 24), (4, 24, 48)) if not transposed else ((4, 24, 96), (4, 48, 24))
        self.gate_up_proj = nn.Parameter(torch.empty(shapes[0]))
        self.down_proj = nn.Parameter(torch.empty(shapes[1]))
        self.gate_up_proj_bias = nn.Parameter(torch.ones(4, 96))


class TopKRouter(nn.Module):
    """A router that is no Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(4, 24))


@pytest.mark.parametrize("transposed", [False, True])
def test_stacked_experts_and_their_router_are_drawn(transposed: bool) -> None:
    """Each expert by its own fan-in, whichever way it is stored; their biases are 0."""
    model = nn.ModuleDict({"experts": Experts(transposed=transposed), "router": TopKRouter()})
    found = initialize(model, 0.5)
    assert found.left == ()
    assert {m.name: m.fan_in for m in found.drawn} == {
        "experts.gate_up_proj": 24,
        "experts.down_proj": 48,
        "router.weight": 24,
    }
    for matrix in found.drawn:
        assert is_drawn_with(matrix.fan_in**-0.5, model.get_parameter(matrix.name))
    assert not model.get_parameter("experts.gate_up_proj_bias").any()


def test_a_zero_centred_gain_of_a_layer_norm() -> None:
    """Nemotron's is a subclass of torch's, and adds 1 to its weight."""

    class LayerNorm1P(nn.LayerNorm):
        def forward(self, x: Tensor) -> Tensor:
            shape = self.normalized_shape
            return nn.functional.layer_norm(x, shape, self.weight + 1, self.bias, self.eps)

    norm = LayerNorm1P(16)
    initialize(norm, 0.5)
    assert not norm.weight.any()


def test_a_state_space_time_step_is_no_bias() -> None:
    """A layer's dt_bias keeps what it was given."""
    layer = nn.Module()
    layer.dt_bias = nn.Parameter(torch.full((3,), 0.7))
    initialize(layer, 0.5)
    assert (layer.dt_bias == 0.7).all()
