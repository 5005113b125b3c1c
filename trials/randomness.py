"""Random generators by seed and purpose.

torch's generator on the CPU takes the low 32 bits of its seed and drops the others, so a seed that
is shifted above a step or a name has no effect. Here all parts of the key are hashed instead.
"""

from __future__ import annotations

import hashlib

import torch


def generator(*key: int | str) -> torch.Generator:
    """Return a generator on the CPU that every part of the key decides, as in (purpose, seed)."""
    text = "/".join(str(part) for part in key)
    digest = hashlib.blake2b(text.encode(), digest_size=4).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))
