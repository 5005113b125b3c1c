"""``critical search --repeat`` as a user has it: the same again, and what an edit changes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from critical.plan import BASE_TOKENS

Cli = Callable[..., "subprocess.CompletedProcess[str]"]

OWN = """
from dataclasses import replace
from runpy import run_path
whole = run_path({path!r})["train"]
def train(run):
    for measurement in whole(run):
        yield {measurement}
"""
DIMMED = "replace(measurement, reasoning=measurement.reasoning * (0.5 if run.gamma > 0.9 else 1))"


def test_a_search_is_run_again_from_the_store(cli: Cli, tmp_path: Path, analytic: str) -> None:
    """From another folder and with nothing but its name; edited, its trial comes out otherwise."""
    path = analytic.rpartition(":")[0]
    (tmp_path / "own.py").write_text(OWN.format(path=path, measurement="measurement"))
    done = cli(
        "search", "--budget", "7trials", "--study", "demo", "--trainable", "own.py:train",
        "--widths", "32", "--workers", "0", "--sampler", "random", "--json", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout)

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    store = ("--storage", f"sqlite:///{tmp_path}/critical.db")
    done = cli("search", "--repeat", "demo", *store, "--json", cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert (again["study"], again["state"]) == ("demo-repeat", "finished")
    assert again["gamma"] == first["gamma"]
    assert again["repeat"] == {
        "of": "demo", "trials": 7, "same": 7, "differing": [], "ended_otherwise": [], "left": 0,
        "environment": {},
    }  # fmt: skip
    same = "7 of 7 trials are the same to the bit as those of 'demo'"
    assert done.stderr.splitlines()[-1] == same

    (tmp_path / "own.py").write_text(OWN.format(path=path, measurement=DIMMED))
    done = cli("search", "--repeat", "demo", "--study", "edited", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "γ* " in done.stdout
    rows = json.loads(cli("trials", "demo", "--json", cwd=tmp_path).stdout)
    dimmed = [row["number"] for row in rows if row["gamma"] > 0.9]
    assert 0 < len(dimmed) < 5
    summary, *sentences = done.stderr.splitlines()[-1 - len(dimmed) :]
    assert summary == f"{7 - len(dimmed)} of 7 trials are the same to the bit as those of 'demo'"
    first = BASE_TOKENS // 500  # of the analytic trial's evaluations
    for number, sentence in zip(dimmed, sentences, strict=True):
        assert sentence.startswith(
            f"trial {number} differs from trial {number} of 'demo' from token {first} on: R 0."
        )
