"""Matrices of many blocks put together, and draws that are cut."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import truncnorm

from critical.frameworks.blocks import merged
from critical.frameworks.truncation import kept
from critical.targets.layout import Matrix


def _matrix(name: str, std: float, fan_in: int = 8) -> Matrix:
    return Matrix(name, 1, (4, fan_in), fan_in, "attention", std)


def test_blocks_that_draw_alike_are_one() -> None:
    """Three blocks of one std are a name with a star."""
    found = merged(_matrix(f"layers.{number}.wo.weight", 0.02) for number in range(3))
    assert [(each.name, each.count) for each in found] == [("layers.*.wo.weight", 3)]


def test_blocks_of_other_stds_keep_their_numbers() -> None:
    """A star stands for one std, so that depth-scaled blocks are listed one by one."""
    names = [f"h.{block}.experts.{expert}.proj" for block in range(2) for expert in range(3)]
    found = merged(_matrix(name, 0.1 / (1 + int(name[2]))) for name in names)
    assert [(each.name, each.count) for each in found] == [
        ("h.0.experts.*.proj", 3),
        ("h.1.experts.*.proj", 3),
    ]


def test_blocks_in_groups_keep_every_number() -> None:
    """Where the second number is the block's, the first alone would stand for several stds."""
    found = merged([_matrix("groups.0.0.wo", 0.1), _matrix("groups.0.1.wo", 0.2)])
    assert [each.name for each in found] == ["groups.0.0.wo", "groups.0.1.wo"]


def test_blocks_of_other_shapes_are_kept_apart() -> None:
    """One name may have two shapes, each with its own fan-in."""
    found = merged([_matrix("b.0.w", 0.1), _matrix("b.1.w", 0.1, 16), _matrix("b.2.w", 0.1)])
    assert [(each.name, each.fan_in, each.count) for each in found] == [
        ("b.*.w", 8, 2),
        ("b.*.w", 16, 1),
    ]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0.1, 0.2])), min_size=1))
def test_merging_keeps_every_matrix_and_its_std(drawn: list[tuple[int, float]]) -> None:
    """Counts add up, std by std, whatever the order."""
    found = merged(_matrix(f"layers.{number}.w", std) for number, std in drawn)
    for std in (0.1, 0.2):
        assert sum(each.count for each in found if each.configured_std == std) == sum(
            1 for _, given_std in drawn if given_std == std
        )


@pytest.mark.parametrize("cut", [0.05, 0.5, 1.0, 2.0, 3.0, 4.5, 100.0])
def test_a_cut_normal_is_as_narrow_as_scipy_says(cut: float) -> None:
    """√(1 − 2cφ(c)/(2Φ(c) − 1)), against scipy's truncated normal."""
    assert kept(cut) == pytest.approx(truncnorm(-cut, cut).std(), rel=1e-7)


def test_a_cut_at_3_is_the_constant_and_no_cut_is_1() -> None:
    """The number that frameworks are told by, and a whole normal."""
    assert kept(3.0) == pytest.approx(0.9865783925581086, rel=1e-12)
    assert kept(None) == 1.0


@settings(deadline=None)
@given(st.floats(1e-6, 50))
def test_a_cut_normal_is_narrower_than_a_whole_and_than_a_uniform_one(cut: float) -> None:
    """Its density falls off, so that it is narrower than U(−c, c), whose std is c/√3."""
    assert 0 < kept(cut) <= min(1.0, cut / math.sqrt(3)) * (1 + 1e-4)
