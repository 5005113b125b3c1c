"""What an export says of itself: for every matrix the std wanted and the std that it gets.

Quantities:
    wanted   fan_in^−γ, the recommended std
    before   the std that the configuration drew with; None where it differed between the blocks
    yielded  the std that the edited configuration draws with
    ratio    yielded / wanted
    hooked   the std with the hook in place
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from critical.frameworks.framework import Hook
from critical.frameworks.reading import Reading
from critical.targets.layout import Kind, pattern

EXACT_WITHIN = 1e-3
"""Relative difference of std under which a matrix counts as exact."""


@dataclass(frozen=True, slots=True)
class MatrixReport:
    """The matrices of one name pattern: the std wanted, and the std that the edit yields."""

    name: str
    count: int
    shape: tuple[int, ...]
    fan_in: int
    kind: Kind
    wanted: float
    before: float | None
    yielded: float
    hooked: float | None

    @property
    def ratio(self) -> float:
        """Return yielded / wanted."""
        return self.yielded / self.wanted

    @property
    def exact(self) -> bool:
        """Return whether the ratio is 1 within 0.1%."""
        return abs(self.ratio - 1) <= EXACT_WITHIN


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an edited configuration yields against what was recommended.

    Attributes:
        framework: Its name, as in ``hf``.
        checked_against: What its authors call it, and which version the stds are those of.
        gamma: The exponent that was exported.
        width: The model's width.
        key: What was set; None where the framework has no key for it.
        std: The number that stands there now; None with ``key``.
        matrices: In the model's order.
        could_not_express: Sentences on what the framework's keys cannot say.
        hook_usage: How the hook is used; None where there is none.
    """

    framework: str
    checked_against: str
    gamma: float
    width: int
    key: str | None
    std: float | None
    matrices: tuple[MatrixReport, ...]
    could_not_express: tuple[str, ...] = ()
    hook_usage: str | None = None

    @property
    def exact(self) -> bool:
        """Return whether every matrix gets the std that it should."""
        return all(each.exact for each in self.matrices)

    @property
    def worst_ratio(self) -> float:
        """Return the ratio that is farthest from 1, as a factor either way."""
        return max((each.ratio for each in self.matrices), key=_distance)

    def summary(self) -> str:
        """Return one sentence: how many matrices are exact, and by how much the others miss."""
        exact = [each for each in self.matrices if each.exact]
        fan_ins = ", ".join(str(fan_in) for fan_in in dict.fromkeys(m.fan_in for m in exact))
        total = sum(each.count for each in self.matrices)
        start = f"exact for {sum(each.count for each in exact)} of {total} matrices"
        missed: Counter[tuple[str, str]] = Counter()
        for each in self.matrices:
            if not each.exact:
                missed[_missed(each)] += each.count
        parts = [
            f"{count} {what} {'gets' if count == 1 else 'get'} {how}"
            for (what, how), count in missed.items()
        ]
        return "; ".join([f"{start} (fan-in {fan_ins})" if exact else start, *parts])

    def to_document(self) -> dict[str, Any]:
        """Return a JSON document with the ratios, the worst one and the summary written out."""
        document = asdict(self)
        for each, values in zip(self.matrices, document["matrices"], strict=True):
            values.update(shape=list(each.shape), ratio=each.ratio, exact=each.exact)
        document.update(
            matrices=list(document["matrices"]),
            could_not_express=list(self.could_not_express),
            exact=self.exact,
            worst_ratio=self.worst_ratio,
            summary=self.summary(),
            critical_version=version("critical"),
        )
        return document


def reported(
    after: Reading,
    before: Reading,
    gamma: float,
    notes: tuple[str, ...],
    hook: Hook | None,
    title: str,
) -> ExportReport:
    """Compare what each matrix is drawn with, now and before, with fan_in^−γ.

    Args:
        after: The edited configuration, read back.
        before: The configuration as it was.
        gamma: The exponent.
        notes: What the framework's module says of the edit.
        hook: What makes it exact, or None.
        title: Of the framework, with its version.
    """
    stds: defaultdict[str, set[float]] = defaultdict(set)
    for each in before.matrices:
        stds[pattern(each.name)].add(each.configured_std)
    leaves = frozenset() if hook is None else frozenset(hook.leaves)
    found = tuple(
        MatrixReport(
            name=each.name,
            count=each.count,
            shape=each.shape,
            fan_in=each.fan_in,
            kind=each.kind,
            wanted=each.wanted_std(gamma),
            before=_only(stds[pattern(each.name)]),
            yielded=each.configured_std,
            hooked=None if hook is None or each.name in leaves else each.wanted_std(gamma),
        )
        for each in after.matrices
    )
    exact = all(each.exact for each in found)
    return ExportReport(
        framework=after.framework,
        checked_against=title,
        gamma=gamma,
        width=after.width,
        key=None if after.std is None else after.std.key,
        std=None if after.std is None else after.std.value,
        matrices=found,
        could_not_express=notes,
        hook_usage=None if hook is None or exact else hook.usage,
    )


def _only(values: set[float]) -> float | None:
    return next(iter(values)) if len(values) == 1 else None


def _distance(ratio: float) -> float:
    return abs(math.log(ratio)) if ratio > 0 else math.inf


def _missed(matrix: MatrixReport) -> tuple[str, str]:
    short = matrix.name.removesuffix(".weight").rpartition(".")[2]
    ratio = f"{matrix.ratio:.2f}" if matrix.ratio >= 0.1 else f"{matrix.ratio:.2g}"
    return short, f"{ratio}× the recommended std (fan-in {matrix.fan_in})"
