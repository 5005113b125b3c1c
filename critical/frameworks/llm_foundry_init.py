"""LLM Foundry's initializations by their formulas, as ``model.init_config`` names them.

Quantities:
    std       of a matrix, or of an embedding
    γ         of ``critical_γ``, which the module in code_paths registers: std = fan_in^−γ, always
    fan_in    of a matrix; fan_out of the part of it that is drawn at once: of fused or separate
              queries, keys and values each head is
    divisor   of the std of residual projections (attn.out_proj and ffn.down_proj)

Source: llm-foundry 0.22, models/utils/param_init_fns.py, and the defaults of
models/utils/config_defaults.py.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from critical.targets.config_keys import Keys

_GAINS = {
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "selu": 3 / 4,
}
"""torch.nn.init.calculate_gain, of all but leaky_relu."""
_GAMMA = re.compile(r"\d{1,20}(\.\d{1,20})?(e-\d{1,3})?")
_LARGEST_GAMMA = 4.0
OURS = "critical_"
"""What the name of the initialization that an export's module registers begins with; γ follows."""
NAMES = (
    "baseline_",
    "default_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "neox_init_",
    "small_init_",
    "xavier_normal_",
    "xavier_uniform_",
)


@dataclass(frozen=True, slots=True)
class Initialization:
    """How LLM Foundry draws.

    Attributes:
        name: Of the initialization.
        width: d_model.
        depth: Blocks.
        init_std: Of baseline_.
        gain: Of kaiming's and xavier's.
        fan_out: Whether kaiming's fan is fan_out.
        divisor: Of the std of residual projections; 1 for none.
        embedding_std: Where the configuration gives embeddings one of their own.
        gamma: Of critical_γ; None of all others.
    """

    name: str
    width: int
    depth: int
    init_std: float
    gain: float
    fan_out: bool
    divisor: float
    embedding_std: float | None
    gamma: float | None = None

    @classmethod
    def read(cls, init: Keys, width: int, depth: int) -> Initialization:
        """Read init_config.

        Raises:
            CriticalError: It names what is not known here, or lacks what that needs.
        """
        name = init.text("name", "kaiming_normal_")
        if name.startswith(OURS):
            gamma = _gamma(init, name)
            return cls(OURS, width, depth, 0.0, 0.0, False, 1.0, None, gamma)
        if name not in NAMES:
            raise init.error(
                f"name {name[:40]!r} is not known to draw: write one of {', '.join(NAMES)}"
            )
        if name == "baseline_" and init.values.get("init_std") is None:
            raise init.error("name is baseline_, and init_std is missing: write one, as 0.02")
        fan_mode = init.text("fan_mode", "fan_in")
        if fan_mode not in ("fan_in", "fan_out"):
            raise init.error(f"fan_mode is {fan_mode[:40]!r}: write fan_in, or fan_out")
        return cls(
            name=name,
            width=width,
            depth=depth,
            init_std=init.number(("init_std",), 0.0),
            gain=_gain(init, name),
            fan_out=fan_mode == "fan_out",
            divisor=_divisor(init, name, depth),
            embedding_std=None if name == "default_" else _embedding_std(init),
        )

    def std(self, fan_in: int, fan_out: int) -> float:
        """Return the std of a linear layer that is no residual projection."""
        if self.gamma is not None:
            return float(fan_in**-self.gamma)
        if self.name == "baseline_":
            return self.init_std
        if self.name in ("small_init_", "neox_init_"):
            return math.sqrt(2 / (5 * self.width))
        if self.name.startswith("kaiming"):
            return self.gain / math.sqrt(fan_out if self.fan_out else fan_in)
        if self.name.startswith("xavier"):
            return self.gain * math.sqrt(2 / (fan_in + fan_out))
        return torch_linear(fan_in)

    def residual(self, fan_in: int, fan_out: int) -> float:
        """Return the std of a residual projection."""
        return self.std(fan_in, fan_out) / self.divisor

    def embedding(self, rows: int) -> float:
        """Return the std of an embedding of that many rows."""
        if self.embedding_std is not None:
            return self.embedding_std
        return 1.0 if self.name == "default_" else self.std(self.width, rows)


def _gamma(init: Keys, name: str) -> float:
    text = name.removeprefix(OURS)
    if not _GAMMA.fullmatch(text) or float(text) > _LARGEST_GAMMA:
        raise init.error(
            f"name {name[:40]!r} does not say with which γ critical_init.py draws: write the NAME "
            f"that it registers, as {OURS}0.7"
        )
    return float(text)


def torch_linear(fan_in: int) -> float:
    """Return the std of torch's own Linear: uniform in ±1/√fan_in."""
    return 1 / math.sqrt(3 * fan_in)


def leaky_slope(width: int, gamma: float) -> float | None:
    """Return the init_gain by which kaiming's leaky_relu gives std = width^−γ at that fan-in.

    Its gain √(2/(1 + slope²)) is to be width^(0.5 − γ); None where that is over √2.
    """
    squared = 2 / width ** (1 - 2 * gamma) - 1
    return math.sqrt(squared) if squared >= 0 else None


def _gain(init: Keys, name: str) -> float:
    given = init.number(("init_gain",), 0.0)
    if name.startswith("xavier"):
        return given
    how = init.text("init_nonlinearity", "relu")
    if how == "leaky_relu":
        return math.sqrt(2 / (1 + given * given))
    if how not in _GAINS:
        known = ", ".join([*_GAINS, "leaky_relu"])
        raise init.error(f"init_nonlinearity is {how[:40]!r}: write one of {known}")
    return _GAINS[how]


def _divisor(init: Keys, name: str, depth: int) -> float:
    if name == "default_":
        return 1.0
    if name == "neox_init_":
        return depth / math.sqrt(10)
    value: Any = init.values.get("init_div_is_residual", True)
    if isinstance(value, bool):
        return math.sqrt(2 * depth) if value else 1.0
    if isinstance(value, str) and value.isnumeric():
        value = float(value)
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        raise init.error("init_div_is_residual is no divisor: write true, false, or a number")
    return float(value)


def _embedding_std(init: Keys) -> float | None:
    if init.values.get("emb_init_std") is not None:
        return init.number(("emb_init_std",), 0.0)
    limits: Any = init.values.get("emb_init_uniform_lim")
    if limits is None:
        return None
    if not isinstance(limits, list):
        limit = init.number(("emb_init_uniform_lim",), 0.0)
        limits = [-limit, limit]
    numbers = [each for each in limits if isinstance(each, int | float)]
    if len(limits) != 2 or len(numbers) != 2 or numbers[0] > numbers[1]:
        raise init.error("emb_init_uniform_lim is no limit: write a number, or two of them")
    return float(numbers[1] - numbers[0]) / math.sqrt(12)
