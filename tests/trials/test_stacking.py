"""Stacked models compute what each does alone, and so do their optimizer's steps."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils._python_dispatch import TorchDispatchMode

from critical.trials.averaging import WeightAverage
from critical.trials.batchable import Batchable, rms_norm
from critical.trials.plain_attention import plain_attention, visible_keys
from critical.trials.stack_state import StackState
from critical.trials.stacking import Layout, padded
from critical.trials.training import TrainingRecipe, _optimizer

SIZES = st.integers(1, 4)
UNTIMED = settings(deadline=None)
"""The first call of a kernel takes longer than all others."""


class Kernels(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operation by name."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def drawn(seed: int, *shape: int) -> Tensor:
    """Normal numbers that carry gradients."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).requires_grad_()


@UNTIMED
@given(
    SIZES, SIZES, SIZES, st.integers(1, 9), st.sampled_from(("all", "causal", "masked")),
    st.sampled_from((None, 0.7)),
)  # fmt: skip
def test_attention_of_all_members_at_once(
    members: int, n: int, heads: int, t: int, seen: str, scale: float | None
) -> None:
    """Forward and backward as member by member, and as written out."""
    queries = max(1, t - 2) if seen == "masked" else t
    q = drawn(0, members, n, heads, queries, 4)
    k, v = (drawn(seed, members, n, heads, t, 4) for seed in (1, 2))
    causal = seen == "causal"

    def visible() -> Tensor | None:
        ones = torch.ones(queries, t, dtype=torch.bool)
        return ones.tril(t - queries) if seen == "masked" else None

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mask = visible()
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=scale)

    with Batchable():
        together = vmap(attend)(q, k, v)
    alone = torch.stack([attend(*parts) for parts in zip(q, k, v, strict=True)])
    torch.testing.assert_close(together, alone)
    seen_keys = visible_keys(q, k) if causal else visible()
    torch.testing.assert_close(plain_attention(q, k, v, seen_keys, scale), alone)
    weight = drawn(3, *alone.shape)
    for one, other in zip(
        torch.autograd.grad((together * weight).sum(), (q, k, v)),
        torch.autograd.grad((alone * weight).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_attention_is_one_kernel_for_all_members() -> None:
    """On the CPU, too, where vmap by itself runs it once a member."""
    q = drawn(0, 3, 2, 1, 5, 4)
    with Kernels() as kernels, Batchable():
        vmap(lambda part: F.scaled_dot_product_attention(part, part, part, is_causal=True))(q)
    assert sum("attention" in name for name in kernels.found) == 1


@UNTIMED
@given(st.lists(SIZES, min_size=1, max_size=3), st.floats(1e-12, 1.0), st.booleans())
def test_rms_norm_is_written_out(shape: list[int], eps: float, gain: bool) -> None:
    """As torch's own, with and without a gain."""
    norm = nn.RMSNorm(shape[-1], eps=eps, elementwise_affine=gain)
    x = drawn(0, *shape)
    with Batchable():
        written_out = norm(x)
    torch.testing.assert_close(written_out, norm(x))


@pytest.mark.parametrize("gain", [None, torch.float32, torch.bfloat16])
def test_rms_norm_accumulates_in_float32(gain: torch.dtype | None) -> None:
    """As the fused one does with bfloat16, as under autocast; the type of the input is kept."""
    x = drawn(0, 20, 64).bfloat16()
    weight = None if gain is None else drawn(1, 64).to(gain)
    expected = F.rms_norm(x.float(), (64,), None if weight is None else weight.float(), 1e-6)
    found = rms_norm(x, (64,), weight, 1e-6)
    assert torch.equal(found, expected.bfloat16())


def test_a_layout_takes_a_model_apart_and_puts_it_together() -> None:
    """Every parameter once, a tied one too, matrices before all others; views, no copies."""
    model = nn.Sequential(nn.Embedding(5, 3), nn.RMSNorm(3), nn.Linear(3, 5))
    model[2].weight = model[0].weight
    layout = Layout(model)
    row = layout.row(model)
    assert row.shape == (1, 15 + 3 + 5)
    assert layout.matrices == 15
    parts = layout.parameters(row)
    assert list(parts) == ["0.weight", "1.weight", "2.bias"]
    for name, parameter in model.named_parameters():
        assert torch.equal(parts[name][0], parameter)
        assert parts[name].untyped_storage().data_ptr() == row.untyped_storage().data_ptr()
    layout.load(model, row + 1)
    assert torch.equal(layout.row(model), row + 1)


def test_steps_leave_alone_what_requires_no_gradient() -> None:
    """A frozen matrix neither decays nor follows a gradient that would reach it."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5))
    model[0].weight.requires_grad_(False)
    layout = Layout(model)
    assert layout.matrices == 20
    state = StackState.fresh(layout.row(model), 0.1)
    before = layout.row(model)
    weights = state.weights.detach().requires_grad_()
    parts = {name: part[0] for name, part in layout.parameters(weights).items()}
    loss = functional_call(model, parts, (torch.ones(2, 3),)).square().sum()
    (gradient,) = torch.autograd.grad(loss, weights)
    state.advance(gradient, 1, TrainingRecipe(None, {"reasoning": 1.0}), layout.matrices)
    first, now = layout.parameters(before), layout.parameters(state.weights)
    assert {name for name in first if torch.equal(first[name], now[name])} == {"0.weight"}


@UNTIMED
@given(st.integers(1, 4), st.integers(0, 3))
def test_padding_repeats_the_first_row(rows: int, more: int) -> None:
    """And leaves the others where they are."""
    given_rows = drawn(0, rows, 2)
    found = padded(given_rows, rows + more)
    assert torch.equal(found[:rows], given_rows)
    assert torch.equal(found[rows:], given_rows[:1].expand(more, 2))


MAGNITUDES = st.lists(st.sampled_from((0.0, 1e-6, 1e-3, 0.1, 1.0, 1e3)), min_size=3, max_size=3)


@UNTIMED
@given(MAGNITUDES, st.integers(0, 4), st.lists(st.floats(1e-4, 0.1), min_size=3, max_size=3))
def test_steps_are_those_of_torch(magnitudes: list[float], warmup: int, rates: list[float]) -> None:
    """Clipped by each member's own norm, AdamW at its own rate, and averaged; a few steps."""
    recipe = TrainingRecipe(None, {"reasoning": 1.0}, warmup_steps=warmup)
    models = [nn.Sequential(nn.Linear(3, 4), nn.RMSNorm(4)) for _ in magnitudes]
    layout = Layout(models[0])
    optimizers = [_optimizer(recipe, m, r) for m, r in zip(models, rates, strict=True)]
    averages = [WeightAverage(model) for model in models]
    state = StackState.joined(
        [StackState.fresh(layout.row(m), r) for m, r in zip(models, rates, strict=True)]
    )
    for step in range(1, 6):
        gradients = torch.cat(
            [m * drawn(10 * step + i, 1, 20).detach() for i, m in enumerate(magnitudes)]
        )
        parts = layout.parameters(gradients.clone())
        for row, (model, optimizer, rate) in enumerate(zip(models, optimizers, rates, strict=True)):
            for name, parameter in model.named_parameters():
                parameter.grad = parts[name][row].clone()
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, step / max(1, warmup))
            optimizer.step()
            averages[row].update(step)
        state.advance(gradients, step, recipe, layout.matrices)
    for row, model in enumerate(models):
        names = [name for name, _ in model.named_parameters()]
        own = dict(zip(names, averages[row].tensors, strict=True))
        found = state.named(layout, row, 5)
        for name, parameter in model.named_parameters():
            moments = optimizers[row].state[parameter]
            assert_near(found[f"weight/{name}"], parameter.detach())
            assert_near(found[f"average/{name}"], own[name])
            for kind in ("step", "exp_avg", "exp_avg_sq"):
                assert_near(found[f"{kind}/{name}"], moments[kind])


def assert_near(found: Tensor, expected: Tensor) -> None:
    """To within roundings."""
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("poison", [math.nan, math.inf, 1e30])
def test_a_member_that_is_not_finite_spoils_no_other(poison: float) -> None:
    """Its gradient's norm clips its own row only."""
    recipe = TrainingRecipe(None, {"reasoning": 1.0})
    gradients = drawn(0, 2, 6).detach()
    alone = StackState.fresh(torch.ones(1, 6), 1e-2)
    alone.advance(gradients[1:].clone(), 1, recipe, 6)
    fresh = [StackState.fresh(torch.ones(1, 6), 1e-2) for _ in range(2)]
    both = StackState.joined(fresh)
    gradients[0, 3] = poison
    both.advance(gradients, 1, recipe, 6)
    assert torch.equal(both.weights[1:], alone.weights)
    assert torch.equal(both.averages[1:], alone.averages)
