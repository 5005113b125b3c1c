"""What a fixed std becomes at other widths."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from critical.audit.case import Case
from critical.audit.finding import Finding
from critical.audit.rates import gamma_of, joined, stated, to_write
from critical.export.report import EXACT_WITHIN
from critical.frameworks.reading import Reading, Setting

_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
_TRUNCATED = 0.02
"""Relative difference between a setting and the std that is drawn, truncation included."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A std that one key sets for matrices of fan-in width, and its γ over the widths.

    Attributes:
        setting: The key, and the number that stands there.
        std: As it is drawn.
        width: Of the model.
    """

    setting: Setting[float]
    std: float
    width: int

    def gammas(self) -> list[tuple[int, float]]:
        """Return γ_eq of the same std at a quarter to four times the width."""
        widths = sorted({int(self.width * factor) for factor in _FACTORS})
        found = [(width, gamma_of(self.std, width)) for width in widths]
        return [(width, gamma) for width, gamma in found if gamma is not None]

    def to_document(self) -> list[dict[str, Any]]:
        """Return it as JSON."""
        return [{"width": width, "gamma": gamma} for width, gamma in self.gammas()]


def drift_of(reading: Reading) -> Drift | None:
    """Return what a fixed std becomes; None where no key of the framework holds one."""
    setting = reading.std
    if setting is None or setting.value <= 0 or reading.width < 2:
        return None
    drawn = [
        each.configured_std
        for each in reading.matrices
        if each.fan_in == reading.width
        and math.isclose(each.configured_std, setting.value, rel_tol=_TRUNCATED)
    ]
    # LLM Foundry's key holds a gain, which fits no matrix.
    return Drift(setting, max(drawn), reading.width) if drawn else None


def fixed_std(case: Case) -> Iterator[Finding]:
    """Find a std that one number sets, unless it is that of the recommended γ."""
    drift = drift_of(case.reading)
    if drift is None:
        return
    wanted = None if case.gamma is None else float(drift.width**-case.gamma)
    if wanted is not None and math.isclose(drift.std, wanted, rel_tol=EXACT_WITHIN):
        return
    here = gamma_of(drift.std, drift.width)
    others = [f"{gamma:.3f} at {width}" for width, gamma in drift.gammas() if width != drift.width]
    if here is None or not others:
        return
    yield Finding(
        code="fixed-std",
        what=f"{stated(drift.setting)} is γ {here:.3f} at width {drift.width} and another one at "
        f"any other: {joined(others)}",
        why="γ = −ln(std) / ln(width): the same std is a relatively larger initialization in a "
        "wider model (constant γ over widths: arXiv 2505.23013)",
        instead=_instead(drift, case.gamma),
        certainty="derived",
        numbers={
            "key": drift.setting.key,
            "std": drift.std,
            "width": drift.width,
            "gammas": drift.to_document(),
        },
    )


def _instead(drift: Drift, gamma: float | None) -> str:
    key = drift.setting.key
    if gamma is None:
        return f"set {key} to width^−γ anew for every width, as critical export does"
    # Of a std that is truncated, more must be written than is drawn.
    number = drift.width**-gamma * drift.setting.value / drift.std
    return (
        f"{to_write(key, number)} is γ {gamma:.4g} at this width: set it to width^−γ anew "
        "for every other, as critical export does"
    )
