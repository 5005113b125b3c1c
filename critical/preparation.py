"""From checked options to what a search is made of: target, trial, device, workers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from critical.budget import Budget, format_amount, parse_budget
from critical.errors import BudgetError, OptionError
from critical.identity import identity_of
from critical.inference.rules import parse_rule
from critical.options import SearchOptions
from critical.repetition import Original
from critical.running.packing import AUTOMATIC
from critical.targets.architecture import hf_config, hf_not_carried, read_architecture
from critical.targets.recognised import recognised
from critical.targets.target import Target, read_target
from critical.trials.corpus import Corpus, Reading, prepare
from critical.trials.loading import NamedTrainable, parse_trainable
from critical.trials.mixture import DEFAULT_MIXTURE, parse_mixture
from critical.trials.settings import check_settings
from critical.trials.text_files import MOST_BYTES
from critical.trials.training import TrainingRecipe
from critical.trials.watch_pack import pack_trainer

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
        workers: Packs of trials at once; 0 runs them in this process.
        pack: Trials of a pack, at the most.
        original: The study whose trials are run again, or None for a search.
        not_carried: What of corpus and target the proxies do not have, a sentence each.
        recognised: What was read of the target, a sentence.
    """

    options: SearchOptions
    name: str
    budget: Budget
    target: Target | None
    trainable: NamedTrainable | TrainingRecipe
    identity: Mapping[str, Any]
    device: str
    workers: int
    pack: int = 1
    original: Original | None = None
    not_carried: tuple[str, ...] = ()
    recognised: str | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know of corpus and target before anything is run, a sentence each."""
        return (*(() if self.recognised is None else (self.recognised,)), *self.not_carried)

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
        OptionError: A corpus is given that the mixture does not use, or trials are to be trained
            together that cannot be.
        TrialError: The corpus, the mixture or the trainable is not as it must be.
    """
    if options.trainable is not None:
        trainable: NamedTrainable | TrainingRecipe = parse_trainable(options.trainable)
        not_carried: tuple[str, ...] = ()
    else:
        trainable, not_carried = _recipe(options, target)
    return Prepared(
        options=options,
        name=name,
        budget=budget,
        target=target,
        trainable=trainable,
        identity=identity_of(options, budget, target, trainable),
        device=device,
        workers=_workers(device) if options.workers is None else options.workers,
        pack=1 if original is not None else _pack(options, trainable, device),
        original=original,
        not_carried=not_carried,
        recognised=None if target is None else recognised(target),
    )


def _recipe(
    options: SearchOptions, target: Target | None
) -> tuple[TrainingRecipe, tuple[str, ...]]:
    """Return the built-in trial, and what of corpus and target it lacks."""
    own = options.mixture
    mixture = dict(DEFAULT_MIXTURE) if own is None else parse_mixture(own)
    recipe = TrainingRecipe(
        corpus=_corpus(options, with_text="text" in mixture),
        mixture=mixture,
        batch_tokens=options.batch,
        weight_decay=options.weight_decay,
        convention=options.convention,
    )
    left_out = _left_out(options, recipe.corpus)
    if target is None:
        return recipe, left_out
    architecture, not_carried = read_architecture(target)
    recipe = replace(recipe, architecture=architecture, target_width=target.width)
    if options.proxy == "hf":
        recipe = replace(recipe, model="hf", hf_config=hf_config(target))
        not_carried = hf_not_carried(target, options.settings)
    for name in options.settings:
        check_settings(name, architecture, target.width)
    return recipe, (*left_out, *not_carried)


def _left_out(options: SearchOptions, corpus: Corpus | None) -> tuple[str, ...]:
    """Say that a corpus is longer than what is read of it."""
    if corpus is None or not corpus.cut:
        return ()
    read = f"of --corpus {options.corpus} the first {MOST_BYTES >> 20} MiB are read"
    return (f"{read} and the rest is left out",)


def _corpus(options: SearchOptions, *, with_text: bool) -> Corpus | None:
    how = {part.name: getattr(options, part.name) for part in fields(Reading)}
    if with_text:
        return prepare(options.corpus, options.work_dir.absolute() / "corpora", Reading(**how))
    given = {"corpus": options.corpus, **how}
    name = next((name for name, value in given.items() if value is not None), None)
    if name is not None:
        flag = "--" + name.replace("_", "-")
        raise OptionError(f"{flag} is given, but the mixture has no text: add text=0.5 to it")
    return None


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


def _pack(options: SearchOptions, trainable: NamedTrainable | TrainingRecipe, device: str) -> int:
    """Return how many trials to train together, at the most.

    Where nobody says, several on a GPU, unless their models have no launches to share, as those
    of transformers.
    """
    trainer = pack_trainer(trainable)
    if options.pack == "auto":
        shares = not (isinstance(trainable, TrainingRecipe) and trainable.model == "hf")
        return AUTOMATIC if trainer is not None and device == "cuda" and shares else 1
    if options.pack > 1 and trainer is None:
        raise OptionError(
            f"--pack {options.pack} is given, but trainable {options.trainable} has no train_pack "
            "and trains one run at a time: leave --pack out"
        )
    return options.pack


def _workers(device: str) -> int:
    if device == "cuda":
        import torch

        return torch.cuda.device_count()
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
