"""``addition``: a + b in decimal digits, with a block of operands held out.

    4 0 7 + 0 5 3 = 0 6 4 0        407 + 053 = 0460, the answer's least significant digit first

Operands are 0 to 999, of three digits each, the most significant first, as people write them. The
answer has four digits and is written the other way round: then each digit follows from two digits
of the operands and one carry, and no digit waits for a carry that is computed after it. Held out
is the block where both operands are 400 to 600, about 4% of all sums. No sum of two numbers in the
four and five hundreds is trained, so that their hundreds must be added as the tens and ones are.

Whoever guesses a digit is right once in 10 times, and once in 2 times at the last one.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from critical.trials.tasks.source import Alphabet, HeldOut, Items, Task

DIGITS, ANSWER_DIGITS = 3, 4
PLUS, EQUALS = 10, 11
"""Ids of the signs; a digit's id is the digit."""
LARGEST = 10**DIGITS - 1
FIRST_HELD_OUT, LAST_HELD_OUT = 400, 600


class Addition(Task):
    """Sums of two numbers; held out are those of two operands in the block."""

    name: ClassVar = "addition"
    alphabet = Alphabet("addition", 12)
    length = 2 * DIGITS + 2 + ANSWER_DIGITS - 1
    validation_items: ClassVar = 256
    reasons: ClassVar = True

    def __init__(self, seed: int) -> None:
        """Every seed holds out the same block."""

    def training(self, count: int, generator: torch.Generator) -> Items:
        """Draw sums with at least one operand outside the block, all of them equally likely."""
        operands = torch.randint(LARGEST + 1, (count, 2), generator=generator)
        while (inside := _in_block(operands)).any():
            again = torch.randint(LARGEST + 1, (int(inside.sum()), 2), generator=generator)
            operands[inside] = again
        return _sums(operands)

    def held_out(self, generator: torch.Generator) -> tuple[HeldOut, ...]:
        """Draw sums of two operands of the block."""
        size = (256, 2)
        operands = torch.randint(FIRST_HELD_OUT, LAST_HELD_OUT + 1, size, generator=generator)
        return (HeldOut("", _sums(operands)),)


def _in_block(operands: Tensor) -> Tensor:
    return ((operands >= FIRST_HELD_OUT) & (operands <= LAST_HELD_OUT)).all(dim=1)


def _sums(operands: Tensor) -> Items:
    """Write out sums of operands (n, 2)."""
    a, b = operands.unbind(1)
    answer = _digits(a + b, ANSWER_DIGITS)
    plus, equals = (torch.full((len(operands), 1), sign) for sign in (PLUS, EQUALS))
    question = (_digits(a, DIGITS).flip(1), plus, _digits(b, DIGITS).flip(1), equals)
    return Items(torch.cat((*question, answer[:, :-1]), dim=1), answer)


def _digits(number: Tensor, count: int) -> Tensor:
    """Return decimal digits, the least significant first. Shape (n, count)."""
    return number[:, None] // 10 ** torch.arange(count) % 10
