"""Under which settings, and as which model, a search may run its proxies.

Raises ValueError, in part of a sentence, for options to say which of them it was.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec

HEADLINE = "target"
"""The settings whose γ* is the headline wherever they are searched."""
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_NEEDS_TARGET = "carried"


def checked_settings(
    names: Sequence[str], *, own_trainable: bool, with_target: bool
) -> tuple[str, ...]:
    """Check the names of the settings to be searched side by side.

    A trial of the user's own is told the name and may make of it what it likes; the built-in one
    knows some names.

    Returns:
        The names, ``target`` first if it is among them: the headline is that of the first.

    Raises:
        ValueError: A name is not allowed or given twice, or needs a target.
    """
    given = [name.strip() for name in names]
    if not given or "" in given or len(set(given)) < len(given):
        raise ValueError("write each of the settings once, as in target,relaxed")
    if own_trainable:
        _check_own(given)
    else:
        _check_built_in(given, with_target=with_target)
    return tuple(sorted(given, key=lambda name: name != HEADLINE))


def check_hf_proxy(*, own_trainable: bool, with_target: bool) -> None:
    """Check what a proxy of the target's own architecture needs.

    Raises:
        ValueError: There is no target or no transformers package, or the trial is the user's own.
    """
    if own_trainable:
        raise ValueError("a --trainable has a model of its own: leave one of the two out")
    if not with_target:
        raise ValueError("it takes the target's architecture: add --target config.json")
    if find_spec("transformers") is None:
        raise ValueError("it needs transformers: pip install critical[hf]")


def _check_own(given: Sequence[str]) -> None:
    if not all(map(_NAME.fullmatch, given)):
        raise ValueError(
            "use lower-case letters, digits, '_' and '-', beginning with a letter, as in "
            "target,relaxed"
        )


def _check_built_in(given: Sequence[str], *, with_target: bool) -> None:
    from critical.trials.settings import SETTINGS

    unknown = next((name for name in given if name not in SETTINGS), None)
    if unknown is not None:
        raise ValueError(f"{unknown!r} is not known: write one or more of {', '.join(SETTINGS)}")
    if _NEEDS_TARGET in given and not with_target:
        raise ValueError(f"{_NEEDS_TARGET} is made from a target: add --target config.json")
