"""The surrogate: what it recovers, what it is robust to, and that it is deterministic."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from critical.inference import surrogate
from critical.inference.gaussian_process import Fit, draw, fit
from critical.inference.noisy_process import ALONE, Data, Process
from critical.inference.objectives import Observation
from critical.inference.surrogate import Draws, Surrogate, draw_surfaces, fit_surrogate, inputs

Within = Callable[[float], AbstractContextManager[None]]

GRID = np.linspace(0.4, 1.1, 29)


def observation(gamma: float, seed: int = 0, width: int = 64, **changes: float) -> Observation:
    """A noise-free run: R peaks at 0.9, ρ at 0.6, log loss at 0.6."""
    made = Observation(
        gamma=gamma,
        learning_rate=None,
        width=width,
        settings="target",
        seed=seed,
        reference=False,
        reasoning=0.7 * float(np.exp(-(((gamma - 0.9) / 0.35) ** 2))),
        log2_efficiency=-8 * (gamma - 0.6) ** 2 + 8 * 0.01,
        log_loss=4 * (gamma - 0.6) ** 2,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def design(count: int, seeds: int = 3, sd: float = 0.0, width: int = 64) -> list[Observation]:
    """Runs spread over γ with seed effects and noise of that sd."""
    rng = np.random.default_rng(1)
    shift = sd * rng.standard_normal((seeds, 2))
    made = []
    for index, gamma in enumerate(rng.uniform(0.4, 1.1, count)):
        one, noise = observation(gamma, index % seeds, width), sd / 2 * rng.standard_normal(2)
        of_r, of_rho = shift[index % seeds] + noise
        score = float(np.clip(one.reasoning + 0.3 * of_r, 0, 1))
        made.append(
            replace(one, reasoning=score, log2_efficiency=one.log2_efficiency + float(of_rho))
        )
    return made


def drawn(found: Surrogate, width: int = 64, count: int = 256, rate: float = np.nan) -> Draws:
    """Draws over ``GRID``."""
    at = inputs(GRID, np.full(GRID.size, rate), np.full(GRID.size, float(width)))
    return draw_surfaces(found, at, count, np.random.default_rng(2))


def fitted(observations: list[Observation]) -> Surrogate:
    """A surrogate with a fixed generator."""
    return fit_surrogate(observations, np.random.default_rng(0))


def test_curves_without_noise_are_recovered() -> None:
    """Thirty exact runs give R to 0.02 and log₂ ρ to 0.05 octaves."""
    found, truth = drawn(fitted(design(30))), [observation(g) for g in GRID]
    reasoning = np.median(found.reasoning, axis=0)
    efficiency = np.median(found.log2_efficiency, axis=0)
    assert np.abs(reasoning - [one.reasoning for one in truth]).max() < 0.02
    assert np.abs(efficiency - [one.log2_efficiency for one in truth]).max() < 0.05


def test_reasoning_is_a_proportion_and_efficiency_is_bounded() -> None:
    """Even where three runs say little, no draw leaves the objectives' ranges."""
    found = drawn(fitted(design(3)))
    assert found.reasoning.min() >= 0
    assert found.reasoning.max() <= 1
    assert np.abs(found.log2_efficiency).max() <= 6


def test_an_outlier_does_not_carry_the_curve_away() -> None:
    """One run of thirty that failed to reason at the optimum costs R there under 0.05."""
    clean = design(30, sd=0.02)
    spoilt = [*clean, observation(0.88, reasoning=0.02)]
    at = int(np.argmin(np.abs(GRID - 0.9)))
    with_it, without = (np.median(drawn(fitted(one)).reasoning[:, at]) for one in (spoilt, clean))
    assert abs(with_it - without) < 0.05


def test_the_seeds_of_a_scale_do_not_average_away() -> None:
    """More runs of two seeds narrow the shape of log₂ ρ, not its level over all seeds."""
    found = drawn(fitted(design(60, seeds=2, sd=0.4))).log2_efficiency
    level, shape = found.mean(axis=1).std(), (found[:, 8] - found[:, 12]).std()
    assert level > 2 * shape


def test_the_same_seeds_at_another_width_are_no_further_seeds() -> None:
    """Forty runs at two widths tell less of R where they are of two seeds than where of four."""
    own = design(20, seeds=2, sd=0.2)
    same = [replace(one, width=96) for one in own]
    others = [replace(one, seed=one.seed + 2) for one in same]
    of_two, of_four = (
        np.arcsin(np.sqrt(drawn(fitted([*own, *more])).reasoning)).std(axis=0).mean()
        for more in (same, others)
    )
    assert of_two > 1.05 * of_four


def test_what_one_seed_has_at_a_gamma_may_be_its_own() -> None:
    """However many runs it has, one seed leaves the height and the place of R's optimum open."""
    found = drawn(fitted(design(60, seeds=1))).reasoning
    best = GRID[found.argmax(axis=1)]
    assert np.quantile(best, 0.95) - np.quantile(best, 0.05) > 0.1
    assert found.max(axis=1).std() > 0.03


def test_the_baseline_is_where_efficiency_is_one() -> None:
    """Baselines pin log₂ ρ to 0 at the reference, however many there are."""
    reference = [
        observation(0.5, seed, baseline=True, reference=True, log2_efficiency=0.0)
        for seed in range(3)
    ]
    found = fitted([*design(20, sd=0.1), *reference])
    at = int(np.argmin(np.abs(GRID - 0.5)))
    assert np.abs(drawn(found).log2_efficiency[:, at]).max() < 0.05
    assert found.log2_efficiency.data.values.size == 21


def test_a_censored_efficiency_is_trusted_less() -> None:
    """The same doubtful run moves the curve less than a sound one does."""
    at = int(np.argmin(np.abs(GRID - 0.75)))
    odd = observation(0.75, log2_efficiency=1.0)
    sound, censored = (
        np.median(drawn(fitted([*design(12, sd=0.1), one])).log2_efficiency[:, at])
        for one in (odd, replace(odd, censored=True))
    )
    assert censored < sound


def test_divergence_at_the_edge_leaves_the_middle_alone() -> None:
    """Runs that diverge at γ = 0.4 lower the edge and not the optimum."""
    clean = [one for one in design(30, sd=0.02) if one.gamma > 0.5]
    lost = [
        observation(0.4, seed, reasoning=0.0, log2_efficiency=-6.0, log_loss=1.4, diverged=True)
        for seed in range(3)
    ]
    before, after = drawn(fitted(clean)), drawn(fitted([*clean, *lost]))
    at = int(np.argmin(np.abs(GRID - 0.7)))
    moved = np.median(after.log2_efficiency[:, at]) - np.median(before.log2_efficiency[:, at])
    assert abs(moved) < 0.05
    assert np.median(after.reasoning[:, 0]) < 0.02


def test_a_sparse_scale_learns_from_a_dense_one() -> None:
    """Four runs at width 128 are surer about the shape beside thirty at width 64."""
    few = design(4, seeds=2, sd=0.05, width=128)
    together = drawn(fitted([*design(30, sd=0.05), *few]), 128).reasoning.std(axis=0)
    alone = drawn(fitted(few), 128).reasoning.std(axis=0)
    assert together.mean() < 0.7 * alone.mean()


def test_learning_rates_are_told_apart() -> None:
    """A rung with twice the loss is drawn with twice the loss."""
    slow = [replace(one, learning_rate=1e-4, log_loss=one.log_loss + 0.69) for one in design(15)]
    fast = [replace(one, learning_rate=1e-3) for one in design(15)]
    found = fitted([*slow, *fast])
    gap = drawn(found, rate=1e-4).log_loss - drawn(found, rate=1e-3).log_loss
    assert np.median(gap) == pytest.approx(0.69, abs=0.05)


def test_the_order_of_observations_does_not_matter() -> None:
    """Shuffled observations give the same draws, digit for digit."""
    ordered = design(15, sd=0.1)
    shuffled = random.Random(0).sample(ordered, len(ordered))
    np.testing.assert_array_equal(
        drawn(fitted(ordered)).reasoning, drawn(fitted(shuffled)).reasoning
    )


def test_identical_observations_do_not_break_the_factorization() -> None:
    """A constant output, replicated, has a posterior at that constant."""
    same = [observation(g, reasoning=0.3) for g in (0.5, 0.5, 0.5, 0.7, 0.9)]
    found = drawn(fitted(same)).reasoning
    assert np.median(found, axis=0) == pytest.approx(np.full(GRID.size, 0.3), abs=0.01)


def test_some_of_many_observations_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty of 200 cover every seed and γ, keep the baselines, and give nearly the same curve."""
    reference = [
        observation(0.5, seed, baseline=True, reference=True, log2_efficiency=0.0)
        for seed in range(3)
    ]
    many = [*design(200, sd=0.05), *reference]
    whole = drawn(fitted(many)).reasoning
    monkeypatch.setattr(surrogate, "MOST", 30)
    found = fitted(many)
    data = found.reasoning.data
    assert 30 <= data.values.size <= 33
    assert set(data.group) == {0, 1, 2}
    assert np.ptp(data.points) > 0.65
    assert np.median(drawn(found).reasoning, axis=0) == pytest.approx(
        np.median(whole, axis=0), abs=0.03
    )
    at = int(np.argmin(np.abs(GRID - 0.5)))
    assert np.abs(drawn(found).log2_efficiency[:, at]).max() < 0.05


def test_hyperparameters_are_kept_until_the_data_have_grown_by_a_tenth() -> None:
    """One run more keeps θ and reweights; ten more of forty find it anew."""
    all_runs, rng = design(50, sd=0.1), np.random.default_rng(0)
    first = fit_surrogate(all_runs[:40], rng)
    second = fit_surrogate(all_runs[:41], rng, first)
    third = fit_surrogate(all_runs, rng, second)
    assert second.reasoning.theta is first.reasoning.theta
    assert second.reasoning.weights.size == 41
    assert (second.reasoning.fitted, third.reasoning.fitted) == (40, 50)
    np.testing.assert_allclose(
        np.median(drawn(third).reasoning, axis=0),
        np.median(drawn(fitted(all_runs)).reasoning, axis=0),
        atol=0.03,
    )


def test_another_input_starts_the_fit_anew() -> None:
    """A second width adds an input; the earlier hyperparameters do not fit it."""
    first = fit_surrogate(design(20), np.random.default_rng(0))
    both = [*design(20), *design(5, width=128)]
    second = fit_surrogate(both, np.random.default_rng(0), first)
    assert (first.varying, second.varying) == ((0,), (0, 2))


def test_the_callers_threads_are_left_as_they_were() -> None:
    """Fitting on one thread is not a lasting setting."""
    before = torch.get_num_threads()
    fitted(design(5))
    assert torch.get_num_threads() == before


def test_sixty_observations_take_well_under_seconds(within: Within) -> None:
    """Three outputs at sixty runs, draws included; the bound is ten times what is measured."""
    with within(3):
        drawn(fitted(design(60, sd=0.1)))


def process(noise: Callable[[np.random.Generator, int], np.ndarray]) -> Fit:
    """A fit of one smooth curve at 80 points with the noise given."""
    rng = np.random.default_rng(3)
    x = rng.uniform(0, 1, 80)
    y = np.sin(5 * x) + noise(rng, 80)
    level, group = np.zeros(80, dtype=np.int64), np.full(80, ALONE)
    lengthscales = np.array([[0.27, 0.35]])
    data = Data(x[:, None], y, level, group, np.ones(80), lengthscales, np.array([0.2]))
    return fit(data, rng, 8)


def test_the_process_is_a_normal_density_and_knows_its_gradient() -> None:
    """The value is the multivariate normal's, and the gradient its finite differences."""
    rng = np.random.default_rng(4)
    level, group = rng.integers(0, 2, 30), rng.integers(-1, 3, 30)
    data = Data(
        rng.uniform(0, 1, (30, 2)), rng.standard_normal(30), level, group,
        rng.uniform(1, 9, 30), np.array([(0.3, 0.5), (1.6, 0.5)]), np.array([0.2, 0.5]),
    )  # fmt: skip
    process, weights = Process(data, 0.0, 1.0), rng.uniform(0.2, 1.2, 30)
    theta = process.prior_mean + 0.3 * rng.standard_normal(6)
    value, gradient = process.evaluate(theta, weights)
    factor = process.factor(theta, torch.from_numpy(weights)).numpy()
    density = multivariate_normal(np.zeros(30), factor @ factor.T).logpdf(data.values)
    assert value == pytest.approx(-density - 15 * np.log(2 * np.pi), abs=1e-6)
    steps = 1e-5 * np.eye(6)
    ends = [[process.evaluate(theta + way * s, weights)[0] for s in steps] for way in (1, -1)]
    assert gradient == pytest.approx((np.array(ends[0]) - ends[1]) / 2e-5, abs=1e-6)


def test_noise_is_found_by_the_process() -> None:
    """Normal noise of sd 0.1 is found within a third."""
    found = process(lambda rng, n: 0.1 * rng.standard_normal(n))
    assert found.scale * np.exp(found.mode[1]) == pytest.approx(0.1, rel=0.35)


def test_outliers_lose_their_weight() -> None:
    """Five observations far off weigh a fraction of the others."""

    def spoilt(rng: np.random.Generator, n: int) -> np.ndarray:
        return 0.05 * rng.standard_normal(n) + np.where(np.arange(n) < 5, 1.0, 0.0)

    found = process(spoilt)
    assert found.weights[:5].max() < 0.2 < np.median(found.weights[5:])


def test_draws_of_the_process_have_its_mean_and_spread() -> None:
    """With zero normals the mean comes back, and far from the data the spread is the prior's."""
    found = process(lambda rng, n: 0.02 * rng.standard_normal(n))
    at = np.array([[0.5], [9.0]])
    level = np.zeros(2, dtype=np.int64)
    mean = draw(found, at, level, np.zeros((8, 2)))
    normals = np.random.default_rng(0).standard_normal((800, 2))
    spread = draw(found, at, level, normals).std(axis=0)
    assert mean[:, 0] == pytest.approx(np.full(8, np.sin(2.5)), abs=0.05)
    assert spread[0] < 0.05
    assert spread[1] > 0.5


def test_a_width_that_was_not_run_is_drawn_with_its_own_level() -> None:
    """Between two scales the curve is drawn, and is less certain than at either."""
    found = fitted([*design(20, sd=0.05), *design(20, sd=0.05, width=256)])
    spread = [drawn(found, width).log2_efficiency.std(axis=0).mean() for width in (64, 128, 256)]
    assert spread[1] > 2 * max(spread[0], spread[2])
