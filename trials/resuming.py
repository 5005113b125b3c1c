"""How the built-in trial goes on where it was interrupted, equal to the bit on the CPU.

A checkpoint holds

    tensors   weights, averaged weights and AdamW's state of every parameter (a tied one once)
    facts     the step reached, every measurement so far, how many saves have failed, and a
              fingerprint of recipe and run

and no generator's state, for there is none: a batch is a function of the seed and the step alone,
so that the step is the position in the data too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from critical.trials import checkpoint
from critical.trials.averaging import WeightAverage
from critical.trials.run import Interrupted, Measurement, ProxyRun

EARLIEST_SECONDS = 10.0
"""Between two saves at the least."""
MOST_OF_THE_TIME = 0.01
"""The part of a run that saving may take, about."""
_ADAMW = ("step", "exp_avg", "exp_avg_sq")


class Resumable(Protocol):
    """A training whose state can be taken out and put back."""

    def state(self) -> dict[str, Tensor]:
        """Return the tensors themselves, no copies."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> bool:
        """Take in a state, or return False and change nothing where it does not fit."""
        ...


class Keeper:
    """Saves one run's training now and then, and knows its measurements.

    Attributes:
        measured: Every measurement so far, those before an interruption too.
    """

    def __init__(self, run: ProxyRun, fingerprint: str) -> None:
        self._run = run
        self._fingerprint = fingerprint
        self._failures = 0
        self._due = time.monotonic() + EARLIEST_SECONDS
        self.measured: list[Measurement] = []

    def resume(self, training: Resumable) -> int:
        """Put the checkpoint into a new training, if there is one of the same recipe and run.

        Returns:
            The step that it has reached, 0 where it starts anew.
        """
        if self._run.checkpoint_dir is None:
            return 0
        found = checkpoint.load(self._run.checkpoint_dir)
        if found is None or found.facts.get("fingerprint") != self._fingerprint:
            return 0
        if not training.restore(found.tensors):
            return 0
        self.measured = [Measurement(*numbers) for numbers in found.facts["measured"]]
        self._failures = found.facts["failures"]
        return int(found.facts["step"])

    def add(self, measurement: Measurement) -> Measurement:
        """Note a measurement before it is yielded, with the saves that have failed by now."""
        if self._failures:
            extras = {**measurement.extras, "checkpoint_failures": float(self._failures)}
            measurement = replace(measurement, extras=extras)
        self.measured.append(measurement)
        return measurement

    def after(self, step: int, training: Resumable, *, stop: bool | None = None) -> None:
        """Save if it is time, or if a stop is requested; to be called after every step.

        Args:
            step: The last one taken.
            training: What to save.
            stop: Whether a stop is requested; None to ask the run.

        Raises:
            Interrupted: A stop is requested.
        """
        if self._run.checkpoint_dir is None:
            return
        if stop is None:
            stop = self._run.stop_requested()
        if stop or time.monotonic() >= self._due:
            self._save(step, training)
        if stop:
            raise Interrupted(f"stopped after step {step}")

    def _save(self, step: int, training: Resumable) -> None:
        """Save, or count a failure: a full disk ends no run, and may have room later."""
        assert self._run.checkpoint_dir is not None
        facts = {
            "fingerprint": self._fingerprint,
            "step": step,
            "measured": [_numbers(measurement) for measurement in self.measured],
            "failures": self._failures,
        }
        started = time.monotonic()
        try:
            checkpoint.save(self._run.checkpoint_dir, training.state(), facts)
        except OSError:
            self._failures += 1
        ended = time.monotonic()
        self._due = ended + max(EARLIEST_SECONDS, (ended - started) / MOST_OF_THE_TIME)


def with_state(optimizer: torch.optim.AdamW) -> torch.optim.AdamW:
    """Make AdamW's state of every parameter as its first steps would, one by one; return it.

    A parameter that never gets a gradient, as the bias that balances experts, is passed over by
    every step and would never have one, but belongs in a checkpoint like any other.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
    return optimizer


def training_state(
    model: nn.Module, optimizer: torch.optim.AdamW, average: WeightAverage
) -> dict[str, Tensor]:
    """Return every tensor that training changes, by kind and parameter.

    Args:
        model: What is trained.
        optimizer: Its optimizer, ``with_state``.
        average: Of its weights.
    """
    state: dict[str, Tensor] = {}
    named = model.named_parameters()
    for (name, parameter), averaged in zip(named, average.tensors, strict=True):
        state[f"weight/{name}"] = parameter.detach()
        state[f"average/{name}"] = averaged
        for kind in _ADAMW:
            state[f"{kind}/{name}"] = optimizer.state[parameter][kind]
    return state


@torch.no_grad()
def restore_training(
    state: Mapping[str, Tensor],
    model: nn.Module,
    optimizer: torch.optim.AdamW,
    average: WeightAverage,
) -> bool:
    """Copy what ``training_state`` returned into a training that has taken no step yet.

    Returns:
        False, with nothing changed, where names, shapes or types are not the training's own.
    """
    places = training_state(model, optimizer, average)
    if _kinds(places) != _kinds(state):
        return False
    for name, place in places.items():
        place.copy_(state[name])
    return True


def _kinds(state: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()}


def _numbers(measurement: Measurement) -> list[Any]:
    """Return a measurement as JSON; floats round-trip exactly, non-finite ones too."""
    extras = dict(measurement.extras)
    return [measurement.tokens, measurement.loss, measurement.reasoning, extras]
