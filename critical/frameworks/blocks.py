"""Matrices listed block by block, put together where all blocks draw them alike."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from critical.targets.layout import Matrix, pattern

_FIRST = re.compile(r"\.\d+(?=\.|$)")


def merged(matrices: Iterable[Matrix]) -> tuple[Matrix, ...]:
    """Merge the matrices that differ by their numbers only, in order of appearance.

    Where blocks draw the same matrix with stds of their own, each keeps its block's number, or all
    its numbers: a name stands for one std.

    Args:
        matrices: Each with all its numbers in its name.
    """
    groups: dict[tuple[str, tuple[int, ...], int], list[Matrix]] = {}
    for matrix in matrices:
        key = (pattern(matrix.name), matrix.shape, matrix.fan_in)
        groups.setdefault(key, []).append(matrix)
    return tuple(each for group in groups.values() for each in _together(group))


def _together(group: list[Matrix]) -> list[Matrix]:
    """Merge the matrices of one pattern under the shortest names that stand for one std each."""
    for named in (pattern, _with_block):
        found: dict[str, list[Matrix]] = {}
        for each in group:
            found.setdefault(named(each.name), []).append(each)
        if all(len({each.configured_std for each in alike}) == 1 for alike in found.values()):
            return [
                replace(alike[0], name=name, count=sum(each.count for each in alike))
                for name, alike in found.items()
            ]
    return group


def _with_block(name: str) -> str:
    """Return a name with its first number, the block's, and ``*`` for all others."""
    match = _FIRST.search(name)
    return name if match is None else name[: match.end()] + pattern(name[match.end() :])
