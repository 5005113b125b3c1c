"""What holds attention at bay: a gate, or norms of queries and keys."""

from __future__ import annotations

from collections.abc import Iterator

from critical.audit.case import Case
from critical.audit.finding import Finding


def attention_sinks(case: Case) -> Iterator[Finding]:
    """Find attention without a gate and without QK-norm; where either is not known, nothing."""
    attention = case.reading.attention
    if attention.gated is not False or attention.qk_norm is not False:
        return
    yield Finding(
        code="attention-sinks",
        what="attention has neither an output gate nor QK-norm, so it can form sinks",
        why="heads with nothing to add put their weight on one token; a sigmoid gate before the "
        "output projection removes that (arXiv 2505.06708); that sinks hide what small "
        "initialization gains is known from one third-party note on arXiv 2606.17945 alone",
        instead="compare before you change the architecture: critical search --settings "
        "target,relaxed, of which relaxed has the gate",
        certainty="hypothesis",
        numbers={"gated": attention.gated, "qk_norm": attention.qk_norm},
    )
