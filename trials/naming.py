"""Short names of a model's parts, the same at every width and close over model families."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_BEFORE_THE_BLOCK = re.compile(r"^(?:.*?\.)?(?=\d+(\.|$))")


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Return a short name for each dotted one.

    Within a block it begins with the block's number, elsewhere it is the last part:
    ``blocks.2.attention.o_proj.weight`` is ``2.attention.o_proj``, and
    ``model.embed_tokens.weight`` is ``embed_tokens``. Where that would be
    another's name too, a name stays whole.
    """
    whole = tuple(names)
    short = {name: _short(name) for name in whole}
    taken = Counter((*short.values(), *(name for name in whole if short[name] != name)))
    return {name: found if taken[found] == 1 else name for name, found in short.items()}


def _short(name: str) -> str:
    name = name.removesuffix(".weight")
    within = _BEFORE_THE_BLOCK.sub("", name, count=1)
    return within if within[:1].isdigit() else name.rpartition(".")[-1]
