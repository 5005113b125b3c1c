"""Stores to test: a SQLite file and a PostgreSQL database, and records to put there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from critical.storage.records import (
    Band,
    GammaStar,
    Holdout,
    MeasurementRecord,
    NewStudy,
    NewTrial,
    PosteriorRecord,
    Role,
    ScalePosterior,
    TargetPosterior,
)
from critical.storage.store import Store


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path}/critical.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database, of each kind."""
    value: str = request.getfixturevalue(f"{request.param}_url")
    return value


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """An empty store of each kind."""
    with Store.open(url) as opened:
        yield opened


@pytest.fixture
def new_study() -> NewStudy:
    """A study with every field set."""
    return NewStudy(
        name="llama-d256-L4",
        budget_unit="gpu-h",
        budget_total=3600.0,
        rule="balance",
        interval=(0.3, 1.2),
        reference_gamma=0.5,
        target_width=256,
        target_depth=4,
        options={"seed": 1, "nested": {"list": [1, 2.5, None, "γ"]}},
        plan={"widths": [32, 64]},
        target={"model_type": "llama"},
    )


@pytest.fixture
def new_trial() -> NewTrial:
    """A trial about to run, 60 device-seconds reserved."""
    return NewTrial(
        arm="w64/target",
        optuna_number=None,
        role=Role.SEARCH,
        gamma=0.7,
        learning_rate=None,
        width=64,
        depth=2,
        heads=2,
        tokens=5_000_000_000,
        seed=2**40,
        settings="target",
        reserved_seconds=60.0,
    )


@pytest.fixture
def measurements() -> list[MeasurementRecord]:
    """Three measurements of a trial."""
    return [
        MeasurementRecord(1000 * n, 5.0 / n, 0.1 * n, 2.0 * n, {"accuracy": 0.2 * n})
        for n in (1, 2, 3)
    ]


@pytest.fixture
def posterior() -> PosteriorRecord:
    """A posterior of one scale, with a target and a holdout."""
    star = GammaStar(0.71, 0.62, 0.83, (0.66, 0.77), "resolved", 0.97)
    band = Band((0.1, 0.2), (0.2, 0.3), (0.3, 0.4))
    return PosteriorRecord(
        trials=12,
        scales=(
            ScalePosterior(
                width=64,
                settings="target",
                trials=12,
                learned=True,
                gamma=(0.6, 0.7),
                reasoning=band,
                log2_efficiency=band,
                share=band,
                learning_rate=(None, 0.003),
                gamma_star=star,
                draws=(0.1 + 0.2, 1e-17, 0.7),
                reference_gamma=0.5,
                better=0.9,
                expected_loss=0.03,
            ),
        ),
        centre_width=64.0,
        intercept=(0.7, 0.71),
        slope=(0.01, -0.02),
        discrepancy_sd=0.02,
        target=TargetPosterior(256, star, (0.5, 0.9), False, 0.01, (0.7, 0.72)),
        conditional_on_learning_rate=None,
        slope_sd=0.03,
        holdout=Holdout(64, star, star),
    )


@pytest.fixture
def side_by_side(posterior: PosteriorRecord) -> PosteriorRecord:
    """The posterior with further settings, whose γ* at the target is 0.1 higher."""
    assert posterior.target is not None
    star = replace(posterior.target.gamma_star, median=0.81)
    target = replace(posterior.target, gamma_star=star)
    own = replace(posterior.answers[0], settings="relaxed", target=target)
    return replace(posterior, others=(own,))
