"""Whether and how to compile training steps; without a compiler they run as they are.

Compiled on the CPU, the built-in trial comes to the same bits again in the same process, in
another one, and after an interruption; but not to those of the trial that is not compiled. So
whether to compile is one choice for a whole study.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch
from torch.utils._triton import has_triton

P = ParamSpec("P")
T = TypeVar("T")

SPEEDUP = 1.3
"""The least that was measured on the CPU, at widths 32 to 128."""
COMPILATION_SECONDS = 60.0
"""What a process takes to compile one shape for the first time, by the wall: 15 CPU seconds of it
and its compilers, and several times as long where other workers compile at the same time. The next
process finds the result on the disk and takes a third of that."""
_LINKING_SECONDS = 60.0
"""What a linker takes at the most between creating a library and writing it."""
_SHAPES = 256
"""Shapes that a process may compile; from the ninth on torch would go uncompiled unasked."""
_MARGIN = 2.0
"""How many times over it must pay, for a prediction is no promise."""


class CompilationWarning(UserWarning):
    """Training steps could not be compiled."""


def available(device: str = "cpu") -> bool:
    """Whether this machine has what compiling needs; that it works is only seen by compiling.

    On the CPU a C++ compiler, ``CXX`` or g++, and Python's own headers; elsewhere Triton.
    """
    if torch.device(device).type != "cpu":
        return bool(has_triton())
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    return shutil.which(os.environ.get("CXX", "g++")) is not None and headers.exists()


def pays(seconds: float) -> bool:
    """Whether compiling saves clearly more time than it takes.

    Args:
        seconds: What one process is expected to train at one shape without compiling, in all its
            trials together, seconds.
    """
    return seconds * (1 - 1 / SPEEDUP) > _MARGIN * COMPILATION_SECONDS


def compiled(function: Callable[P, T]) -> Callable[P, T]:
    """Return a function compiled at its first call, or itself where that fails.

    It must have no side effects: after a failure it is called again. That is said once, by a
    ``CompilationWarning``.

    Args:
        function: Of tensors, whose shapes seldom change: each takes a compilation.
    """
    import torch._dynamo.config as limits
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    _remove_empty_libraries()
    limits.recompile_limit = max(limits.recompile_limit, _SHAPES)
    limits.accumulated_recompile_limit = max(limits.accumulated_recompile_limit, _SHAPES)
    limits.fail_on_recompile_limit_hit = True  # or it would go on uncompiled, with other bits
    fast = torch.compile(function, dynamic=False)

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        nonlocal fast
        if fast is not function:
            try:
                return fast(*args, **kwargs)
            except (TorchDynamoException, FailOnRecompileLimitHit) as error:
                fast = function
                _warn(error)
        return function(*args, **kwargs)

    return call


@cache
def _remove_empty_libraries() -> None:
    """Remove what a process has left that was killed while it compiled, where others look for it.

    An empty library is an error, or worse: one of those by which inductor finds out this machine's
    vector instructions says that there are none, and then other bits come out.
    """
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    for library in Path(cache_dir()).rglob("*.so"):
        with suppress(OSError):
            found = library.stat()
            if found.st_size == 0 and time.time() - found.st_mtime > _LINKING_SECONDS:
                library.unlink()


def _warn(error: Exception) -> None:
    lines = str(error).strip().splitlines()
    warnings.warn(
        "training steps could not be compiled and run uncompiled, more slowly and with other "
        f"roundings ({lines[0] if lines else type(error).__name__}): install g++ and the headers "
        "of Python, or leave compiling off",
        CompilationWarning,
        stacklevel=3,
    )
