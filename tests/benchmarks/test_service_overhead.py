"""The service's overhead is measured on a real search, and every second is booked once."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import service_overhead as benchmark


def test_seconds_belong_to_the_innermost_call() -> None:
    """A call's own time is its own, whatever it called; a trial ends when it is told to."""
    clock = benchmark.Clock()
    store = SimpleNamespace(write=lambda: time.sleep(0.02))

    def finish() -> None:
        time.sleep(0.01)
        store.write()

    search = SimpleNamespace(finish=finish)
    clock.wrap(store, "write", "store")
    clock.wrap(search, "finish", "finish", ends=True)
    search.finish()
    search.finish()
    assert [set(trial) for trial in clock.trials] == [{"finish", "finish/store"}] * 2
    assert all(0.01 <= trial["finish"] < trial["finish/store"] for trial in clock.trials)


def test_a_search_is_measured_trial_by_trial(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every part of the service is seen, and the row's columns are those of its header."""
    arguments = ["", "--budget", "14trials", "--sampler", "random", "--widths", "32", "--at", "14"]
    monkeypatch.setattr(sys, "argv", arguments)
    benchmark.main()
    title, header, row = capsys.readouterr().out.splitlines()
    assert title.startswith("14 trials in")
    assert len(header.split()) - 2 == len(row.split())
    spent = dict(zip(header.split(), map(float, row.rstrip("%").split()), strict=False))
    assert spent["trials"] == 14
    assert all(spent[name] > 0 for name in benchmark.COLUMNS)
    assert spent["total"] <= spent["greatest"]
