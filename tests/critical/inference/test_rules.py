"""The rules: what they choose, what they do with ties and with nothing to choose from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from critical.errors import OptionError
from critical.inference.rules import (
    Array,
    Rule,
    critical_indices,
    middle_argmax,
    parse_rule,
    plateau,
    share,
    verdict,
)

GAMMA = np.linspace(0.3, 1.2, 91)


def bump(centre: float, width: float = 0.3) -> Array:
    """A Gaussian over the grid, 1 at its centre."""
    return np.asarray(np.exp(-(((GAMMA - centre) / width) ** 2)))


def curves(reason: float = 0.9, efficient: float = 0.6) -> tuple[Array, Array]:
    """One draw of R and log₂ ρ with their optima apart. Each of shape (1, g)."""
    return 0.8 * bump(reason)[None], np.log2(bump(efficient))[None]


draws = st.integers(3, 20).flatmap(
    lambda g: st.tuples(
        arrays(np.float64, (4, g), elements=st.just(0.0) | st.floats(1e-9, 1)),
        arrays(np.float64, (4, g), elements=st.floats(-6, 6)),
    )
)
rules = st.sampled_from([Rule("balance"), Rule("knee"), Rule("floor", 0.95)])


@pytest.mark.parametrize("text", ["balance", "knee", "floor=0.95"])
def test_a_rule_is_written_as_it_is_read(text: str) -> None:
    """Every rule of the command line survives the round trip."""
    assert str(parse_rule(text)) == text


@pytest.mark.parametrize("text", ["best", "balance=2", "floor", ""])
def test_an_unknown_rule_says_what_to_write(text: str) -> None:
    """The message quotes the input and names the three rules."""
    with pytest.raises(OptionError, match=rf"'{text}'.*balance, knee or floor=0.95"):
        parse_rule(text)


@pytest.mark.parametrize("text", ["floor=x", "floor=0", "floor=-1", "floor=inf", "floor="])
def test_a_floor_that_is_no_efficiency_is_refused(text: str) -> None:
    """A floor is a positive, finite ρ."""
    with pytest.raises(OptionError, match=rf"'{text}' needs a positive efficiency"):
        parse_rule(text)


@given(draws)
def test_share_lies_between_none_and_all(found: tuple[Array, Array]) -> None:
    """No γ keeps more than all of the best, or less than nothing."""
    kept = share(*found)
    assert kept.min() >= 0
    assert kept.max() <= 1


@given(draws, st.floats(0.1, 1.0), st.integers(-3, 3))
def test_balance_does_not_depend_on_the_units_of_its_objectives(
    found: tuple[Array, Array], factor: float, octaves: int
) -> None:
    """Scaling R, or comparing with another reference, changes no share."""
    reasoning, efficiency = found
    changed = share(factor * reasoning, efficiency + octaves)
    np.testing.assert_allclose(changed, share(reasoning, efficiency), rtol=1e-9, atol=1e-300)


@given(draws, rules)
def test_every_rule_chooses_on_the_grid(found: tuple[Array, Array], rule: Rule) -> None:
    """Whatever the draws, γ* is one of the grid's points."""
    indices = critical_indices(rule, *found)
    assert indices.shape == (4,)
    assert indices.min() >= 0
    assert indices.max() < found[0].shape[1]


@given(draws)
def test_the_knee_is_on_the_front(found: tuple[Array, Array]) -> None:
    """No grid point is strictly better than the knee in both."""
    reasoning, efficiency = found
    at = critical_indices(Rule("knee"), *found)[:, None]
    knee_r, knee_e = (np.take_along_axis(one, at, axis=1) for one in found)
    assert not np.any((reasoning > knee_r + 1e-9) & (efficiency > knee_e + 1e-9))


def test_balance_lies_where_the_losses_are_equal() -> None:
    """Two equal bumps balance half way between their optima."""
    assert GAMMA[critical_indices(Rule("balance"), *curves())] == pytest.approx([0.75])


def test_knee_and_balance_differ_where_the_curvature_does() -> None:
    """A flat R is given up for a sharp ρ by balance, not by the knee's rescaled extents."""
    reasoning, efficiency = 0.8 * bump(0.9, 1.0)[None], np.log2(bump(0.6, 0.2))[None]
    balance, knee = (
        GAMMA[critical_indices(Rule(name), reasoning, efficiency)][0]
        for name in ("balance", "knee")
    )
    assert balance < 0.66
    assert knee > 0.69


def test_floor_takes_the_most_reasoning_that_is_efficient_enough() -> None:
    """At half the reference's efficiency γ may go further than at all of it."""
    reasoning, efficiency = curves()
    efficiency += 1
    at = [critical_indices(Rule("floor", f), reasoning, efficiency)[0] for f in (1.5, 0.9)]
    assert GAMMA[at[0]] < GAMMA[at[1]] < 0.9
    assert 2.0 ** efficiency[0, at[1]] >= 0.9 > 2.0 ** efficiency[0, at[1] + 1]


def test_floor_out_of_reach_takes_the_most_efficient() -> None:
    """Where nothing reaches the floor, the nearest to it is chosen."""
    assert GAMMA[critical_indices(Rule("floor", 4.0), *curves())] == pytest.approx([0.6])


def test_ties_go_to_their_middle() -> None:
    """A flat top is left neither at its start nor at its end."""
    assert middle_argmax(np.array([[0.0, 1, 1, 1, 0], [1, 1, 1, 1, 1]])).tolist() == [2, 2]


def test_without_any_reasoning_the_choice_is_the_middle() -> None:
    """R = 0 everywhere shares nothing, and prefers no γ."""
    nothing = np.zeros((1, 91))
    assert share(nothing, nothing).max() == 0
    assert critical_indices(Rule("balance"), nothing, nothing).tolist() == [45]


def test_plateau_is_the_contiguous_part_around_the_best() -> None:
    """A second, separate peak does not belong to the plateau of the first."""
    expected = np.array([0.9, 0.5, 0.89, 0.905, 0.9, 0.5])
    assert plateau(np.arange(6.0), expected) == (2.0, 4.0)
    assert plateau(np.arange(3.0), np.ones(3)) == (0.0, 2.0)


def noisy(reason: float, efficient: float, sd: float) -> tuple[Array, Array]:
    """256 draws whose optima are spread by sd."""
    rng = np.random.default_rng(0)
    pairs = [curves(*(np.array([reason, efficient]) + sd * rng.normal(size=2))) for _ in range(256)]
    return np.vstack([r for r, _ in pairs]), np.vstack([e for _, e in pairs])


@pytest.mark.parametrize(
    ("reason", "efficient", "sd", "expected"),
    [
        (0.9, 0.6, 0.02, "resolved"),
        (0.64, 0.6, 0.001, "no tradeoff"),
        (0.8, 0.65, 0.1, "no tradeoff"),
        (1.6, 1.3, 0.02, "one-sided"),
        (0.2, 0.1, 0.02, "one-sided"),
    ],
)
def test_verdict(reason: float, efficient: float, sd: float, expected: str) -> None:
    """Optima apart resolve; near or noisy ones are no tradeoff; beyond the grid is one-sided."""
    found = noisy(reason, efficient, sd)
    stars = GAMMA[critical_indices(Rule("balance"), *found)]
    assert verdict(GAMMA, stars, *found) == expected
