"""Which of LLM Foundry's initializations misses γ by the least: one std, or one gain, for all.

Under one std = d^−γ a matrix of fan-in f is off by (f/d)^γ; under one gain, std = d^(0.5−γ)/√f,
by (f/d)^(γ−0.5). The gain is that of a leaky ReLU of slope init_gain, which reaches up to √2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from critical.errors import ExportError
from critical.frameworks.documents.document import Scalar
from critical.frameworks.llm_foundry_init import Initialization, leaky_slope
from critical.frameworks.llm_foundry_model import HEAD, Mpt
from critical.targets.config_keys import Keys


@dataclass(frozen=True, slots=True)
class Choice:
    """The keys of init_config to set.

    Attributes:
        values: By key.
        why: A sentence where there was another; None where both are exact.
    """

    values: Mapping[str, Scalar]
    why: str | None


def nearest(mpt: Mpt, gamma: float) -> Choice:
    """Return the initialization whose worst matrix is the nearest to γ."""
    std = float(mpt.width**-gamma)
    for_all: dict[str, Scalar] = {"init_div_is_residual": False, "emb_init_std": std}
    one_std: dict[str, Scalar] = {"name": "baseline_", "init_std": std, **for_all}
    slope = leaky_slope(mpt.width, gamma)
    off = _worst(mpt, one_std, gamma)
    if slope is None:
        return Choice(one_std, _why(off, "one gain for all would need more than √2"))
    one_gain: dict[str, Scalar] = {
        "name": "kaiming_normal_",
        "fan_mode": "fan_in",
        "init_nonlinearity": "leaky_relu",
        "init_gain": slope,
        **for_all,
    }
    off_by_gain = _worst(mpt, one_gain, gamma)
    if off <= off_by_gain:
        other = f"one gain for all (kaiming_normal_) is {off_by_gain:.2f}× off"
        return Choice(one_std, _why(off, other))
    gain = math.sqrt(mpt.width) * std
    return Choice(
        one_gain,
        f"init_gain {slope:.6g} is a leaky ReLU's slope, of gain {gain:.6g}, so that every matrix "
        f"has {gain:.6g}/√fan_in: at worst {off_by_gain:.2f}× off, while one std for all "
        f"(baseline_) is {off:.2f}× off",
    )


def _why(off: float, other: str) -> str | None:
    if off < 1.001:
        return None
    return f"one std for all (baseline_) is at worst {off:.2f}× off, while {other}"


def _worst(mpt: Mpt, how: Mapping[str, Scalar], gamma: float) -> float:
    """Return the factor, at least 1, by which the worst matrix that init_config reaches is off."""
    init = Initialization.read(Keys(how, "", None, error=ExportError), mpt.width, mpt.depth)
    reached = [each for each in mpt.matrices(init) if each.name != HEAD or mpt.head_drawn]
    off = (abs(math.log(each.configured_std / each.wanted_std(gamma))) for each in reached)
    return math.exp(max(off))
