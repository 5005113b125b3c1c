"""Token ids that somebody else's program has written: a flat ``.bin`` file, as nanoGPT's.

Such a file says nothing of itself: how many bytes an id has must be told, and what can be seen to
be wrong is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critical.trials.errors import CorpusError
from critical.trials.text_files import MOST_BYTES

DEFAULT_BYTES = 2
MOST_SYMBOLS = 2**20
"""No vocabulary is so large; a greater id is no id, and its embedding would fill the memory."""
_LLM_C = np.array([20240520], dtype="<i4").tobytes()
"""How llm.c begins its token files."""


@dataclass(frozen=True, slots=True)
class Ids:
    """A text in token ids.

    Attributes:
        ids: Shape (tokens,), unsigned.
        symbols: Number of ids that there are, all below it.
        cut: Whether the text goes on.
    """

    ids: NDArray[np.unsignedinteger[Any]]
    symbols: int
    cut: bool = False


def read_ids(source: Path, token_bytes: int | None, vocabulary: int | None) -> Ids:
    """Read little-endian unsigned ids without a header, at most ``MOST_BYTES`` of the file.

    Args:
        source: The file.
        token_bytes: Bytes of an id, 2 (if None) or 4.
        vocabulary: Number of ids; one more than the greatest that was read if None.

    Raises:
        CorpusError: The file is missing or unreadable, is no whole number of ids, begins with a
            header, seems to have ids of another size, or has one that is not in the vocabulary.
    """
    size = token_bytes or DEFAULT_BYTES
    data, cut = _read(source, size)
    ids: NDArray[np.unsignedinteger[Any]] = np.frombuffer(data, dtype=f"<u{size}")
    if size == 2 and _halves_of_wider(ids, told=token_bytes is not None):
        raise CorpusError(
            f"every second 2-byte id of corpus {source} is next to 0, as if ids had 4 bytes: "
            "write --token-bytes 4"
        )
    greatest = int(ids.max(initial=0))
    if greatest >= MOST_SYMBOLS:
        raise CorpusError(
            f"corpus {source} has the token id {greatest}, which no vocabulary has: "
            f"give ids below {MOST_SYMBOLS} of {size} bytes, or another --token-bytes"
        )
    if vocabulary is not None and greatest >= vocabulary:
        raise CorpusError(
            f"corpus {source} has the token id {greatest}, but --vocabulary is {vocabulary}: "
            f"write --vocabulary {greatest + 1} or more"
        )
    return Ids(ids, vocabulary or greatest + 1, cut)


def _halves_of_wider(ids: NDArray[np.unsignedinteger[Any]], *, told: bool) -> bool:
    """Whether ids look like halves of ids twice as wide: every second one is small, or 0.

    Where the user has told the size, only what cannot be else counts.
    """
    if len(ids) < 2:
        return False
    lower, upper = int(ids[::2].max()), int(ids[1::2].max())
    return upper == 0 or (not told and upper < MOST_SYMBOLS >> 16 <= lower)


def _read(source: Path, size: int) -> tuple[bytes, bool]:
    """Return what is read of a file, and whether it holds more."""
    try:
        if not source.exists():
            raise CorpusError(f"corpus {source} does not exist: give a file of token ids, or text")
        if not source.is_file():
            raise CorpusError(f"corpus {source} is neither a file nor a folder: give one of them")
        whole = source.stat().st_size
        with source.open("rb") as stream:
            data = stream.read(MOST_BYTES)
    except OSError as error:
        raise CorpusError(
            f"corpus {source} cannot be read ({error.strerror}): "
            "give a file that this user may read"
        ) from error
    if whole % size:
        raise CorpusError(
            f"corpus {source} holds {whole} bytes, no whole number of {size}-byte token ids: "
            "write the whole file again, or give text under a name that does not end in .bin"
        )
    if data.startswith(_LLM_C):
        raise CorpusError(
            f"corpus {source} begins with a header of llm.c: give it without its first 1024 bytes"
        )
    return data, whole > len(data)
