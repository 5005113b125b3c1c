"""What makes the trials of one study comparable, and the refusal to mix what is not."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from critical.budget import Budget
from critical.errors import OptionError
from critical.storage.records import StudyRecord
from critical.targets.target import Target
from critical.trials import Trainable
from critical.trials.hf_config import transformers_version
from critical.trials.loading import NamedTrainable

if TYPE_CHECKING:
    from critical.options import SearchOptions
    from critical.trials.training import TrainingRecipe

FIXED = (
    "unit", "arithmetic", "target", "trainable", "interval", "mixture", "corpus", "widths", "lr",
    "tokens", "batch", "weight_decay", "convention", "rule", "seed", "settings", "proxy",
)  # fmt: skip
"""What makes trials of one study comparable; none of it may change between two commands."""
_BEFORE: Mapping[str, Any] = {"settings": ["target"], "proxy": "built-in"}
"""What studies had before there was a choice, which their identity does not say."""
_FIRST_ARITHMETIC = 1


def identity_of(
    options: SearchOptions,
    budget: Budget,
    target: Target | None,
    trainable: Trainable,
) -> dict[str, Any]:
    """Return what must stay the same when a study goes on, as JSON."""
    from critical.trials.training import ARITHMETIC, TrainingRecipe

    document = options.model_dump(mode="json")
    document["unit"] = budget.unit
    document["arithmetic"] = None  # of a user's own trial nothing is known
    document["target"] = None if target is None else _model(target)
    if isinstance(trainable, NamedTrainable):
        document["trainable"] = f"{trainable.place}:{trainable.name}"
    if isinstance(trainable, TrainingRecipe):
        document["arithmetic"] = ARITHMETIC
        document["mixture"] = dict(trainable.mixture)
        document["corpus"] = trainable.corpus.digest if trainable.corpus else None
        if target is not None:
            document["target"] |= _proxy(trainable)
    return {name: document[name] for name in FIXED}


def is_algorithmic(study: StudyRecord) -> bool:
    """Whether the built-in trial trains on tasks alone, which can be solved, and on no text."""
    identity = study.options["identity"]
    return identity["trainable"] is None and "text" not in identity["mixture"]


def relaxed_gates(study: StudyRecord) -> bool | None:
    """Whether ``relaxed`` gates attention; None of a user's own trial, whose settings are its own.

    Models of ``--proxy hf`` have no gate.
    """
    identity = study.options["identity"]
    if identity["trainable"] is not None:
        return None
    return bool(identity.get("proxy", _BEFORE["proxy"]) == "built-in")


def _model(target: Target) -> dict[str, Any]:
    """Return the target's shape, whatever its file is called.

    Its initializer is left out: ``export --in-place`` writes γ* there, and the study keeps the
    reference that it began with.
    """
    document = target.to_document()
    for key in ("name", "config", "initializer_range", "initializer_key"):
        del document[key]
    return document


def _proxy(recipe: TrainingRecipe) -> dict[str, Any]:
    """Return what of a target, besides its shape, decides what its proxies are."""
    config = recipe.hf_config
    digest = None if config is None else hashlib.blake2b(config.encode(), digest_size=16)
    own = {} if digest is None else {"transformers": transformers_version()}
    return {
        "architecture": asdict(recipe.architecture),
        "hf_config": None if digest is None else digest.hexdigest(),
        **own,
    }


def check_identity(study: StudyRecord, identity: Mapping[str, Any], place: str) -> None:
    """Refuse to go on with a study under other options than it was begun with.

    Raises:
        OptionError: Something differs; the message names the first.
    """
    name = _first_difference(study, identity)
    if (why := _otherwise(name, study, identity)) is not None:
        raise OptionError(
            f"study {study.name!r} in {place} cannot go on, {why}: name another with --study"
        )
    if name is not None:
        flag = "--budget" if name == "unit" else "--" + name.replace("_", "-")
        stored = _stored(study)[name]
        raise OptionError(
            f"study {study.name!r} in {place} exists with {_shown(name, stored)}: "
            f"give the same {flag}, or another name with --study"
        )


def check_repeatable(study: StudyRecord, identity: Mapping[str, Any], place: str) -> None:
    """Refuse to repeat a study whose stored options have come to mean something else.

    Raises:
        OptionError: Something differs; the message names the first.
    """
    name = _first_difference(study, identity)
    if (why := _otherwise(name, study, identity)) is not None:
        raise OptionError(
            f"study {study.name!r} in {place} cannot be repeated, {why}: search anew under another "
            "--study"
        )
    if name is not None:
        stored = _stored(study)[name]
        raise OptionError(
            f"study {study.name!r} in {place} cannot be repeated: it ran with "
            f"{_shown(name, stored)}, and its options now give {_shown(name, identity[name])}: "
            "put back what it had"
        )


def _first_difference(study: StudyRecord, identity: Mapping[str, Any]) -> str | None:
    stored = _stored(study)
    return next((name for name in FIXED if stored[name] != identity[name]), None)


def _otherwise(name: str | None, study: StudyRecord, identity: Mapping[str, Any]) -> str | None:
    """Return why a study's trials are others than today's though its options are the same."""
    if name == "arithmetic":
        return "for it is of a version whose trials come to other numbers"
    if name != "target":
        return None
    then, now = _stored(study)["target"] or {}, identity["target"] or {}
    differing = {key for key in {*then, *now} if then.get(key) != now.get(key)}
    if differing and differing <= {"architecture", "hf_config", "transformers"}:
        return "for its proxies are built otherwise, by another version or configuration"
    return None


def _stored(study: StudyRecord) -> Mapping[str, Any]:
    stored = {**_BEFORE, **study.options["identity"]}
    if "arithmetic" not in stored:
        stored["arithmetic"] = _FIRST_ARITHMETIC if stored["trainable"] is None else None
    return stored


def _shown(name: str, value: Any) -> str:  # noqa: ANN401  # any JSON
    if name == "unit":
        return f"a budget in {value}"
    if name == "target":
        return (
            "no target"
            if value is None
            else (
                f"a target of {value['model_type']}, width {value['width']}, depth {value['depth']}"
            )
        )
    if isinstance(value, dict):
        return name + " " + ",".join(f"{key}={part:g}" for key, part in value.items())
    if isinstance(value, list):
        return name + " " + ",".join(p if isinstance(p, str) else f"{p:g}" for p in value)
    return f"another {name}" if value is None else f"{name.replace('_', ' ')} {value}"


def repeated_by(study: StudyRecord) -> str | None:
    """Return the name of the study that this one repeats, None where it is a search."""
    found: str | None = study.options.get("repeats")
    return found
