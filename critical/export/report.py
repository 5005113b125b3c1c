"""What an export says of itself, and what every framework offers.

Quantities:
    wanted   fan_in^−γ, the recommended std
    yielded  the std that the edited configuration draws with
    ratio    yielded / wanted
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from critical.layout import Kind, Matrix
from critical.target import Target

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
    yielded: float

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
        gamma: The exponent that was exported.
        width: The model's width.
        std: The number written, width^−γ.
        matrices: In the model's order.
        could_not_express: Sentences on what the framework's keys cannot say.
    """

    framework: str
    gamma: float
    width: int
    std: float
    matrices: tuple[MatrixReport, ...]
    could_not_express: tuple[str, ...] = ()

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
            worst_ratio=self.worst_ratio,
            summary=self.summary(),
        )
        return document


class Framework(Protocol):
    """One training framework: how its configuration takes an initialization."""

    @property
    def name(self) -> str:
        """Return what the user types after ``--to``."""
        ...

    def read(self, text: str, file_name: str) -> Target:
        """Return the model that a configuration describes, with the std that it has now.

        Raises:
            CriticalError: The configuration cannot be read.
        """
        ...

    def edit(self, text: str, file_name: str, gamma: float) -> str:
        """Return the configuration with γ written into it and all else as it was.

        Raises:
            CriticalError: The configuration cannot be read, or cannot take γ.
        """
        ...

    def report(self, text: str, file_name: str, gamma: float) -> ExportReport:
        """Return what an edited configuration yields against γ, and what it could not express.

        Raises:
            CriticalError: The configuration cannot be read, or its matrices are not known.
        """
        ...


def reported(matrices: Sequence[Matrix], gamma: float) -> tuple[MatrixReport, ...]:
    """Compare what each matrix is drawn with, as configured, with fan_in^−γ."""
    return tuple(
        MatrixReport(
            each.name,
            each.count,
            each.shape,
            each.fan_in,
            each.kind,
            each.wanted_std(gamma),
            each.configured_std,
        )
        for each in matrices
    )


def _distance(ratio: float) -> float:
    return abs(math.log(ratio)) if ratio > 0 else math.inf


def _missed(matrix: MatrixReport) -> tuple[str, str]:
    short = matrix.name.removesuffix(".weight").rpartition(".")[2]
    ratio = f"{matrix.ratio:.2f}" if matrix.ratio >= 0.1 else f"{matrix.ratio:.2g}"
    return short, f"{ratio}× the recommended std (fan-in {matrix.fan_in})"
