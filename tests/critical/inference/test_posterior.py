"""The posterior of γ* per scale and at the target, against surfaces whose γ* is known."""

from __future__ import annotations

import importlib.util
import random
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from critical.inference.extrapolation import TrendPrior, gamma_at, regress, truncate
from critical.inference.objectives import Curve, Run, efficiency
from critical.inference.posterior import PosteriorSpec, compute, infer
from critical.inference.rules import Rule
from critical.storage.records import Band, GammaStar, PosteriorRecord, ScalePosterior
from critical.trials import ProxyRun, Scale

ROOT = Path(__file__).parents[3]
SPEC = PosteriorSpec((0.3, 1.2), 0.5)


def load(path: str) -> ModuleType:
    """A file of the repository as a module, as ``--trainable FILE.py:NAME`` loads one."""
    name = Path(path).stem
    if name not in sys.modules:
        found = importlib.util.spec_from_file_location(name, ROOT / path)
        assert found is not None
        assert found.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(found)
        found.loader.exec_module(sys.modules[name])
    return sys.modules[name]


example = load("examples/analytic_trial.py")
calibration = load("benchmarks/posterior_calibration.py")


def analytic(gamma: float, seed: int, width: int = 64) -> Run:
    """One run of the example's trial."""
    proxy = ProxyRun(gamma, None, Scale(width, 2, 2, 1_000_000), seed)
    rows = [(one.tokens, one.loss, one.reasoning) for one in example.train(proxy)]
    tokens, loss, reasoning = np.array(rows, dtype=np.float64).T
    return Run(gamma, None, width, "target", seed, gamma == 0.5, Curve(tokens, loss, reasoning))


@cache
def searched(widths: tuple[int, ...] = (64, 128), count: int = 16) -> tuple[Run, ...]:
    """References of two seeds and that many further runs of the example at each width."""
    gammas = 0.3 + 0.9 * (np.arange(count) * 0.618 % 1)
    return tuple(
        analytic(float(gamma), index % 2, width)
        for width in widths
        for index, gamma in enumerate([0.5, 0.5, *gammas])
    )


@cache
def posterior(target_width: int | None = None) -> PosteriorRecord:
    """The posterior of ``searched``."""
    spec = replace(SPEC, target_width=target_width)
    return compute(searched(), spec, np.random.default_rng(0))


def test_the_examples_efficiency_is_its_speed() -> None:
    """The paired runs of the example have ρ = speed(γ) / speed(reference)."""
    found = efficiency(analytic(0.7, 1).curve, analytic(0.5, 1).curve).log2
    expected = np.log2(example.speed(0.7, 64) / example.speed(0.5, 64))
    assert found == pytest.approx(expected, abs=0.15)


def test_the_examples_trial_keeps_the_contract() -> None:
    """Thirty measurements at least, growing tokens, R in [0, 1], the same again for a seed."""
    first, again = analytic(0.8, 2).curve, analytic(0.8, 2).curve
    assert first.tokens.size >= 30
    assert np.diff(first.tokens).min() > 0
    assert 0 <= first.reasoning.min() <= first.reasoning.max() <= 1
    np.testing.assert_array_equal(first.loss, again.loss)


@pytest.mark.parametrize("scale", [0, 1])
def test_the_example_gives_back_its_critical_gamma(scale: int) -> None:
    """Eighteen runs a width bring the median within 0.03 and the truth into the interval."""
    found = posterior().scales[scale]
    star, true = found.gamma_star, example.critical_gamma(found.width)
    assert star.median == pytest.approx(true, abs=0.03)
    assert star.low - 0.01 <= true <= star.high + 0.01
    assert star.plateau[0] <= star.median <= star.plateau[1]
    assert star.verdict == "resolved"
    assert star.share > 0.6


def test_a_record_holds_what_the_pages_draw() -> None:
    """A grid of step 0.01 at most, ordered bands over it, 256 draws on it."""
    for scale in posterior().scales:
        gamma = np.array(scale.gamma)
        assert np.diff(gamma).max() <= 0.01 + 1e-9
        assert (len(scale.draws), scale.trials, scale.learned) == (256, 18, True)
        assert gamma[0] <= min(scale.draws) <= max(scale.draws) <= gamma[-1]
        for band in (scale.reasoning, scale.log2_efficiency, scale.share):
            rows = np.array([band.low, band.median, band.high])
            assert rows.shape == (3, gamma.size)
            assert np.all(np.diff(rows, axis=0) >= 0)
        assert 0 <= min(scale.share.low) <= max(scale.share.high) <= 1
        assert set(scale.learning_rate) == {None}


def test_the_example_beats_its_reference_in_both() -> None:
    """At γ* the example reasons better and learns faster than at 0.5."""
    assert [scale.better > 0.95 for scale in posterior().scales] == [True, True]


def test_the_order_of_runs_does_not_matter() -> None:
    """Shuffled runs give the same record."""
    shuffled = random.Random(0).sample(searched(), len(searched()))
    assert compute(shuffled, SPEC, np.random.default_rng(0)) == posterior()


def test_an_inference_is_carried_over() -> None:
    """One run more keeps the hyperparameters and moves γ* little."""
    rng = np.random.default_rng(0)
    first = infer(searched(), SPEC, rng)
    second = infer([*searched(), analytic(0.77, 1)], SPEC, rng, first)
    kept = second.surrogates["target"].reasoning
    assert kept.theta is first.surrogates["target"].reasoning.theta
    moved = second.record.scales[0].gamma_star.median - first.record.scales[0].gamma_star.median
    assert abs(moved) < 0.02


def test_few_runs_still_have_a_posterior() -> None:
    """Three different γ are enough for a wide interval; two are not."""
    runs = [analytic(gamma, 0) for gamma in (0.5, 0.7, 0.9)]
    found = compute(runs, SPEC, np.random.default_rng(0))
    assert (found.scales[0].gamma[0], found.scales[0].gamma[-1]) == (0.5, 0.9)
    fewer = compute(runs[:2], SPEC, np.random.default_rng(0))
    assert (fewer.scales, fewer.target, fewer.trials) == ((), None, 2)


def test_no_runs_have_an_empty_posterior() -> None:
    """Before the first result there is a record with nothing in it."""
    found = compute([], SPEC, np.random.default_rng(0))
    assert (found.trials, found.scales, found.intercept, found.target) == (0, (), (), None)
    assert gamma_at(found, 512, (0.3, 1.2), np.random.default_rng(0)) is None


def test_a_search_that_stops_short_of_the_optimum_is_one_sided() -> None:
    """Where every run lies below γ*, the draws pile up at the bracket's end."""
    runs = [run for run in searched((64,)) if run.gamma <= 0.68]
    found = compute(runs, SPEC, np.random.default_rng(0))
    assert found.scales[0].gamma_star.verdict == "one-sided"


def test_every_other_rule_is_applied_to_the_draws() -> None:
    """A low floor on ρ allows a larger γ than balance."""
    spec = replace(SPEC, rule=Rule("floor", 0.7))
    found = compute(searched(), spec, np.random.default_rng(0))
    assert found.scales[0].gamma_star.median > posterior().scales[0].gamma_star.median + 0.03


def test_diverged_runs_keep_gamma_star_and_are_not_counted() -> None:
    """Divergence at the small end belongs to the bracket, not to the completed trials."""
    empty = Curve(np.empty(0), np.empty(0), np.empty(0))
    lost = [replace(analytic(0.3, seed), curve=empty, diverged=True) for seed in (0, 1)]
    found = compute([*searched((64,)), *lost], SPEC, np.random.default_rng(0)).scales[0]
    assert found.trials == 18
    assert found.gamma_star.median == pytest.approx(example.critical_gamma(64), abs=0.04)


def with_rate(run: Run, rate: float, speed: float, gain: float) -> Run:
    """The run at another learning rate: so many times faster, with so much more R."""
    moved = replace(
        run.curve, tokens=run.curve.tokens / speed, reasoning=run.curve.reasoning * gain
    )
    return replace(run, learning_rate=rate, curve=replace(moved, loss=run.curve.loss / speed))


def test_the_rung_is_chosen_by_loss_and_never_by_reasoning() -> None:
    """A rate that reasons better but learns worse is not taken, at any γ."""
    fast = [with_rate(run, 1e-3, 1.0, 0.8) for run in searched((64,))]
    slow = [with_rate(run, 3e-4, 0.5, 1.0) for run in searched((64,))]
    spec = replace(SPEC, ladder=(3e-4, 1e-3))
    found = compute([*fast, *slow], spec, np.random.default_rng(0))
    assert set(found.scales[0].learning_rate) == {1e-3}
    assert found.conditional_on_learning_rate is None
    alone = compute(fast, replace(SPEC, ladder=(1e-3,)), np.random.default_rng(0))
    assert alone.conditional_on_learning_rate == 1e-3
    assert found.scales[0].gamma_star.median == pytest.approx(
        alone.scales[0].gamma_star.median, abs=0.03
    )
    assert max(found.scales[0].reasoning.median) == pytest.approx(
        max(alone.scales[0].reasoning.median), abs=0.04
    )


def test_without_a_target_the_widest_scale_stands_for_it() -> None:
    """γ* is that scale's own, with its own draws and nothing extrapolated."""
    found, widest = posterior(), posterior().scales[-1]
    assert found.target is not None
    assert (found.target.width, found.target.draws) == (128, widest.draws)
    assert found.target.gamma_star == widest.gamma_star
    assert (found.target.truncated, found.target.prior_dominated) == (0.0, False)


def test_scales_that_have_not_learned_take_no_part() -> None:
    """Accuracy under 0.9 keeps a scale on the page and out of the extrapolation."""
    runs = []
    for run in searched():
        accuracy = np.full(run.curve.tokens.size, 0.95 if run.width == 128 else 0.4)
        runs.append(replace(run, curve=replace(run.curve, trained_accuracy=accuracy)))
    found = compute(runs, replace(SPEC, target_width=512), np.random.default_rng(0))
    assert [scale.learned for scale in found.scales] == [False, True]
    assert found.centre_width == pytest.approx(128)
    assert found.holdout is None
    hopeless = replace(SPEC, learned_loss=1e-9)
    assert compute(runs, hopeless, np.random.default_rng(0)).target is None


def test_each_settings_is_carried_to_the_target_by_its_own_scales() -> None:
    """The first is the record's own; what the others found changes nothing of it."""
    moved = [replace(run, settings="relaxed", gamma=run.gamma + 0.1) for run in searched()]
    spec = replace(SPEC, target_width=256, settings=("target", "relaxed"))
    found = compute([*searched(), *moved], spec, np.random.default_rng(0))
    assert [own.settings for own in found.answers] == ["target", "relaxed"]
    assert found.settings == "target"
    target, relaxed = (own.target for own in found.answers)
    assert target is not None
    assert relaxed is not None
    assert relaxed.gamma_star.median - target.gamma_star.median == pytest.approx(0.1, abs=0.03)
    alone = posterior(256).target
    assert alone is not None
    assert target.gamma_star.median == pytest.approx(alone.gamma_star.median, abs=0.02)
    rng = np.random.default_rng(1)
    wide = gamma_at(found, 4096, SPEC.interval, rng, "relaxed")
    assert wide is not None
    assert wide.gamma_star.median == pytest.approx(relaxed.gamma_star.median, abs=0.04)


def test_settings_without_a_scale_that_learned_say_nothing_of_the_target() -> None:
    """The others do, whatever they are called."""
    spec = replace(SPEC, settings=("strange", "target"))
    found = compute(searched((64,)), spec, np.random.default_rng(0))
    assert (found.settings, found.target) == ("strange", None)
    assert gamma_at(found, 512, SPEC.interval, np.random.default_rng(0)) is None
    assert gamma_at(found, 512, SPEC.interval, np.random.default_rng(0), "target") is not None


def test_the_interval_widens_with_the_distance() -> None:
    """Each octave beyond the scales adds the slope's uncertainty."""
    rng = np.random.default_rng(0)
    found = [gamma_at(posterior(2048), width, (0.3, 1.2), rng) for width in (128, 512, 8192)]
    widths = [one.gamma_star.high - one.gamma_star.low for one in found if one is not None]
    assert widths == sorted(widths)
    assert widths[2] > 2 * widths[0]


def test_the_target_is_extrapolated_and_says_on_what_it_rests() -> None:
    """Two octave-wide scales and five octaves to go: the slope's prior decides the interval."""
    target = posterior(4096).target
    assert target is not None
    star, holdout = target.gamma_star, posterior(4096).holdout
    assert star.low < example.critical_gamma(4096) < star.high
    assert target.prior_dominated
    assert target.doubled[1] - target.doubled[0] > star.high - star.low
    assert star.plateau[0] <= star.median <= star.plateau[1]
    assert holdout is not None
    assert holdout.width == 128
    assert holdout.predicted.low < holdout.found.median < holdout.predicted.high


def scale_at(width: int, draws: np.ndarray) -> ScalePosterior:
    """A scale with those draws of γ* and flat curves."""
    flat = Band((0.5, 0.5), (0.5, 0.5), (0.5, 0.5))
    star = GammaStar(0.7, 0.6, 0.8, (0.65, 0.75), "resolved", 0.9)
    return ScalePosterior(
        width, "target", 9, True, (0.3, 1.2), flat, flat, flat, (None, None), star,
        tuple(draws.tolist()), 0.5, 1.0, 0.03,
    )  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(
    st.floats(0.005, 0.1),
    st.lists(st.floats(0.005, 0.1), min_size=1, max_size=4),
    st.floats(0, 0.05),
)
def test_the_trend_is_the_normal_posterior(
    slope_sd: float, sds: list[float], discrepancy: float
) -> None:
    """For normal draws, intercept and slope have the closed form's mean and covariance."""
    rng = np.random.default_rng(0)
    means = 0.7 + 0.02 * np.arange(len(sds))
    normals = rng.standard_normal((len(sds), 20_000))
    scales = [
        scale_at(64 * 2**i, mean + sd * row)
        for i, (mean, sd, row) in enumerate(zip(means, sds, normals, strict=True))
    ]
    found = regress(scales, TrendPrior(slope_sd, discrepancy, (0.3, 1.2)), rng)
    x = np.column_stack([np.ones(len(sds)), np.arange(len(sds)) - (len(sds) - 1) / 2])
    weight = 1 / (np.array(sds) ** 2 + discrepancy**2)
    covariance = np.linalg.inv((x.T * weight) @ x + np.diag([0, slope_sd**-2]))
    centre = covariance @ (x.T * weight) @ means
    drawn = np.vstack([found.intercept, found.slope])
    sd = np.sqrt(np.diag(covariance))
    assert np.abs(drawn.mean(axis=1) - centre).max() < 0.04 * sd.max()
    assert drawn.std(axis=1) == pytest.approx(sd, rel=0.04)


def test_truncation_redraws_inside_and_reports_its_part() -> None:
    """A quarter outside is replaced by draws from the rest; all outside is clipped."""
    rng = np.random.default_rng(0)
    kept, part = truncate(np.array([0.1, 0.5, 0.6, 0.7]), (0.3, 1.2), rng)
    assert part == 0.25
    assert set(kept[1:]) == {0.5, 0.6, 0.7}
    assert kept[0] in kept[1:]
    clipped, part = truncate(np.array([1.3, 1.4]), (0.3, 1.2), rng)
    assert (clipped.tolist(), part) == ([1.2, 1.2], 1.0)


def test_intervals_cover_and_medians_are_near() -> None:
    """Over 20 small simulated searches 90% intervals cover mostly, and medians lose little."""
    outcomes = []
    for index in range(20):
        rng = np.random.default_rng([7, index])
        surface = calibration.random_surface(rng)
        runs = calibration.search(surface, 60, rng)
        outcomes += calibration.judge(surface, compute(runs, SPEC, rng))[0]
    covered = np.mean([one.covered for one in outcomes])
    assert 0.8 <= covered <= 0.99
    assert np.median([one.error for one in outcomes]) < 0.02
    assert np.mean([one.share_lost for one in outcomes]) < 0.05
