"""What an audit says of a configuration, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Certainty = Literal["measured", "derived", "hypothesis"]
"""``derived``: by a formula from the file's numbers; ``hypothesis``: whether it matters is open."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing in a configuration that restrains small initialization, or makes it not one γ.

    Attributes:
        code: What it is called wherever it is found, as ``norm-eps``.
        what: One sentence with this file's numbers.
        why: The formula, and where it comes from.
        instead: What to write, or which command tells.
        certainty: How sure that is.
        numbers: Those behind it, as JSON knows them.
    """

    code: str
    what: str
    why: str
    instead: str
    certainty: Certainty
    numbers: Mapping[str, Any]

    def to_document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)
