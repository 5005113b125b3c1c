"""The tables of proxy runs: which runs are due, what is kept of them, what they are read for."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import table_file
from proxy_tables import run_one
from table_designs import DESIGNS, Design, Ended, Spec, best_rates, rates_at, rates_beside
from table_designs import NARROW_RATES as RATES
from table_file import TableFile
from table_findings import Estimate
from table_surfaces import balance, resampled, stars, surfaces

from critical.trials import Measurement
from critical.trials.training import TrainingRecipe

DESIGN = Design("small", "a test", (32, 48), (0.3, 0.5, 0.8), (0.4, 0.6), (0, 1))


def loss_of(spec: Spec) -> float:
    """Say which rate is best: 1.5e-3 at 0.3 and 3e-3 from 0.5 on."""
    best = RATES[0] if spec.gamma < 0.45 else RATES[1]
    return 1.0 + abs(math.log(spec.learning_rate / best))


def completed(design: Design) -> dict[Spec, Ended]:
    """Run a design to its end, as its maker does."""
    ended: dict[Spec, Ended] = {}
    while due := [spec for spec in design.due(list(ended.values())) if spec not in ended]:
        ended[due[0]] = Ended(due[0], loss_of(due[0]))
    return ended


def test_every_rate_is_run_on_the_coarse_grid_only() -> None:
    """Between, only the rates from the best one below to the best one above."""
    ended = completed(DESIGN)
    rates: dict[float, set[float]] = {}
    for spec in ended:
        rates.setdefault(spec.gamma, set()).add(spec.learning_rate)
    assert all(rates[gamma] == set(RATES) for gamma in DESIGN.coarse)
    assert rates[0.4] == {RATES[0], RATES[1]}
    assert rates[0.6] == {RATES[1]}
    assert len(ended) == 2 * 2 * (3 * 3 + 2 + 1)


def test_nothing_between_is_due_before_the_coarse_grid_is_whole() -> None:
    """A rate chosen from some seeds might not be the best one of all."""
    ended = completed(DESIGN)
    last = Spec(48, 0.8, RATES[2], 1)
    without = [one for spec, one in ended.items() if spec != last]
    due = {(spec.width, spec.gamma) for spec in DESIGN.due(without)}
    assert (48, 0.6) not in due
    assert (32, 0.6) in due


def test_a_diverged_seed_rules_its_rate_out() -> None:
    """However good its other seeds are."""
    ended = [
        Ended(Spec(32, 0.5, rate, seed), math.inf if (rate, seed) == (RATES[0], 1) else rate)
        for rate in RATES
        for seed in (0, 1)
    ]
    assert best_rates(ended)[32][0.5].rate == RATES[1]


def test_rates_between_two_best_ones_are_run_too() -> None:
    """The best one may lie between those of its neighbours."""
    assert rates_beside(0.6, {0.5: RATES[0], 0.8: RATES[2]}, RATES) == RATES
    assert rates_beside(0.2, {0.5: RATES[1]}, RATES) == (RATES[1],)
    assert rates_beside(0.2, {}, RATES) == ()


def test_a_rate_of_an_older_design_is_no_best_one() -> None:
    """Wide scales have lower rates; a row at another one is left in the table and not chosen."""
    ended = [Ended(Spec(96, 0.5, rate, 0), 1.0) for rate in rates_at(96)]
    ended.append(Ended(Spec(96, 0.5, RATES[2], 0), 0.1))
    assert best_rates(ended)[96][0.5].rate == rates_at(96)[0]


def test_the_designs_have_the_reference_at_every_rate() -> None:
    """Without it there is no efficiency."""
    for design in DESIGNS.values():
        assert 0.5 in (design.coarse or design.fine)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TableFile]:
    """Return a table in a folder of the test's own."""
    monkeypatch.setattr(table_file, "FOLDER", tmp_path)

    def made(**made_of: str) -> TableFile:
        return TableFile("small", tmp_path / "work", {"corpus": "a", **made_of})

    return made


def rows_of(spec: Spec, reasoning: float = 0.5, speed: float = 1.0) -> list[dict[str, object]]:
    """Return the rows of a run whose loss falls as its tokens to the power of −speed."""
    return [
        table_file.row(
            spec, 2, Measurement(t, 4.0 * t**-speed, reasoning, {"trained_accuracy": 1.0}), 0.1
        )
        for t in range(1, 21)
    ]


def test_a_table_is_gathered_from_its_parts(make: Callable[..., TableFile]) -> None:
    """Nothing is lost or doubled when it goes on, and its rows are in order."""
    table = make()
    table.add(Spec(64, 0.5, 3e-3, 0), rows_of(Spec(64, 0.5, 3e-3, 0)))
    assert table.gather().num_rows == 20
    again = make(versions="others")
    again.add(Spec(32, 0.5, 3e-3, 0), rows_of(Spec(32, 0.5, 3e-3, 0)))
    found = again.gather()
    assert found["width"].to_pylist() == [32] * 20 + [64] * 20
    assert make().gather().equals(found)
    assert {one.spec.width: one.loss for one in table_file.ended(found)} == {
        32: pytest.approx(0.2),
        64: pytest.approx(0.2),
    }


def test_a_table_of_other_text_is_not_gone_on_with(make: Callable[..., TableFile]) -> None:
    """Its runs would not be comparable."""
    make().add(Spec(64, 0.5, 3e-3, 0), rows_of(Spec(64, 0.5, 3e-3, 0)))
    make().gather()
    with pytest.raises(SystemExit, match="was made with corpus a and would go on with b"):
        make(corpus="b")


def test_a_diverged_run_has_no_least_loss(make: Callable[..., TableFile]) -> None:
    """It is kept, and is never the best."""
    spec = Spec(64, 0.5, 3e-3, 0)
    table = make()
    table.add(spec, [table_file.row(spec, 2, Measurement(9, math.inf, 0.0), 0.1)])
    assert [one.loss for one in table_file.ended(table.gather())] == [math.inf]


def test_a_real_run_fills_every_column() -> None:
    """The trial's own names are those of the table."""
    recipe = TrainingRecipe(
        None, mixture={"reasoning": 0.7, "memory": 0.3}, batch_tokens=128, evaluations=5
    )
    design = Design("small", "a test", (16,), (), (), (), tokens=2_000)
    rows = json.loads(json.dumps(run_one(recipe, design, Spec(16, 0.7, 3e-3, 4))))
    assert len(rows) == 5
    textless = {"loss_text", "accuracy_text"}
    for one in rows:
        assert set(one) == set(table_file.SCHEMA.names)
        assert {name for name, value in one.items() if value is None} == textless
    assert rows[-1]["device_seconds"] > rows[0]["device_seconds"] > 0


def test_gamma_star_of_a_table_is_where_its_curves_balance(
    make: Callable[..., TableFile],
) -> None:
    """R grows with γ and ρ falls with it, so that their shares cross at a known place."""
    table = make()
    for gamma in np.round(np.arange(0.3, 1.21, 0.05), 2).tolist():
        for rate in RATES:
            for seed in (0, 1, 2):
                spec = Spec(64, gamma, rate, seed)
                slower = 0.5 if rate == RATES[1] else 0.25
                table.add(spec, rows_of(spec, gamma / 1.2, slower * (1.8 - gamma)))
    found = surfaces(table.gather(), 64)
    at = balance(found, range(3))
    assert at.most_reasoning == pytest.approx(1.2, abs=0.02)
    assert at.most_efficient == pytest.approx(0.3, abs=0.02)
    reasoning, efficiency = (
        at.reasoning / at.reasoning.max(),
        2 ** (at.efficiency - at.efficiency.max()),
    )
    crossing = at.gamma[np.argmin(np.abs(reasoning - efficiency))]
    assert at.star == pytest.approx(crossing, abs=0.02)
    draws = stars(found, resampled(3, 20, np.random.default_rng(0)))
    assert np.ptp(draws) < 1e-9  # all seeds are the same here
    assert found.at_rate(RATES[2]).rates.tolist() == [RATES[2]]
    assert found.of_seeds([2]).seeds == (2,)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.05, 0.09, "robust"),
        (0.06, 0.09, "robust"),
        (0.06, 0.3, "conditional"),
        (-0.2, 0.2, "unresolved"),
        (math.nan, math.nan, "one seed only"),
    ],
)
def test_a_verdict_is_of_the_whole_interval(low: float, high: float, expected: str) -> None:
    """Not of its middle; one seed has none."""
    assert Estimate(0.0, low, high).verdict == expected


def test_intervals_of_few_seeds_cover() -> None:
    """Nine times in ten, where a bare bootstrap of three seeds would six times in ten."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        values = rng.normal(0.7, 0.05, 3)
        draws = values[rng.integers(0, 3, (400, 3))].mean(axis=1)
        found = Estimate.of(float(values.mean()), draws, 3)
        covered.append(found.low <= 0.7 <= found.high)
    assert 0.85 < np.mean(covered) < 0.95


def test_a_part_that_was_gathered_already_is_not_doubled(
    make: Callable[..., TableFile], tmp_path: Path
) -> None:
    """A maker may die between writing the table and removing its parts."""
    table, spec = make(), Spec(64, 0.5, 3e-3, 0)
    table.add(spec, rows_of(spec))
    (part,) = (tmp_path / "work" / "small").glob("*.json")
    content = part.read_bytes()
    table.gather()
    part.write_bytes(content)
    assert table.gather().num_rows == 20
