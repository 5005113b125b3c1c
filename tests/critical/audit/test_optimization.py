"""What the optimizer and attention do to small matrices: hypotheses, and told as such."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from critical.audit import Case, audit
from critical.frameworks.reading import Attention, Optimizer, Setting


def optimizer(eps: float = 1e-8, decay: float = 0.0, *, decays: bool | None = True) -> Optimizer:
    """One whose values the file states."""
    return Optimizer(
        Setting("--adam-eps", eps, True), Setting("--weight-decay", decay, True), decays
    )


def test_an_adam_epsilon_above_the_usual_is_a_hypothesis(by_hand: Any, find: Any) -> None:
    """At ε 1e-6 a gradient of 1e-5 loses 1/11 = 9.09% of its update."""
    finding = find("adam-eps", by_hand(optimizer=optimizer(1e-6)))
    assert finding.what == (
        "--adam-eps 1e-06 takes over 9% from the update of every weight whose gradient's RMS is "
        "under 1e-05"
    )
    assert finding.instead.startswith("--adam-eps 1.0e-08 or less")
    assert finding.certainty == "hypothesis"
    for fine in (1e-8, 1e-15):
        assert find("adam-eps", by_hand(optimizer=optimizer(fine))) is None


def test_weight_decay_on_embeddings_is_a_hypothesis(by_hand: Any, find: Any) -> None:
    """(1 − .1 lr)^n = ½ at n = ln 2 / (.1 lr) = 6.93 / lr."""
    finding = find("decayed-embedding", by_hand(optimizer=optimizer(decay=0.1)))
    assert finding.what == (
        "--weight-decay 0.1 reaches the embedding, and halves a row every 6.93 / lr steps "
        "without its token"
    )
    assert finding.certainty == "hypothesis"
    steps = finding.numbers["learning_rate_times_steps_to_half"] / 1e-3
    assert (1 - 0.1 * 1e-3) ** steps == pytest.approx(0.5, rel=1e-3)
    tied = find("decayed-embedding", by_hand(optimizer=optimizer(decay=0.1), tied=True))
    assert "for it is tied" in tied.what
    for fine in (optimizer(decay=0.0), optimizer(decay=0.1, decays=False)):
        assert find("decayed-embedding", by_hand(optimizer=fine)) is None


def test_a_weight_decay_that_the_learning_rate_does_not_scale_is_told_as_such(
    by_hand: Any, find: Any
) -> None:
    """Composer's DecoupledAdamW: (1 − 1e-5)^n = ½ at n = 69,300 steps at the full rate."""
    made = replace(optimizer(decay=1e-5), decay_times_lr=False)
    finding = find("decayed-embedding", by_hand(optimizer=made))
    assert "every 6.93e+04 steps at the greatest learning rate" in finding.what
    assert "by 1 − 1e-05 · lr / (its greatest) a step" in finding.why
    assert finding.numbers["learning_rate_times_steps_to_half"] is None
    assert (1 - 1e-5) ** finding.numbers["steps_to_half"] == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (None, "does not say what optimizer trains it"),
        (optimizer(decay=0.1, decays=None), "whether --weight-decay 0.1 reaches the embedding"),
        (
            Optimizer(Setting("eps", 1e-8, False), Setting("wd", 0.0, False), True),
            "states no optimizer: taken are eps 1e-08 (the default) and wd 0 (the default)",
        ),
    ],
)
def test_what_is_not_known_of_the_optimizer_is_a_remark(
    by_hand: Any, made: Optimizer | None, words: str
) -> None:
    """And nothing is found in it."""
    found = audit(Case(by_hand(optimizer=made), "f"))
    assert any(words in remark for remark in found.remarks)
    assert {"adam-eps", "decayed-embedding"}.isdisjoint(one.code for one in found.findings)
    stated = audit(Case(by_hand(optimizer=optimizer(decay=0.1)), "f"))
    assert not any(words in remark for remark in stated.remarks)


@pytest.mark.parametrize("gated", [None, False, True])
@pytest.mark.parametrize("qk_norm", [None, False, True])
def test_sinks_are_looked_for_where_attention_is_known(
    by_hand: Any, gated: bool | None, qk_norm: bool | None
) -> None:
    """A finding without both, nothing with either, and a remark where it could be both."""
    found = audit(Case(by_hand(attention=Attention(qk_norm, gated)), "f"))
    told = [one.certainty for one in found.findings if one.code == "attention-sinks"]
    assert told == (["hypothesis"] if gated is False and qk_norm is False else [])
    unknown = {gated, qk_norm} <= {None, False} and None in (gated, qk_norm)
    assert any("sinks are not checked" in remark for remark in found.remarks) == unknown
