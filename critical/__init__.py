"""Critical finds the critical initialization of a language model from short proxy runs.

import critical
critical.initialize(model, gamma=0.8)      # any nn.Module: std = fan_in^−γ
critical.run_search(budget="10cpu-min")    # what ``critical search`` does
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from critical.api import recommendation, run_search
    from critical.trials.initialization import initialize

__all__ = ["initialize", "recommendation", "run_search"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import torch and Ray only once something that needs them is asked for."""
    if name == "initialize":
        from critical.trials.initialization import initialize

        return initialize
    if name in ("recommendation", "run_search"):
        from critical import api

        return getattr(api, name)
    raise AttributeError(f"module 'critical' has no attribute {name!r}")
