"""The averaged copy of the weights, against the same thing written plainly."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from critical.trials.averaging import WeightAverage


def test_the_average_is_that_of_the_plain_formula() -> None:
    """After step t it moves by (15 + 1) / (t + 15) towards the weights, elementwise."""
    model = nn.Linear(3, 2)
    average = WeightAverage(model)
    noise = torch.Generator().manual_seed(0)
    expected = model.weight.detach().clone()
    for step in range(1, 60):
        with torch.no_grad():
            model.weight.copy_(torch.randn(2, 3, generator=noise))
        average.update(step)
        part = 16 / (step + 15)
        expected = (1 - part) * expected + part * model.weight.detach()
    with average.applied():
        torch.testing.assert_close(model.weight.detach(), expected)


def test_the_first_step_forgets_the_initialization() -> None:
    """The average then is the weights themselves."""
    model = nn.Linear(3, 2)
    average = WeightAverage(model)
    with torch.no_grad():
        model.weight.add_(1)
    weights = model.weight.detach().clone()
    average.update(1)
    with average.applied():
        assert torch.equal(model.weight, weights)


def test_a_curves_middle_is_averaged_as_its_end() -> None:
    """On a linear path the average lags by about t / 17, whatever t is."""
    model = nn.Linear(1, 1, bias=False)
    average = WeightAverage(model)
    lag = {}
    for step in range(1, 2001):
        nn.init.constant_(model.weight, float(step))
        average.update(step)
        if step in (1000, 2000):
            with average.applied():
                lag[step] = 1 - float(model.weight.detach()) / step
    assert lag[1000] == pytest.approx(1 / 17, rel=0.05)
    assert lag[2000] == pytest.approx(lag[1000], rel=0.05)


def test_the_weights_come_back() -> None:
    """To the bit, also where what runs on the average fails."""
    model = nn.Linear(3, 2)
    average = WeightAverage(model)
    with torch.no_grad():
        model.weight.add_(1)
    weights = model.weight.detach().clone()
    with pytest.raises(RuntimeError, match="within"), average.applied():
        assert not torch.equal(model.weight, weights)
        raise RuntimeError("within")
    assert torch.equal(model.weight, weights)


def test_a_tied_matrix_is_averaged_once() -> None:
    """Taking it twice would move it too far."""
    model = nn.ModuleList([nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)])
    model[1].weight = model[0].weight
    average = WeightAverage(model)
    for step, value in ((1, 1.0), (2, 2.0)):
        nn.init.constant_(model[0].weight, value)  # type: ignore[arg-type]
        average.update(step)
    with average.applied():
        assert model[0].weight[0, 0].item() == pytest.approx(1 + 16 / 17)  # type: ignore[index]
