"""Condensation and ranks are what a slow reading of their definitions gives."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from critical.trials.development import (
    CONDENSED,
    MOST_ROWS,
    condensation,
    development,
    named_matrices,
    ranks,
)
from critical.trials.initialization import initialize
from critical.trials.model import Decoder, ModelShape

SIZES = st.integers(2, 7)


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Independent N(0, 1)."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(SIZES, SIZES, st.integers(0, 99), st.floats(1e-6, 1e3))
def test_ranks_by_a_singular_value_decomposition(
    rows: int, columns: int, seed: int, std: float
) -> None:
    """Both ranks of any matrix, whatever its scale, between 1 and its rank."""
    matrix = normal(rows, columns, seed=seed) * std
    sigma = np.linalg.svd(matrix.double().numpy(), compute_uv=False)
    p = sigma / sigma.sum()
    stable, effective = (float(each) for each in ranks(matrix))
    assert stable == pytest.approx((sigma**2).sum() / sigma[0] ** 2, rel=1e-9)
    assert effective == pytest.approx(math.exp(-(p * np.log(p)).sum()), rel=1e-6)
    assert 1 <= stable <= effective * 1.000001 <= min(rows, columns) * 1.00001


@given(st.integers(2, 12), st.integers(1, 4), st.integers(0, 99))
def test_condensation_by_counting_pairs(rows: int, columns: int, seed: int) -> None:
    """The signed cosine similarity of each pair of rows against the threshold."""
    matrix = normal(rows, columns, seed=seed)
    exact = matrix.double().numpy()
    similar = [
        u @ v / np.linalg.norm(u) / np.linalg.norm(v) for u, v in itertools.combinations(exact, 2)
    ]
    if any(abs(value - CONDENSED) < 1e-5 for value in similar):
        return
    share = sum(value > CONDENSED for value in similar) / len(similar)
    assert float(condensation(matrix)) == pytest.approx(share)


def test_matrices_whose_structure_is_known() -> None:
    """Rank one, orthogonal rows, two groups, and opposite directions, which are not alike."""
    one = torch.outer(torch.arange(1.0, 6.0), torch.arange(1.0, 5.0))
    assert [float(each) for each in (condensation(one), *ranks(one))] == pytest.approx([1, 1, 1])
    eye = torch.eye(6)
    assert [float(each) for each in (condensation(eye), *ranks(eye))] == pytest.approx([0, 6, 6])
    groups = torch.tensor([[1.0, 0], [2, 0], [0, 1], [0, 3]])
    assert float(condensation(groups)) == pytest.approx(2 / 6)
    opposite = torch.tensor([[1.0, 2], [-1, -2]])
    assert float(condensation(opposite)) == 0
    assert float(ranks(opposite)[0]) == pytest.approx(1)


def test_an_untrained_matrix_is_not_condensed_whatever_its_gamma() -> None:
    """Neither quantity depends on the scale at which a matrix is drawn."""
    shape = ModelShape(vocabulary=48, width=64, depth=1, heads=2, feed_forward=96)
    found = []
    for gamma in (0.4, 1.1):
        model = Decoder(shape)
        initialize(model, gamma, seed=5)
        found.append({name: float(value) for name, value in development(model).items()})
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    assert found[0]["condensation/0.attention.qkv_proj"] == 0
    assert 10 < found[0]["stable_rank/0.attention.o_proj"] < 64


def test_a_tall_matrix_is_compared_by_some_of_its_rows() -> None:
    """As many as ``MOST_ROWS``, evenly spaced, the first and the last among them."""
    tall = torch.tensor([[1.0, 0.0]] * MOST_ROWS + [[0.0, 1.0]] * 2 * MOST_ROWS)
    assert float(condensation(tall)) == pytest.approx(5 / 9, abs=0.005)
    ends = torch.zeros(MOST_ROWS + 1, MOST_ROWS + 1).fill_diagonal_(1.0)
    ends[-1] = ends[0]
    assert float(condensation(ends)) == pytest.approx(1 / math.comb(MOST_ROWS, 2))


@pytest.mark.parametrize("broken", [0.0, math.nan, math.inf])
def test_what_is_not_known_is_nan(broken: float) -> None:
    """A matrix of zeros or with a number that is not finite, without spoiling its neighbour."""
    both = torch.stack([normal(4, 3), normal(4, 3)])
    both[0] = torch.zeros(4, 3) if broken == 0 else both[0].index_fill(0, torch.tensor(1), broken)
    for values, alone in zip(
        (condensation(both), *ranks(both)), (condensation(both[1]), *ranks(both[1])), strict=True
    ):
        assert math.isnan(values[0])
        assert float(values[1]) == pytest.approx(float(alone), rel=1e-9)
    assert math.isnan(condensation(normal(1, 3)))


def test_every_matrix_has_its_name() -> None:
    """Those of the proxy, in its order, a tied head not again."""
    shape = ModelShape(vocabulary=48, width=8, depth=2, heads=2, feed_forward=16, tied=True)
    parts = {"attention": ("qkv_proj", "o_proj"), "feed_forward": ("gate_up_proj", "down_proj")}
    block = [f"{part}.{name}" for part, names in parts.items() for name in names]
    model = Decoder(shape)
    assert list(named_matrices(model)) == [
        "embedding", *(f"{number}.{name}" for number in range(2) for name in block)
    ]  # fmt: skip
    quantities = ("condensation", "stable_rank", "effective_rank")
    expected = [f"{quantity}/{name}" for quantity in quantities for name in named_matrices(model)]
    assert list(development(model)) == expected


class Conv1D(nn.Module):
    """A matrix stored as (inputs, outputs), as transformers' GPT-2 has it under this name."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.nf = weight.shape[1]
        self.weight = nn.Parameter(weight)


def test_neurons_are_rows_however_they_are_stored() -> None:
    """A Conv1D has the numbers of the Linear layer that does the same, a square one too."""
    matrix = torch.outer(torch.tensor([1.0, -1, 1, 1, -1]), normal(5)) + 0.1 * normal(5, 5, seed=2)
    linear = nn.Linear(5, 5, bias=False)
    linear.weight = nn.Parameter(matrix)
    found = development(nn.ModuleDict({"one": linear, "other": Conv1D(matrix.t().contiguous())}))
    assert float(found["condensation/one"]) > 0
    for quantity in ("condensation", "stable_rank", "effective_rank"):
        assert float(found[f"{quantity}/one"]) == pytest.approx(float(found[f"{quantity}/other"]))


class Experts(nn.Module):
    """Several matrices in one parameter, as transformers stacks experts."""

    def __init__(self, weight: Tensor, *, is_transposed: bool) -> None:
        super().__init__()
        self.is_transposed = is_transposed
        self.down_proj = nn.Parameter(weight)


@pytest.mark.parametrize("is_transposed", [False, True])
def test_a_stack_has_the_mean_over_its_matrices(is_transposed: bool) -> None:
    """Experts in one parameter count alike, whichever way round they are stored."""
    weight = normal(3, 6, 2)
    stored = weight.transpose(1, 2) if is_transposed else weight
    found = development(Experts(stored.contiguous(), is_transposed=is_transposed))
    for quantity, of in (("condensation", condensation), ("stable_rank", lambda m: ranks(m)[0])):
        alone = [float(of(matrix)) for matrix in weight]
        assert sum(alone) > 0
        assert float(found[f"{quantity}/down_proj"]) == pytest.approx(sum(alone) / 3)
