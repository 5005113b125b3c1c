"""What a fixed std becomes at other widths."""

from __future__ import annotations

from typing import Any

import pytest

from critical.audit.widths import drift_of
from critical.frameworks.reading import Setting
from critical.frameworks.truncation import TRUNCATED_AT_3


def test_a_fixed_std_is_a_smaller_gamma_in_a_wider_model(llama: Any, find: Any) -> None:
    """3.9120 over ln 1024 … ln 16384, which are 6.9315 and four more, ln 2 apart."""
    finding = find("fixed-std", llama())
    assert finding.what == (
        "initializer_range 0.02 is γ 0.470 at width 4096 and another one at any other: 0.564 at "
        "1024, 0.513 at 2048, 0.434 at 8192 and 0.403 at 16384"
    )
    gammas = [one["gamma"] for one in finding.numbers["gammas"]]
    assert gammas == pytest.approx([0.56439, 0.51308, 0.47032, 0.43415, 0.40313], abs=1e-5)
    assert "1.0e-07" not in finding.instead
    advised = find("fixed-std", llama(), 0.7).instead
    assert advised.startswith("initializer_range: 0.00296038 is γ 0.7 at this width")


def test_the_std_of_the_recommended_gamma_was_chosen_for_its_width(llama: Any, find: Any) -> None:
    """So it is no finding any more; without a γ to hold it against it is."""
    exported = llama(initializer_range=4096**-0.7)
    assert find("fixed-std", exported, 0.7) is None
    assert find("fixed-std", exported, 0.69) is not None
    assert find("fixed-std", exported) is not None


def test_of_a_truncated_std_more_is_written_than_is_drawn(by_hand: Any, find: Any) -> None:
    """By 1 / .986578: 768^−.7 is .00955536, and what draws it is .00968536."""
    drawn = ("wte", "embedding", 768, 0.02 * TRUNCATED_AT_3)
    finding = find("fixed-std", by_hand(drawn, std=Setting("init_std", 0.02, True)), 0.7)
    assert finding.instead.startswith("init_std: 0.00968536 is γ 0.7 at this width")
    assert finding.numbers["std"] == pytest.approx(0.0197316, rel=1e-5)


def test_a_key_that_holds_no_std_has_no_drift(by_hand: Any) -> None:
    """LLM Foundry's is a gain; and a framework without a key has none."""
    drawn = ("wte", "embedding", 768, 0.02)
    assert drift_of(by_hand(drawn, std=Setting("init_gain", 6.42, True))) is None
    assert drift_of(by_hand(drawn)) is None
    assert drift_of(by_hand(drawn, std=Setting("std", 0.02, True))) is not None
    assert drift_of(by_hand(drawn, std=Setting("std", 0.0, True))) is None
