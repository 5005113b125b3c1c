"""What starting Ray leaves as it was, without starting it."""

from __future__ import annotations

import os
import signal

import pytest

from critical.running.ray_processes import _environment, _keeping_sigterm


def test_sigterm_stays_with_who_had_it() -> None:
    """Ray's own handler would end a search that is to save its trials first."""
    before = signal.getsignal(signal.SIGTERM)
    with _keeping_sigterm():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was set, what was not, and what was unset meanwhile."""
    monkeypatch.setenv("CRITICAL_STORAGE", "secret")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    before = dict(os.environ)
    values = {"CRITICAL_STORAGE": None, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0"}
    with pytest.raises(KeyError), _environment(values):
        assert {name: os.environ.get(name) for name in values} == values
        raise KeyError
    assert dict(os.environ) == before
