"""What ε does to the first norm; the crossovers are those of ln(1/ε) / (2 ln d)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from critical.audit.rates import to_write
from critical.audit.saturation import Saturation, output_rms, rounded_down, saturation_of
from critical.frameworks.reading import Norms, Setting

CROSSOVERS = {
    1e-5: {256: 1.04, 512: 0.92, 768: 0.87, 1024: 0.83, 2048: 0.755, 4096: 0.69},
    1e-6: {256: 1.25, 512: 1.11, 768: 1.04, 1024: 1.00, 2048: 0.91, 4096: 0.83},
}
WIDTHS = st.integers(2, 10**6)
GAMMAS = st.floats(0.05, 2)
EPS = st.floats(1e-14, 1e-2)
STDS = st.lists(st.floats(1e-6, 10), min_size=1, max_size=3).map(tuple)
SATURATIONS = st.builds(
    Saturation, st.builds(Setting, st.just("eps"), EPS, st.just(True)), WIDTHS,
    st.floats(0.1, 100), STDS,
)  # fmt: skip


@pytest.mark.parametrize(
    ("eps", "width", "crossover"),
    [(eps, width, gamma) for eps, row in CROSSOVERS.items() for width, gamma in row.items()],
)
def test_the_crossover_is_where_the_input_is_as_large_as_epsilon(
    eps: float, width: int, crossover: float
) -> None:
    """At γ_c half of the norm's denominator is ε, so the output RMS is √½."""
    one = Saturation(Setting("rms_norm_eps", eps, True), width, 1.0, (0.02,))
    found = one.crossover
    assert found is not None
    assert found == pytest.approx(crossover, abs=0.006)
    assert one.rms(found) == pytest.approx(math.sqrt(0.5))


def test_it_is_what_torchs_norms_do() -> None:
    """Of 64 random rows at width 4096, with RMSNorm and with LayerNorm."""
    torch.manual_seed(0)
    rows = 4096**-0.7 * torch.randn(64, 4096)
    expected = output_rms(4096**-1.4, 1e-5)
    for norm in (torch.nn.RMSNorm(4096, eps=1e-5), torch.nn.LayerNorm(4096, eps=1e-5)):
        given = norm(rows).square().mean().sqrt().item()
        assert given == pytest.approx(expected, rel=0.005)


def test_llamas_epsilon_at_present_and_at_a_recommended_gamma(llama: Any, find: Any) -> None:
    """The input's 4e-4 is 40 ε, √(40/41) = .988; 4096^−1.4 = 8.756e-6, √(8.756/18.756) = .683."""
    finding = find("norm-eps", llama(), 0.7)
    assert finding.what == (
        "rms_norm_eps 1e-05 holds the first norm's output at an RMS of 0.988 now and 0.683 at "
        "γ 0.7, where 1 is normalized"
    )
    assert finding.instead.startswith("rms_norm_eps: 8.0e-08 or less, for at least 0.995 at γ 0.7")
    assert finding.certainty == "derived"
    assert finding.numbers["crossover_gamma"] == pytest.approx(0.69206, abs=1e-5)
    assert finding.numbers["begins_gamma"] == pytest.approx(0.41524, abs=1e-5)
    now = find("norm-eps", llama())
    assert "RMS of 0.988 now, where" in now.what
    assert now.instead.startswith("rms_norm_eps: 4.0e-06 or less, for at least 0.995 now")


def test_a_small_epsilon_is_no_finding_until_gamma_makes_it_one(llama: Any, find: Any) -> None:
    """At ε 1e-6, 4e-4 is 400 ε, and 4096^−1.4 is 8.8 ε; at γ .3 and ε 1e-5, 6.8e-3 is 680 ε."""
    fine = llama(rms_norm_eps=1e-6)
    assert find("norm-eps", fine) is None
    assert find("norm-eps", fine, 0.4) is None
    assert "1.000" not in find("norm-eps", fine, 0.7).what
    relieved = find("norm-eps", llama(), 0.3)
    assert relieved.instead == "γ 0.3 does: the RMS is 0.999 there"


def test_the_relaxed_epsilon_is_no_finding(llama: Any, find: Any) -> None:
    """What an audit says to write satisfies it."""
    assert find("norm-eps", llama(rms_norm_eps=8e-8), 0.7) is None
    assert find("norm-eps", llama(rms_norm_eps=9e-8), 0.7) is not None


def test_learned_positions_and_factors_count(by_hand: Any, llama: Any, find: Any) -> None:
    """GPT-2 sums two embeddings, ms = 8e-4; Gemma multiplies by √2048, ms = 2048 · 4e-4 = .82."""
    tokens, positions = ("wte", "embedding", 768, 0.02), ("wpe", "embedding", 768, 0.02)
    found = saturation_of(by_hand(tokens, positions))
    assert found is not None
    assert found.rms() == pytest.approx(math.sqrt(80 / 81))
    assert found.rms(0.7) == pytest.approx(math.sqrt(1 / (1 + 1e-5 / (2 * 768**-1.4))))
    assert "of 2 embeddings, summed" in find("norm-eps", by_hand(tokens, positions)).why
    gemma = llama(model_type="gemma", hidden_size=2048, intermediate_size=16384)
    scaled = saturation_of(gemma)
    assert scaled is not None
    assert scaled.mean_square() == pytest.approx(0.8192)
    assert scaled.crossover == pytest.approx((math.log(1e5) / math.log(2048) + 1) / 2)
    assert find("norm-eps", gemma, 0.7) is None


def test_norms_that_do_not_read_the_embedding_are_not_judged(llama: Any, by_hand: Any) -> None:
    """Nor such as are not known, or an embedding of another dimension than the width."""
    assert saturation_of(llama(model_type="olmo2")) is None
    plain = by_hand(("wte", "embedding", 768, 0.02))
    assert saturation_of(plain) is not None
    assert saturation_of(replace(plain, norms=None)) is None
    assert saturation_of(by_hand(("wte", "embedding", 512, 0.02))) is None
    assert saturation_of(by_hand()) is None


def test_an_embedding_of_zeros_and_an_epsilon_of_zero(by_hand: Any, find: Any) -> None:
    """Neither divides by zero."""
    zeros = find("norm-eps", by_hand(("wte", "embedding", 768, 0.0)))
    assert "an RMS of 0.000 now" in zeros.what
    assert zeros.instead == "draw the embedding with a greater std: it is all but 0"
    assert zeros.numbers["relaxed_eps"] is None
    exact = Norms(Setting("eps", 0.0, True))
    assert find("norm-eps", by_hand(("wte", "embedding", 768, 0.02), norms=exact), 2.0) is None


@given(one=SATURATIONS, gammas=st.tuples(GAMMAS, GAMMAS), times=st.floats(1, 1e6))
def test_it_grows_with_gamma_and_with_epsilon(
    one: Saturation, gammas: tuple[float, float], times: float
) -> None:
    """The output RMS never does, and lies in [0, 1]."""
    low, high = sorted(gammas)
    assert 0 <= one.rms(high) <= one.rms(low) <= 1
    greater = replace(one, eps=replace(one.eps, value=one.eps.value * times))
    for gamma in (None, low, high):
        assert greater.rms(gamma) <= one.rms(gamma)


@example(one=Saturation(Setting("eps", 2**-7, True), 2, 0.3, (1e-06,)), gamma=1.0)
@given(one=SATURATIONS, gamma=GAMMAS)
def test_what_is_said_to_relax_it_does(one: Saturation, gamma: float) -> None:
    """With ε as advised the output RMS is at least .995; γ up to ``begins`` needs no advice."""
    for at in (None, gamma):
        advised = one.relaxed(at)
        assert advised is not None
        relaxed = replace(one, eps=replace(one.eps, value=advised))
        assert relaxed.rms(at) >= 0.995
        assert not relaxed.restrains(at)
    begins = one.begins
    assert begins is not None
    assert one.restrains(gamma) == (gamma > begins) or gamma == pytest.approx(begins)


@given(st.floats(1e-290, 1e290))
def test_a_number_is_rounded_down_to_one_digit(number: float) -> None:
    """By less than half, and what is written of it is the same number to YAML."""
    rounded = rounded_down(number)
    assert number / 2 < rounded <= number
    mantissa = f"{rounded:.14e}".partition("e")[0]
    assert set(mantissa[1:]) <= {".", "0"}
    assert yaml.safe_load(to_write("eps", rounded)) == {"eps": rounded}


def test_keys_are_written_as_their_framework_has_them() -> None:
    """In YAML or JSON, on a command line, and in Python."""
    assert to_write("norm_eps", 4e-6) == "norm_eps: 4.0e-06"
    assert to_write("--norm-epsilon", 4e-6) == "--norm-epsilon 4.0e-06"
    assert to_write("RMSNorm.Config(eps)", 4e-6) == "RMSNorm.Config(eps=4.0e-06)"
