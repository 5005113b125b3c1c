"""Members of a pack that train together, and what becomes of them where memory gives out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from critical.trials.failure import kind_of
from critical.trials.pack_member import Structure
from critical.trials.stack_state import StackState

T = TypeVar("T")


@dataclass(slots=True)
class Stack:
    """Members that train together, in the order of their rows.

    Attributes:
        structure: Of their models.
        members: Their numbers in the pack.
        state: A row each.
    """

    structure: Structure
    members: list[int]
    state: StackState

    def halves(self) -> list[Stack]:
        """Return two stacks over the same memory."""
        middle = (len(self.members) + 1) // 2
        ends = ((0, middle), (middle, len(self.members)))
        return [Stack(self.structure, self.members[a:b], self.state.part(a, b)) for a, b in ends]

    def only(self, members: frozenset[int]) -> Stack:
        """Return the stack without the others, in memory of its own if there are any."""
        rows = [row for row, member in enumerate(self.members) if member in members]
        if len(rows) == len(self.members):
            return self
        return Stack(self.structure, [self.members[row] for row in rows], self.state.only(rows))


def halving(stack: Stack, work: Callable[[Stack], T]) -> list[tuple[Stack, T]]:
    """Do something with a stack, or with its halves where memory gives out; return both."""
    try:
        return [(stack, work(stack))]
    except (RuntimeError, MemoryError) as error:
        if kind_of(error) != "memory" or len(stack.members) == 1:
            raise
    # Not in the handler: the traceback would keep alive what the attempt has allocated.
    return [done for half in stack.halves() for done in halving(half, work)]
