"""The speed benchmarks run, compare like with like, and count what the model multiplies."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import pack_speed
import trial_speed
from plain_loop import PlainDecoder

from critical.trials.model import Decoder
from critical.trials.training import ProxyTraining, TrainingRecipe

SMALL = ("--depth", "1", "--tokens", "4000", "--steps", "1")
RECIPE = TrainingRecipe(None, {"reasoning": 1.0}, batch_tokens=72)


def test_matrix_products_are_counted_as_they_are_done() -> None:
    """Torch's own counter sees as many FLOPs in a forward and backward pass, attention aside."""
    training = ProxyTraining(RECIPE, trial_speed.proxy(32, 2, 4000))
    with FlopCounterMode(display=False) as counter:
        training.first_loss()().backward()  # type: ignore[no-untyped-call]
    counted = counter.get_flop_counts()["Global"][torch.ops.aten.mm]
    shapes = trial_speed.products(training)
    assert counted == sum(6 * a * b * c * count for (a, b, c), count in shapes.items())
    assert {rows for rows, _, _ in shapes} == {72, 8}


def test_the_plain_model_is_the_same_size() -> None:
    """As many numbers in its parameters as the trial's."""
    shape = RECIPE.shape(trial_speed.proxy(32, 2, 4000))
    ours, plain = (
        sum(parameter.numel() for parameter in model.parameters())
        for model in (Decoder(shape), PlainDecoder(shape))
    )
    assert plain == ours


def test_a_trial_is_timed_beside_a_plain_loop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row a width, with positive numbers under the header's names."""
    arguments = ["--widths", "16", "--rounds", "1", "--eager", "--workers-seconds", "0", *SMALL]
    monkeypatch.setattr(sys, "argv", ["", *arguments])
    trial_speed.main()
    _, header, row = capsys.readouterr().out.splitlines()
    width, plain, ours, ratio, hourly, part, _ = row.replace("%", "").split()
    assert header.split()[0] == "width"
    assert width == "16"
    assert float(ours) / float(plain) == pytest.approx(float(ratio), abs=0.05)
    assert float(hourly) > 0
    assert 0 < float(part) < 100


def test_packs_are_timed_beside_a_process_a_trial(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row a way; one process per trial is what the others are compared with."""
    arguments = ["--device", "cpu", "--width", "16", "--members", "2", "--processes", *SMALL]
    monkeypatch.setattr(sys, "argv", ["", *arguments])
    pack_speed.main()
    _, header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[0] == "ms"
    names = ["one process per trial", "plain loop", "pack of 2"]
    assert [text[:22].strip() for text in rows] == names
    numbers = [[float(number) for number in text[22:].split()] for text in rows]
    assert all(step > 0 and memory == 0 for step, *_, memory in numbers)
    for _, rate, times, hourly, hourly_times, _ in numbers:
        assert times == pytest.approx(rate / numbers[0][1], rel=0.1)
        assert hourly_times == pytest.approx(hourly / numbers[0][3], rel=0.1)
