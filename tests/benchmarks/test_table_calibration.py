"""Posteriors of real runs: what is picked for them, and how they are judged."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from table_calibration import Judge, Table, picked, scores, taken
from table_file import read

from critical.inference.posterior import PosteriorSpec, compute


@pytest.fixture(scope="module")
def table() -> Table:
    """The table of fresh seeds."""
    return taken(read("truth"))


def test_a_run_is_picked_once_and_the_references_always(table: Table) -> None:
    """As many runs as are wanted, or all that there are; none of a seed that was not drawn."""
    own = set(table.seeds[:2])
    for wanted in (6, 12, 1000):
        found = picked(table.cells[64], own, wanted, 0.7, np.random.default_rng(0))
        keys = {(run.gamma, run.seed) for run in found}
        assert len(keys) == len(found) == min(wanted, len(table.cells[64]) // 4)
        assert {run.seed for run in found if run.reference} == own


def test_a_judge_knows_its_own_gamma_and_how_well(table: Table) -> None:
    """It loses nothing there, and covers what is further away the less it knows."""
    judge = Judge.of(table.surfaces[64], np.random.default_rng(0))
    assert judge.lost(judge.at.star) == 0
    assert judge.lost(judge.at.star + 0.2) > 0.1
    runs = [run for cells in table.cells.values() for run in cells.values()]
    spec = PosteriorSpec(table.interval, 0.5)
    scale = compute(runs, spec, np.random.default_rng(0)).scales[0]
    half = scale.gamma_star.high - scale.gamma_star.median
    away = replace(judge.at, star=scale.gamma_star.high + half)
    beyond = Judge(away, error=0.0)
    assert judge.covered(scale)
    assert not beyond.covered(scale)
    assert replace(beyond, error=2 * half).covered(scale)


def test_every_width_is_judged_by_seeds_that_were_not_seen(table: Table) -> None:
    """One score a width and repeat."""
    found = list(scores(table, runs=10, seeds=2, repeats=2))
    assert len(found) == 2 * len(table.cells)
    assert all(0 <= one.lost <= 1 and one.extent > 0 for one in found)
