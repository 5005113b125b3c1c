"""Student's t against SciPy's."""

from __future__ import annotations

import pytest
from scipy import stats

from critical.inference.student import central_quantile


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 8, 9, 30, 101])
@pytest.mark.parametrize("probability", [0.0, 0.5, 0.9, 0.99])
def test_it_is_the_quantile_that_scipy_has(freedom: int, probability: float) -> None:
    """For odd and even degrees of freedom, which have a formula each."""
    expected = stats.t.ppf((1 + probability) / 2, freedom)
    assert central_quantile(probability, freedom) == pytest.approx(expected, rel=1e-9)
