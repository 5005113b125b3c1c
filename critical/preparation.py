"""From checked options to what a search is made of: target, trial, device, workers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from critical.budget import Budget, format_amount, parse_budget
from critical.errors import BudgetError, OptionError
from critical.identity import identity_of
from critical.options import SearchOptions
from critical.repetition import Original
from critical.rules import parse_rule
from critical.target import Target, read_target
from critical.trials.corpus import prepare
from critical.trials.loading import NamedTrainable, parse_trainable
from critical.trials.mixture import DEFAULT_MIXTURE, parse_mixture
from critical.trials.training import TrainingRecipe

DEFAULT_REFERENCE_GAMMA = 0.5


@dataclass(frozen=True, slots=True)
class Prepared:
    """Options, resolved against this machine and its files; nothing is stored yet.

    Attributes:
        options: As given.
        name: Of the study.
        budget: The whole budget.
        target: The model to be trained, or None.
        trainable: The trial, picklable.
        identity: What must stay the same when the study goes on, as JSON.
        device: ``cpu`` or ``cuda``.
        workers: Trials at once; 0 runs them in this process.
        original: The study whose trials are run again, or None for a search.
    """

    options: SearchOptions
    name: str
    budget: Budget
    target: Target | None
    trainable: NamedTrainable | TrainingRecipe
    identity: Mapping[str, Any]
    device: str
    workers: int
    original: Original | None = None

    @property
    def reference_gamma(self) -> float:
        """γ of the reference: what the target has now, else the classic 1/√fan_in."""
        return DEFAULT_REFERENCE_GAMMA if self.target is None else self.target.reference_gamma


def prepare_search(options: SearchOptions) -> Prepared:
    """Read every file that the options name and look at this machine.

    Raises:
        CriticalError: A file, a name or a device is not as it must be.
        TrialError: The corpus, the mixture or the trainable is not.
    """
    budget = parse_budget(options.budget)
    parse_rule(options.rule)
    target = read_target(options.target) if options.target is not None else None
    device = _device(budget)
    name = options.study or (
        "default" if target is None else f"{target.model_type}-d{target.width}-L{target.depth}"
    )
    return resolve(options, name, budget, target, device)


def resolve(
    options: SearchOptions,
    name: str,
    budget: Budget,
    target: Target | None,
    device: str,
    original: Original | None = None,
) -> Prepared:
    """Load the trial that the options name, or read what the built-in one trains on.

    Raises:
        OptionError: A corpus is given that the mixture does not use.
        TrialError: The corpus, the mixture or the trainable is not as it must be.
    """
    if options.trainable is not None:
        trainable: NamedTrainable | TrainingRecipe = parse_trainable(options.trainable)
    else:
        trainable = _recipe(options, target)
    return Prepared(
        options=options,
        name=name,
        budget=budget,
        target=target,
        trainable=trainable,
        identity=identity_of(options, budget, target, trainable),
        device=device,
        workers=_workers(device) if options.workers is None else options.workers,
        original=original,
    )


def _recipe(options: SearchOptions, target: Target | None) -> TrainingRecipe:
    mixture = parse_mixture(options.mixture) if options.mixture else dict(DEFAULT_MIXTURE)
    corpus = None
    if "text" in mixture:
        corpus = prepare(options.corpus, options.work_dir.absolute() / "corpora")
    elif options.corpus is not None:
        raise OptionError("--corpus is given, but the mixture has no text: add text=0.5 to it")
    recipe = TrainingRecipe(
        corpus=corpus,
        mixture=mixture,
        batch_tokens=options.batch,
        weight_decay=options.weight_decay,
        convention=options.convention,
    )
    if target is None:
        return recipe
    return replace(
        recipe,
        feed_forward_ratio=target.feed_forward / target.width,
        norm_eps=target.norm_eps,
        tied=target.tied,
    )


def _device(budget: Budget) -> str:
    if budget.device == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if budget.device == "gpu":
        cpu = format_amount(budget.amount, budget.unit.replace("gpu", "cpu"))
        raise BudgetError(f"budget {budget} needs a GPU and none was found: write --budget {cpu}")
    return "cpu"


def _workers(device: str) -> int:
    if device == "cuda":
        import torch

        return torch.cuda.device_count()
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
