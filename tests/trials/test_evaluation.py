"""When a run is evaluated, and the scores of a model whose answers are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from critical.trials.evaluation import evaluate, evaluation_steps, exploded_loss
from critical.trials.mixture import VOCABULARY, Group


class Oracle(nn.Module):
    """Gives token 30 the logit ``sure`` above all others, whatever it reads."""

    def __init__(self, sure: float) -> None:
        super().__init__()
        self.sure = sure

    def forward(self, tokens: Sequence[Tensor], last: Sequence[int]) -> list[Tensor]:
        """Logits of shape (n, k, vocabulary) for each group."""
        logits = torch.zeros(VOCABULARY)
        logits[30] = self.sure
        return [logits.expand(len(t), k, -1) for t, k in zip(tokens, last, strict=True)]


def groups(**targets: list[int]) -> list[Group]:
    """One group a source, of one answer a sequence."""
    return [
        Group(source, torch.zeros(len(t), 9, dtype=torch.int64), torch.tensor(t)[:, None])
        for source, t in targets.items()
    ]


def nats(sure: float) -> tuple[float, float]:
    """The oracle's losses of token 30 and of any other token."""
    normalizer = math.log(math.exp(sure) + VOCABULARY - 1)
    return normalizer - sure, normalizer


def test_loss_and_reasoning_by_hand() -> None:
    """ℓ weighs the sources by their fractions, R is exp(−mean loss) of the held-out answers."""
    items = groups(reasoning=[30, 30, 31, 32], memory=[30, 31], held_out=[30, 31])
    found = evaluate(Oracle(5.0), items, {"reasoning": 0.8, "memory": 0.2}, tokens=77)
    right, wrong = nats(5.0)
    assert found.tokens == 77
    assert found.loss == pytest.approx((right + wrong) / 2, rel=1e-5)
    assert found.reasoning == pytest.approx(math.exp(-(right + wrong) / 2), rel=1e-5)
    assert found.extras["mean_probability"] == pytest.approx(
        (math.exp(-right) + math.exp(-wrong)) / 2, rel=1e-5
    )
    assert found.extras["trained_accuracy"] == found.extras["accuracy_reasoning"] == 0.5
    assert found.extras["accuracy_held_out"] == 0.5


def test_reasoning_is_the_mean_over_tasks() -> None:
    """Within a task kinds weigh the same, whatever their size; what is no right answer does not."""
    named = {
        "held_out/keys": [30],
        "held_out/deduction/deeper": [30, 30, 30],
        "held_out/deduction/names": [31],
        "contrast/symmetric/symmetric": [30, 31],
    }
    items = groups(keys=[30], deduction=[30, 31], **named)
    found = evaluate(Oracle(4.0), items, {"keys": 0.5, "deduction": 0.5}, tokens=1)
    right, wrong = nats(4.0)
    keys, deduction = math.exp(-right), math.exp(-(right + wrong) / 2)
    assert found.extras["reasoning_keys"] == pytest.approx(keys, rel=1e-5)
    assert found.extras["reasoning_deduction"] == pytest.approx(deduction, rel=1e-5)
    assert found.reasoning == pytest.approx((keys + deduction) / 2, rel=1e-5)
    probability = (math.exp(-right) + (math.exp(-right) + math.exp(-wrong)) / 2) / 2
    assert found.extras["mean_probability"] == pytest.approx(probability, rel=1e-5)
    assert found.extras["trained_accuracy"] == 0.5
    assert found.extras["accuracy_contrast/symmetric/symmetric"] == 0.5


def test_an_answer_of_several_tokens_is_right_as_a_whole() -> None:
    """Its loss is per token; a text's tokens are right one by one."""
    answers = torch.tensor([[30, 30], [30, 31]])
    items = [
        Group(source, torch.zeros(2, 5, dtype=torch.int64), answers)
        for source in ("addition", "text", "held_out/addition")
    ]
    found = evaluate(Oracle(4.0), items, {"addition": 0.5, "text": 0.5}, tokens=1)
    right, wrong = nats(4.0)
    assert found.extras["accuracy_addition"] == found.extras["accuracy_held_out/addition"] == 0.5
    assert found.extras["accuracy_text"] == 0.75
    assert found.reasoning == pytest.approx(math.exp(-(3 * right + wrong) / 4), rel=1e-5)
    probability = (math.exp(-2 * right) + math.exp(-right - wrong)) / 2
    assert found.extras["mean_probability"] == pytest.approx(probability, rel=1e-5)


def test_fractions_weigh_the_loss() -> None:
    """The source that is right counts for its share only."""
    items = groups(reasoning=[30], memory=[31], held_out=[30])
    found = evaluate(Oracle(3.0), items, {"reasoning": 0.9, "memory": 0.1}, tokens=1)
    right, wrong = nats(3.0)
    assert found.loss == pytest.approx(0.9 * right + 0.1 * wrong, rel=1e-5)


@pytest.mark.parametrize("sure", [-2 * exploded_loss(VOCABULARY), math.nan, math.inf])
def test_an_exploded_loss_is_infinite(sure: float) -> None:
    """Far above a uniform guess, or not a number; R stays within [0, 1]."""
    found = evaluate(Oracle(sure), groups(reasoning=[30], held_out=[30]), {"reasoning": 1.0}, 1)
    assert found.loss == math.inf
    assert 0 <= found.reasoning <= 1


def test_a_uniform_guess_has_not_exploded() -> None:
    """Its loss is ln of the vocabulary."""
    found = evaluate(Oracle(0.0), groups(reasoning=[30], held_out=[30]), {"reasoning": 1.0}, 1)
    assert found.loss == pytest.approx(math.log(VOCABULARY), rel=1e-5)


@given(st.integers(1, 200_000), st.integers(1, 100))
def test_evaluations_are_as_many_as_asked_and_end_at_the_end(steps: int, evaluations: int) -> None:
    """Distinct steps within the run, min(steps, evaluations) of them, the last one the last."""
    looks = evaluation_steps(steps, evaluations)
    assert len(looks) == min(steps, evaluations)
    assert min(looks) >= 1
    assert max(looks) == steps


def test_evaluations_are_log_spaced() -> None:
    """From 1% of the run, each about as many times later than the one before."""
    looks = sorted(evaluation_steps(100_000, 40))
    assert looks[0] == 1000
    ratios = [after / before for before, after in pairwise(looks)]
    assert ratios == pytest.approx([100 ** (1 / 39)] * 39, rel=2e-3)
