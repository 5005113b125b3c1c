"""What in a training configuration restrains small initialization, with no search.

Every check is a function from one configuration to its findings, in a module for its theme; adding
one is a function and a line in ``CHECKS``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Final

from critical.audit.attention import attention_sinks
from critical.audit.case import Case, Recommended
from critical.audit.embeddings import embedding_apart, embedding_scaled, head_apart
from critical.audit.finding import Certainty, Finding
from critical.audit.initialization import depth_scaled, not_at_gamma, one_std_several_gammas
from critical.audit.optimization import adam_eps, decayed_embedding
from critical.audit.rates import Rate, rates_of
from critical.audit.remarks import remarks_of
from critical.audit.saturation import Saturation, norm_eps, saturation_of
from critical.audit.widths import Drift, drift_of, fixed_std
from critical.errors import OptionError

__all__ = ["CHECKS", "CODES", "Audit", "Case", "Certainty", "Finding", "Recommended", "audit"]

CHECKS: Final[tuple[Callable[[Case], Iterator[Finding]], ...]] = (
    not_at_gamma,
    norm_eps,
    embedding_apart,
    head_apart,
    embedding_scaled,
    one_std_several_gammas,
    depth_scaled,
    fixed_std,
    adam_eps,
    decayed_embedding,
    attention_sinks,
)
"""In the order in which their findings are told; the hypotheses last."""
CODES: Final = (
    "not-at-gamma", "norm-eps", "embedding-apart", "head-apart", "embedding-scaled",
    "one-std-several-gammas", "depth-scaling", "fixed-std", "adam-eps", "decayed-embedding",
    "attention-sinks",
)  # fmt: skip
"""Of every finding that there can be, in the same order."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found.

    Attributes:
        case: What it looked at.
        rates: Every matrix group with its γ, in the model's order.
        drift: What a fixed std becomes at other widths; None where there is none.
        saturation: What ε does to the first norm; None where it cannot be told.
        findings: In the order of ``CHECKS``.
        remarks: What else is to be known, and what could not be checked.
    """

    case: Case
    rates: tuple[Rate, ...]
    drift: Drift | None
    saturation: Saturation | None
    findings: tuple[Finding, ...]
    remarks: tuple[str, ...]

    def without(self, codes: Collection[str]) -> Audit:
        """Return it without the findings of some codes, which become a remark.

        Raises:
            OptionError: There is no such code.
        """
        for code in codes:
            if code not in CODES:
                raise OptionError(f"--ignore {code!r} is no finding: write {', '.join(CODES)}")
        left = tuple(each for each in self.findings if each.code not in codes)
        gone = [each.code for each in self.findings if each.code in codes]
        remark = (f"ignored as asked: {', '.join(gone)}",) if gone else ()
        return replace(self, findings=left, remarks=(*self.remarks, *remark))

    def to_document(self) -> dict[str, Any]:
        """Return it as JSON."""
        reading, one = self.case.reading, self.case.recommended
        return {
            "file": self.case.file,
            "framework": reading.framework,
            "model": reading.model,
            "width": reading.width,
            "depth": reading.depth,
            "gamma": {
                "recommended": self.case.gamma,
                "source": None if one is None else one.source,
                "conditions": [] if one is None else list(one.conditions),
            },
            "matrices": [each.to_document() for each in self.rates],
            "drift": [] if self.drift is None else self.drift.to_document(),
            "saturation": None
            if self.saturation is None
            else self.saturation.to_document(self.case.gamma),
            "findings": [each.to_document() for each in self.findings],
            "remarks": list(self.remarks),
            "critical_version": version("critical"),
        }


def audit(case: Case) -> Audit:
    """Look for everything in a configuration that restrains small initialization."""
    return Audit(
        case=case,
        rates=rates_of(case.reading, case.gamma),
        drift=drift_of(case.reading),
        saturation=saturation_of(case.reading),
        findings=tuple(finding for check in CHECKS for finding in check(case)),
        remarks=remarks_of(case),
    )
