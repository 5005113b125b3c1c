"""The decoder: causal, position-relative, and the same for a group alone and among others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from critical.trials.architecture import Kinds
from critical.trials.attention import rotary_table, rotate
from critical.trials.initialization import initialize
from critical.trials.model import ACTIVATIONS, Decoder, ModelShape
from critical.trials.stretches import Stretch

SHAPE = ModelShape(vocabulary=40, width=16, depth=2, heads=2, feed_forward=24)
KINDS = {
    "llama": Kinds(),
    "qwen3": Kinds(qk_norm="head"),
    "olmo2": Kinds(placement="post", qk_norm="all"),
    "gemma2": Kinds(
        placement="sandwich", scaled_embedding=True, attention_cap=5.0, logit_cap=3.0,
        activation="gelu_tanh", attention_scale=0.5,
    ),
    "gpt2": Kinds(
        norm="layer", gated=False, positions="learned", qkv_bias=True, output_bias=True,
        feed_forward_bias=True, head_bias=True,
    ),
    "gpt_neox": Kinds(norm="layer", parallel="own_norms", rotary_fraction=0.25),
    "gptj": Kinds(norm="layer", parallel="shared_norm", norm_bias=False),
    "olmo": Kinds(norm="layer", norm_gain=False),
}  # fmt: skip


def decoder(kinds: Kinds, **changes: Any) -> Decoder:
    """A small decoder whose outputs are far from uniform, its biases and gains too."""
    made = Decoder(replace(SHAPE, kinds=kinds, **changes))
    initialize(made, 0.3)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return made


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> Decoder:
    """A decoder of each kind, with half as many key and value heads as heads."""
    return decoder(KINDS[request.param], kv_heads=1, head_dim=16)


def tokens(n: int, t: int, seed: int = 0) -> Tensor:
    """Random sequences. Shape (n, t)."""
    return torch.randint(40, (n, t), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_logits_have_the_shape_that_was_asked_for(model: Decoder) -> None:
    """(n, k, vocabulary) for each group, k its own number of last positions."""
    found = model([tokens(3, 7), tokens(2, 5)], [1, 5])
    assert [part.shape for part in found] == [(3, 1, 40), (2, 5, 40)]


@torch.no_grad()
@pytest.mark.parametrize("changed", range(1, 8))
def test_a_later_token_never_changes_earlier_logits(model: Decoder, changed: int) -> None:
    """And it does change those from its own position on."""
    before = tokens(2, 8)
    after = before.clone()
    after[:, changed] = (after[:, changed] + 1) % 40
    (one,), (other,) = model([before], [8]), model([after], [8])
    torch.testing.assert_close(one[:, :changed], other[:, :changed])
    assert (one[:, changed:] - other[:, changed:]).abs().amax(-1).min() > 1e-5


@torch.no_grad()
def test_groups_are_independent(model: Decoder) -> None:
    """Logits are the same for a group alone, among others, and for one sequence of it."""
    groups = [tokens(3, 9, 1), tokens(1, 16, 2), tokens(2, 9, 3)]
    together = model(groups, [1, 16, 9])
    for group, last, found in zip(groups, [1, 16, 9], together, strict=True):
        torch.testing.assert_close(model([group], [last])[0], found, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model([group[:1]], [last])[0], found[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gated", [False, True])
def test_the_last_positions_are_the_end_of_all(model: Decoder, gated: bool) -> None:
    """Asking for fewer positions gives the same logits there, and the same gradients of them."""
    if gated:
        model = decoder(model.shape.kinds, kv_heads=1, head_dim=16, gated_attention=True)
    groups = [tokens(3, 6, 1), tokens(2, 6, 2), tokens(2, 9, 3), tokens(2, 4, 4)]
    last = [1, 1, 4, 4]
    every = model(groups, [6, 6, 9, 4])
    expected = [part[:, -k:] for part, k in zip(every, last, strict=True)]
    found = model(groups, last)
    parameters = list(model.parameters())
    weights = [
        torch.randn(part.shape, generator=torch.Generator().manual_seed(5)) for part in found
    ]

    def gradients(parts: list[Tensor]) -> tuple[Tensor, ...]:
        value = torch.stack([(w * p).sum() for w, p in zip(weights, parts, strict=True)]).sum()
        return torch.autograd.grad(value, parameters)

    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    for one, other in zip(gradients(found), gradients(expected), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_rotary_products_depend_on_the_distance_alone() -> None:
    """A query at p and a key at p + 3 meet with the same product, wherever p is."""
    table = rotary_table(8, 64)
    q, k = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    turned = rotate(torch.stack((q, k)).expand(64, 2, 8), table)
    products = (turned[:-3, 0] * turned[3:, 1]).sum(-1)
    torch.testing.assert_close(products, products[:1].expand_as(products), rtol=1e-4, atol=1e-4)
    assert abs(products[0] - (q * k).sum()) > 1e-2


def test_rotation_keeps_lengths_and_the_first_position() -> None:
    """Position 0 is not turned, and no position is stretched."""
    x = torch.randn(5, 6, 8, generator=torch.Generator().manual_seed(0))
    turned = rotate(x, rotary_table(8, 5))
    torch.testing.assert_close(turned[0], x[0])
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


def test_a_part_of_a_head_is_rotated_as_a_head_of_its_size() -> None:
    """And the rest of it is passed through."""
    x = torch.randn(5, 6, 8, generator=torch.Generator().manual_seed(0))
    turned = rotate(x, rotary_table(4, 5))
    assert torch.equal(turned[..., 4:], x[..., 4:])
    torch.testing.assert_close(turned[..., :4], rotate(x[..., :4], rotary_table(4, 5)))
    assert (turned[1:, :, :4] - x[1:, :, :4]).abs().max() > 0.1


@torch.no_grad()
def test_attention_without_positions_is_not_what_this_is(model: Decoder) -> None:
    """Swapping two earlier tokens changes the last logits, so order is seen."""
    group = tokens(1, 6)
    (one,), (other,) = model([group], [1]), model([group[:, [1, 0, 2, 3, 4, 5]]], [1])
    assert (one - other).abs().max() > 1e-3


@pytest.mark.parametrize("tied", [False, True])
def test_a_tied_head_is_the_embedding(tied: bool) -> None:
    """One parameter where tied, two where not."""
    model = Decoder(ModelShape(40, 16, 1, 2, 24, tied=tied))
    assert (model.head.weight is model.embedding.weight) == tied
    names = [name for name, _ in model.named_parameters()]
    assert ("head.weight" in names) != tied


@torch.no_grad()
def test_every_kind_changes_what_is_computed() -> None:
    """No two of the decoders come to the same logits from the same draws."""
    found = [decoder(kinds)([tokens(2, 6)], [6])[0] for kinds in KINDS.values()]
    for place, one in enumerate(found):
        assert all((one - other).abs().max() > 1e-3 for other in found[:place])


@torch.no_grad()
@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        ("pre", lambda x, f, norm: x + f(norm(x))),
        ("post", lambda x, f, norm: x + norm(f(x))),
        ("sandwich", lambda x, f, norm: x + norm(f(norm(x)))),
    ],
)
def test_norms_stand_where_they_are_placed(placement: Any, expected: Callable[..., Tensor]) -> None:
    """Attention and feed-forward one after the other, by the formula of each placement."""
    block: Any = decoder(Kinds(placement=placement)).blocks[0]
    for each in block.modules():
        if isinstance(each, nn.RMSNorm):
            each.weight.fill_(1.0)
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    table, stretches = rotary_table(8, 5), [Stretch(1, 5, 5)]

    def norm(y: Tensor) -> Tensor:
        return F.rms_norm(y, (16,), eps=SHAPE.norm_eps)

    attended = expected(x, lambda y: block.attention(y, table, stretches), norm)
    torch.testing.assert_close(
        block(x, table, stretches), expected(attended, block.feed_forward, norm)
    )


@torch.no_grad()
@pytest.mark.parametrize("parallel", ["shared_norm", "own_norms"])
def test_parallel_layers_read_the_same_stream(parallel: Any) -> None:
    """Attention and feed-forward are added to it at once, through one norm or two."""
    block: Any = decoder(Kinds(parallel=parallel)).blocks[0]
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    table, stretches = rotary_table(8, 5), [Stretch(1, 5, 5)]
    second = block.attention_norm if parallel == "shared_norm" else block.feed_forward_norm
    expected = x + block.attention(block.attention_norm(x), table, stretches)
    expected = expected + block.feed_forward(second(x))
    torch.testing.assert_close(block(x, table, stretches), expected)


@torch.no_grad()
def test_logits_stay_under_their_cap() -> None:
    """c·tanh(logit / c) of what they are without one."""
    plain, capped = decoder(Kinds()), decoder(Kinds(logit_cap=0.5))
    (free,), (bounded,) = plain([tokens(2, 6)], [6]), capped([tokens(2, 6)], [6])
    assert free.abs().max() > 1
    assert bounded.abs().max() <= 0.5
    torch.testing.assert_close(bounded, 0.5 * (free / 0.5).tanh())


@torch.no_grad()
def test_a_high_cap_on_attention_is_none() -> None:
    """The explicit attention is the fused one."""
    plain, capped = decoder(Kinds()), decoder(Kinds(attention_cap=1e6))
    torch.testing.assert_close(
        plain([tokens(2, 6)], [6])[0], capped([tokens(2, 6)], [6])[0], rtol=1e-3, atol=1e-4
    )


@torch.no_grad()
def test_the_gate_multiplies_each_head() -> None:
    """A gate of zeros halves what attention gives; one that is shut off silences a head."""
    block: Any = decoder(Kinds(), gated_attention=True).blocks[0]
    gated = block.attention
    x, table, stretches = torch.ones(4, 16), rotary_table(8, 4), [Stretch(1, 4, 4)]
    gate, gated.gate_proj = gated.gate_proj, None
    whole = gated(x, table, stretches)
    gated.gate_proj = gate
    gate.weight.zero_()
    torch.testing.assert_close(gated(x, table, stretches), whole / 2)
    gate.weight[1] = -1e3
    gated.o_proj.weight[:, :8] = 0.0
    assert gated(x, table, stretches).abs().max() == 0


def test_the_gate_is_drawn_by_gamma() -> None:
    """Like every other matrix, with the width as its fan-in."""
    model = Decoder(replace(SHAPE, gated_attention=True))
    drawn = {matrix.name: matrix.fan_in for matrix in initialize(model, 0.5).drawn}
    assert drawn["blocks.1.attention.gate_proj.weight"] == 16


@torch.no_grad()
def test_attention_to_the_first_token(model: Decoder) -> None:
    """One share a block, between 0 and 1; of keys that are all alike each gets its equal part."""
    found = model.first_token_attention(tokens(3, 6))
    assert found.shape == (2,)
    assert found.dtype == torch.float32
    assert ((found > 0) & (found < 1)).all()
    for name, parameter in model.named_parameters():
        if "qkv_proj" in name:
            parameter.zero_()
    equal = sum(1 / (query + 1) for query in range(1, 6)) / 5
    torch.testing.assert_close(model.first_token_attention(tokens(3, 6)), torch.full((2,), equal))


@torch.no_grad()
def test_a_sink_is_seen() -> None:
    """Where every later key is the opposite of its query, all attention goes to the first token."""
    model = decoder(Kinds(rotary_base=1e30, rotary_fraction=0.25), depth=1)
    first: Any = model.blocks[0]
    attention = first.attention
    attention.qkv_proj.weight.zero_()
    attention.qkv_proj.weight[0:16] = 50 * torch.eye(16)  # queries are the stream
    attention.qkv_proj.weight[16:32] = -50 * torch.eye(16)  # keys its opposite
    model.embedding.weight[0] = -model.embedding.weight[1]
    group = torch.tensor([[0, 1, 1, 1, 1]])
    assert model.first_token_attention(group)[0] > 0.99


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_feed_forward_has_its_activation(activation: Any) -> None:
    """Ungated, it is down(activation(up(x))), and each activation is what its name says."""
    block: Any = decoder(Kinds(gated=False, activation=activation)).blocks[0]
    layer = block.feed_forward
    x = torch.ones(3, 16)
    expected = layer.down_proj(ACTIVATIONS[activation](layer.up_proj(x)))
    assert torch.equal(layer(x), expected)
    one = float(ACTIVATIONS[activation](torch.tensor(1.0)))
    assert one == pytest.approx(
        {"silu": 0.7311, "gelu": 0.8413, "gelu_tanh": 0.8412}.get(activation, 1.0), abs=1e-4
    )


def test_norms_are_torchs_own(model: Decoder) -> None:
    """So that their inputs and ε can be looked at; each has the ε of the shape."""
    norms = [each for each in model.modules() if "Norm" in type(each).__name__]
    assert norms
    assert all(isinstance(each, nn.RMSNorm | nn.LayerNorm) for each in norms)
    assert {each.eps for each in norms} == {SHAPE.norm_eps}


@pytest.mark.parametrize(
    ("kinds", "reading"),
    [
        (Kinds(), ["blocks.0.attention_norm"]),
        (Kinds(placement="sandwich"), ["blocks.0.attention_norm"]),
        (Kinds(parallel="shared_norm"), ["blocks.0.attention_norm"]),
        (Kinds(parallel="own_norms"), ["blocks.0.attention_norm", "blocks.0.feed_forward_norm"]),
        (Kinds(placement="post"), []),
    ],
)
def test_only_norms_that_read_the_embedding_have_the_first_eps(
    kinds: Kinds, reading: list[str]
) -> None:
    """In the first block, before its layers; with norms that follow none does."""
    model = decoder(kinds, first_norm_eps=0.5)
    found = [name for name, each in model.named_modules() if getattr(each, "eps", None) == 0.5]
    assert found == reading
