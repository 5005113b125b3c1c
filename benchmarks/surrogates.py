"""Whether our own Gaussian process earns its place beside BoTorch's, in one run.

    pip install botorch
    python benchmarks/surrogates.py --searches 150

The searches are those of ``posterior_calibration.py``. On each, every model is fitted to the same
outputs (arcsin √R, log₂ ρ, log loss) at the same observations and drawn jointly at the same
points from the same normal numbers; all that follows, the rule, γ* per scale and the target three
octaves wider, is Critical's own code. The models:

    ours      seed effect, level per scale, Student-t noise, hyperparameters integrated over
    botorch   SingleTaskGP: Matérn-5/2 ARD with its dimension-scaled priors, inputs normalized,
              outcomes standardized, noise inferred, hyperparameters at their mode
    robust    the same as RobustRelevancePursuitSingleTaskGP, which finds outliers; only when
              asked for by --models, as one search takes it from ten seconds to minutes

Printed a model: coverage of the 5–95% interval of γ* at each width and at the target; over the
widths, its median size, the median |error| of γ*, the mean share lost and how much more that is
than ours loses on the same searches (± a standard error over searches); the mean share lost at
the target; and the median seconds of fitting three outputs and drawing them, on one thread.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from posterior_calibration import DESIGNS, Outcome, judge, simulate

from critical.inference import gaussian_process
from critical.inference.noisy_process import Data, Integers
from critical.inference.posterior import compute

Array = NDArray[np.float64]

OURS, BESIDE = "ours", ("botorch", "robust")
MISSING = "BoTorch is not installed, and this benchmark compares with it: pip install botorch"


@dataclass(frozen=True)
class Model:
    """What stands in for the two functions of ``gaussian_process``."""

    fit: Callable[..., Any]
    draw: Callable[..., Array]


@dataclass(frozen=True)
class Result:
    """What one model found in one search."""

    scales: list[Outcome]
    target: Outcome
    seconds: float

    @property
    def share_lost(self) -> float:
        """Mean over the scales."""
        return float(np.mean([one.share_lost for one in self.scales]))


def models() -> dict[str, Model]:
    """Every model by name.

    Raises:
        SystemExit: BoTorch is not installed.
    """
    try:
        from botorch.models import SingleTaskGP
        from botorch.models.robust_relevance_pursuit_model import (
            RobustRelevancePursuitSingleTaskGP,
        )
    except ImportError as error:
        raise SystemExit(MISSING) from error
    return {
        OURS: Model(gaussian_process.fit, gaussian_process.draw),
        BESIDE[0]: Model(_botorch_fit(SingleTaskGP), _botorch_draw),
        BESIDE[1]: Model(_botorch_fit(RobustRelevancePursuitSingleTaskGP), _botorch_draw),
    }


def _botorch_fit(kind: type[Any]) -> Callable[..., Any]:
    from botorch.fit import fit_gpytorch_mll
    from botorch.models.transforms import Normalize, Standardize
    from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
    from gpytorch.mlls import ExactMarginalLogLikelihood

    def fit(data: Data, *_: object) -> Any:  # noqa: ANN401
        inputs = data.points.shape[1]
        # BoTorch's default kernel, but Matérn-5/2 in place of the Gaussian, as ours has it.
        kernel = get_covar_module_with_dim_scaled_prior(inputs, use_rbf_kernel=False)
        model = kind(
            torch.from_numpy(data.points),
            torch.from_numpy(data.values)[:, None],
            covar_module=kernel,
            outcome_transform=Standardize(1),
            input_transform=Normalize(inputs),
        )
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        return model

    return fit


def _botorch_draw(model: Any, points: Array, _: Integers, normals: Array) -> Array:  # noqa: ANN401
    with torch.no_grad():
        posterior = model.posterior(torch.from_numpy(points))
        base = torch.from_numpy(normals)
        drawn = posterior.rsample_from_base_samples(base.shape[:1], base).squeeze(-1)
    return np.asarray(drawn)


def run(model: Model, trials: int, seed: tuple[int, int]) -> Result:
    """Infer γ* of one simulated search with one model in place of ours."""
    surface, runs, spec, rng = simulate(trials, seed)
    seconds = 0.0

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: object) -> object:
            nonlocal seconds
            start = time.perf_counter()
            found = function(*arguments)
            seconds += time.perf_counter() - start
            return found

        return call

    with (
        patch("critical.inference.surrogate.fit", timed(model.fit)),
        patch("critical.inference.surrogate.draw", timed(model.draw)),
    ):
        record = compute(runs, spec, rng)
    scales, target = judge(surface, record)
    assert target is not None, "every simulated search has a target"
    return Result(scales, target, seconds)


def _row(name: str, results: Sequence[Result], ours: Sequence[Result]) -> str:
    scales = [one for result in results for one in result.scales]
    per_width = np.mean([[one.covered for one in result.scales] for result in results], axis=0)
    more = np.array([a.share_lost - b.share_lost for a, b in zip(results, ours, strict=True)])
    difference = f"{more.mean():+.4f} ±{more.std(ddof=1) / np.sqrt(more.size):.4f}"
    cells = [
        f"{name:<8}",
        *(f"{one:6.2f}" for one in per_width),
        f"{np.mean([one.target.covered for one in results]):7.2f}",
        f"{np.median([one.width for one in scales]):9.3f}",
        f"{np.median([one.error for one in scales]):8.4f}",
        f"{np.mean([one.share_lost for one in scales]):7.4f}",
        f"{'' if results is ours else difference:>16}",
        f"{np.mean([one.target.share_lost for one in results]):8.4f}",
        f"{np.median([one.seconds for one in results]):6.2f}",
    ]
    return " ".join(cells)


def main() -> None:
    """Print one table a size of search."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--searches", type=int, default=150, help="at least 2 (default: 150)")
    parser.add_argument("--sizes", type=int, nargs="+", choices=sorted(DESIGNS), default=[20, 60])
    parser.add_argument("--models", nargs="+", choices=BESIDE, default=BESIDE[:1])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    every = models()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)  # BoTorch starts a failed fit anew from its priors.
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    for trials in options.sizes:
        seeds = [(options.seed, index) for index in range(options.searches)]
        results = {
            name: [run(every[name], trials, seed) for seed in seeds]
            for name in (OURS, *options.models)
        }
        print(f"{trials} trials, {options.searches} searches; coverage of 90% intervals by width")
        widths = " ".join(f"{width:>6}" for width in DESIGNS[trials])
        print(f"{'':8} {widths}  target  interval  |error|    lost   more than ours at target   s")
        for name, found in results.items():
            print(_row(name, found, results[OURS]), flush=True)


if __name__ == "__main__":
    main()
