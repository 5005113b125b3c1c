"""Addition: whether the digits say the right sum, and which sums are held out."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from critical.trials.randomness import generator
from critical.trials.tasks.addition import Addition
from critical.trials.tasks.source import Items

SEEDS = st.integers(0, 2**31 - 1)


def read(items: Items) -> list[tuple[int, int, int]]:
    """Read operands and sums as a person does, from digits and signs."""
    found = []
    for tokens, answer in zip(items.tokens.tolist(), items.answers.tolist(), strict=True):
        text = "".join("0123456789+="[token] for token in tokens)
        question, _, begun = text.partition("=")
        a, _, b = question.partition("+")
        assert (len(a), len(b)) == (3, 3)
        written = "".join(str(digit) for digit in answer)
        assert begun == written[:-1]  # what the model has been told when it says the last digit
        found.append((int(a), int(b), int(written[::-1])))
    return found


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_sums_are_right_and_held_out_by_the_block(seed: int) -> None:
    """Both operands of a held-out sum are 400 to 600, and never both of a trained one."""
    source = Addition(seed)
    trained = read(source.training(500, generator("training", seed)))
    (held_out,) = source.held_out(generator("held out", seed))
    asked = read(held_out.items)
    assert all(total == a + b for a, b, total in trained + asked)
    assert all(400 <= a <= 600 and 400 <= b <= 600 for a, b, _ in asked)
    assert not any(400 <= a <= 600 and 400 <= b <= 600 for a, b, _ in trained)
    assert held_out.right


def test_operands_are_uniform_outside_the_block() -> None:
    """Each hundred is met about as often as its share of what is left, the held-out ones too."""
    trained = read(Addition(0).training(40_000, generator("test")))
    allowed = torch.ones(1000, 1000)
    allowed[400:601, 400:601] = 0
    expected = allowed.sum(dim=1).view(10, 100).sum(dim=1) / allowed.sum()
    counts = torch.zeros(10)
    for a, _, _ in trained:
        counts[a // 100] += 1
    assert torch.allclose(counts / len(trained), expected, atol=0.01)
    assert {a for a, _, _ in trained} == set(range(1000))


def test_no_digit_of_a_held_out_answer_is_a_giveaway() -> None:
    """The two least significant digits are even; the carry out of them is 0 or 1 as often."""
    (held_out,) = Addition(0).held_out(generator("test"))
    answers = held_out.items.answers
    assert all(len(set(answers[:, place].tolist())) == 10 for place in (0, 1))
    assert 0.3 < float((answers[:, 3] == 1).float().mean()) < 0.7
