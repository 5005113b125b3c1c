"""Text to token ids by a ``tokenizer.json`` of Hugging Face's tokenizers library."""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from critical.trials.errors import CorpusError
from critical.trials.token_ids import MOST_SYMBOLS, Ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_EXAMPLE = "give the tokenizer.json of Hugging Face's tokenizers"
MOST_BYTES = 64 * 2**20
"""A vocabulary of 262,144 pieces, the largest in use, takes about half of it."""
PIECE = 2**18
"""Characters that are encoded at once, up to the next line end: Python's lists of ids are long."""


def encode(text: bytes, tokenizer: Path) -> Ids:
    """Encode UTF-8, perhaps cut within its last character, without special tokens around it.

    A tokenizer's truncation and padding are not for a corpus, and are left out. Its whole
    vocabulary counts, used or not: the model's head and embedding have a row for every id.

    Raises:
        CorpusError: The library is not installed, the file is no tokenizer, or it cannot encode
            the text.
    """
    loaded = load_tokenizer(tokenizer)
    symbols = max(loaded.get_vocab(with_added_tokens=True).values(), default=0) + 1
    if symbols > MOST_SYMBOLS:
        raise CorpusError(
            f"tokenizer {tokenizer} has {symbols} ids: give one with at most {MOST_SYMBOLS}"
        )
    decoded = codecs.getincrementaldecoder("utf-8")().decode(text)
    try:
        # One after the other: the library's threads would warn at every later fork.
        parts = [
            np.array(loaded.encode(piece, add_special_tokens=False).ids, dtype="<u4")
            for piece in _pieces(decoded)
        ]
    except Exception as error:  # whatever its Rust says
        reason = " ".join(str(error).split())
        raise CorpusError(
            f"tokenizer {tokenizer} cannot encode the corpus ({reason}): give another one"
        ) from error
    return Ids(np.concatenate(parts) if parts else np.empty(0, dtype="<u4"), symbols)


def digest_of(tokenizer: Path) -> str:
    """Return the SHA-256 of a tokenizer's file, hexadecimal.

    Raises:
        CorpusError: The file is missing, not a regular one, unreadable or too large.
    """
    return hashlib.sha256(_read(tokenizer)).hexdigest()


def load_tokenizer(path: Path) -> Tokenizer:
    """Load a tokenizer from its file alone.

    Raises:
        CorpusError: The library is not installed, or the file is no tokenizer or cannot be read.
    """
    content = _read(path)
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise CorpusError(
            "--tokenizer needs the tokenizers library: pip install 'critical[tokenizers]', or "
            "leave it out and tokens are bytes"
        ) from error
    try:
        found: Tokenizer = Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises nothing more special
        reason = " ".join(str(error).split())
        raise CorpusError(f"tokenizer {path} cannot be read ({reason}): {_EXAMPLE}") from error
    found.no_truncation()
    found.no_padding()
    return found


def _read(tokenizer: Path) -> bytes:
    """Read a tokenizer's file; a pipe would never end, nor would some devices."""
    try:
        if not tokenizer.exists():
            raise CorpusError(f"tokenizer {tokenizer} does not exist: {_EXAMPLE}")
        if not tokenizer.is_file():
            raise CorpusError(f"tokenizer {tokenizer} is not a regular file: {_EXAMPLE}")
        with tokenizer.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise CorpusError(
            f"tokenizer {tokenizer} cannot be read ({error.strerror}): {_EXAMPLE}"
        ) from error
    if len(content) > MOST_BYTES:
        raise CorpusError(f"tokenizer {tokenizer} is over {MOST_BYTES >> 20} MiB: {_EXAMPLE}")
    return content


def _pieces(text: str) -> Iterator[str]:
    """Cut a text after line ends into pieces of about ``PIECE`` characters."""
    start = 0
    while start < len(text):
        cut = text.find("\n", start + PIECE)
        end = len(text) if cut < 0 else cut + 1
        yield text[start:end]
        start = end
