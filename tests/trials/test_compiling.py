"""Compiled or not, training goes on; and compiling is advised only where it pays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from critical.trials.compiling import (
    COMPILATION_SECONDS,
    SPEEDUP,
    CompilationWarning,
    available,
    compiled,
    pays,
)

# torch's own, while it loads its compiler
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither a C++ compiler nor anything that was compiled before."""
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "no-such-compiler"))
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.compiler.reset()


def test_without_a_compiler_the_function_itself_runs(no_compiler: None) -> None:
    """It is said once, in one sentence, and gradients flow."""
    calls = []

    def double(x: Tensor) -> Tensor:
        return 2 * x.sin()

    function = compiled(double)
    x = torch.ones(3, requires_grad=True)
    with pytest.warns(CompilationWarning, match=r"could not be compiled .*: install g\+\+") as said:
        calls.append(function(x))
    calls.append(function(x))  # warnings are errors here
    assert len(said) == 1
    assert "\n" not in str(said[0].message)
    for result in calls:
        assert torch.equal(result, double(x))
    calls[0].sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert not available()


COMPILES = """
import torch
from critical.trials.compiling import compiled
torch.set_num_threads(1)
print(compiled(lambda x: (x.sin() + x.cos()).sum())(torch.ones(64)).item())
"""


def test_empty_libraries_of_a_killed_process_are_not_in_the_way(tmp_path: Path) -> None:
    """They are compiled again, to the same bits."""
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", COMPILES]
    found = []
    for killed in (False, True):
        if killed:
            libraries = list(tmp_path.rglob("*.so"))
            assert libraries
            for library in libraries:
                library.write_bytes(b"")
                os.utime(library, (0, 0))
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert "could not be compiled" not in ended.stderr
        found.append(ended.stdout)
    assert found[0] == found[1]


def test_an_error_of_the_function_is_its_own() -> None:
    """Only what compiling raises is answered by running uncompiled."""

    def fail(x: Tensor) -> Tensor:
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        compiled(fail)(torch.ones(1))


def test_a_compiler_without_the_headers_of_python_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Compiled code is loaded as a module of Python."""
    compiler = tmp_path / "c++"
    compiler.touch(mode=0o755)
    monkeypatch.setenv("CXX", str(compiler))
    headers = tmp_path / "include"
    headers.mkdir()
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"include": str(headers)})
    assert not available()
    (headers / "Python.h").touch()
    assert available()


@given(st.floats(0, 1e6))
def test_it_pays_where_more_is_saved_than_spent(seconds: float) -> None:
    """What is saved at the least speedup, against what compiling takes."""
    saved = seconds - seconds / SPEEDUP
    assert not pays(seconds) or saved > COMPILATION_SECONDS
    assert pays(seconds) <= pays(2 * seconds)
    assert pays(3600) > pays(10)
