"""torchtitan's initializers, as its dumped configurations print them.

A dump holds ``repr`` of every callable, as in
``functools.partial(<function trunc_normal_ at 0x7f…>, std=0.02)``: name and arguments tell the std.
"""

from __future__ import annotations

import math
import re

from critical.frameworks.truncation import kept

_CALLED = re.compile(
    r"(?:functools\.partial\()?<function (?P<name>\w+) at 0x[0-9a-fA-F]{1,16}>"
    r"(?P<arguments>(?:, \w{1,20}=[-+.\w]{1,40}){0,6})\)?"
)
_FUSED = "<function _fused_qkv_param_init."
_DEFAULTS = {
    "normal_": {"mean": 0.0, "std": 1.0},
    "trunc_normal_": {"mean": 0.0, "std": 1.0, "a": -2.0, "b": 2.0},
    "zeros_": {},
}


def is_fused(printed: object) -> bool:
    """Return whether it is the wrapper that draws a fused QKV in three parts, and hides its std."""
    return isinstance(printed, str) and printed.startswith(_FUSED)


def is_skipped(printed: object) -> bool:
    """Return whether the parameter is left to the one that it is tied to."""
    return isinstance(printed, str) and printed.startswith("<function skip_param_init ")


def drawn_std(printed: object) -> float | None:
    """Return the std that an initializer draws with, or None where it is not known.

    ``trunc_normal_`` cuts at absolute values, ±2 where nothing else is said: 0.02 is as good as
    uncut, and a cut at ±3 std draws 0.9866 of its std (torch, nn/init.py).
    """
    match = _CALLED.fullmatch(printed) if isinstance(printed, str) else None
    if match is None or match["name"] not in _DEFAULTS:
        return None
    given = _numbers(match["arguments"])
    values = {**_DEFAULTS[match["name"]], **given} if given is not None else {"unknown": 0.0}
    if set(values) - set(_DEFAULTS[match["name"]]) or values.get("mean", 0.0) != 0:
        return None
    if match["name"] == "zeros_":
        return 0.0
    std = values["std"]
    if match["name"] == "normal_" or std == 0:
        return std if std >= 0 else None
    low, high = values["a"], values["b"]
    if std < 0 or high <= 0 or not math.isclose(-low, high, rel_tol=1e-9):
        return None
    return std * kept(high / std)


def _numbers(arguments: str) -> dict[str, float] | None:
    found: dict[str, float] = {}
    for part in filter(None, arguments.split(", ")):
        key, _, text = part.partition("=")
        try:
            found[key] = float(text)
        except ValueError:
            return None
    return found if all(math.isfinite(value) for value in found.values()) else None
