"""What every check has in common: a bundle read, and a model's matrices measured by their names.

A bundle is what ``critical export --bundle`` writes: report.json, and where there is one the edited
configuration and critical_init.py. This file imports torch and the standard library alone.

Quantities:
    measured   std over all parameters of one name pattern, in float64
    tolerance  max(4 / √(2n), 0.005), relative: 4 standard errors of the std of n normal draws
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

_NUMBER = re.compile(r"\.\d+(?=\.|$)")
Stds = Mapping[str, tuple[float, int]]
"""(std, number of weights) by name pattern."""


def report_of(bundle: Path) -> dict[str, Any]:
    """Return a bundle's report.json."""
    report: dict[str, Any] = json.loads((bundle / "report.json").read_text("utf-8"))
    return report


def empty(model: nn.Module) -> nn.Module:
    """Make a model's parameters real and NaN, so that what nothing draws is seen."""
    model.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(math.nan)
    return model


def stds(model: nn.Module, report: Mapping[str, Any]) -> dict[str, tuple[float, int]]:
    """Measure a model's matrices under the names that a report has for them.

    Raises:
        ValueError: A name, a shape or a count of the report is not the model's.
    """
    known = {each["name"]: each for each in report["matrices"]}
    found: dict[str, list[torch.Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2 or name.endswith("bias"):
            continue
        key = next((each for each in (name, *_patterns(name)) if each in known), None)
        if key is None or list(parameter.shape) != known[key]["shape"]:
            raise ValueError(f"{name} {tuple(parameter.shape)} is not in the report")
        found.setdefault(key, []).append(parameter.detach())
    counts = {name: len(found.get(name, ())) for name in known}
    if counts != {name: each["count"] for name, each in known.items()}:
        raise ValueError(f"the report counts other matrices than the model has: {counts}")
    return {name: _std(tensors) for name, tensors in found.items()}


def compared(report: Mapping[str, Any], edited: Stds, hooked: Stds | None) -> dict[str, Any]:
    """Return one row a matrix: what was wanted and expected, and what was measured."""
    rows = {}
    for each in report["matrices"]:
        name = each["name"]
        measured, n = edited[name]
        tolerance = max(4 / math.sqrt(2 * n), 0.005)
        ok = _within(measured, each["yielded"], tolerance)
        hook = None if hooked is None else hooked[name][0]
        if hook is not None and each["hooked"] is not None:
            ok = ok and _within(hook, each["hooked"], tolerance)
        rows[name] = {
            "shape": each["shape"],
            "n": n,
            "wanted": each["wanted"],
            "expected": each["yielded"],
            "measured_edit": measured,
            "measured_hook": hook,
            "tolerance": tolerance,
            "ok": ok,
        }
    return rows


def main(check: Callable[[Path], dict[str, Any]]) -> None:
    """Run a check on the bundle that the command line names, and write its rows."""
    bundle, out = Path(sys.argv[1]), Path(sys.argv[2])
    torch.manual_seed(1)
    out.write_text(json.dumps(check(bundle), indent=2) + "\n", encoding="utf-8")


def _patterns(name: str) -> tuple[str, str]:
    every = _NUMBER.sub(".*", name)
    first = _NUMBER.search(name)
    if first is None:
        return every, every
    return every, name[: first.end()] + _NUMBER.sub(".*", name[first.end() :])


def _std(tensors: list[torch.Tensor]) -> tuple[float, int]:
    joined = torch.cat([tensor.double().flatten() for tensor in tensors])
    return float(joined.std()), joined.numel()


def _within(measured: float, expected: float, tolerance: float) -> bool:
    return bool(expected) and abs(measured / expected - 1) <= tolerance
