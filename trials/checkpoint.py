"""A trial's checkpoint: tensors and facts in one safetensors file, which is whole or not there.

It is written under a temporary name, flushed to the disk and renamed, so that a crash at any
moment leaves the checkpoint before it. A digest in the file tells a torn or a foreign one. Nothing
is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

CHECKPOINT_FILE = "checkpoint.safetensors"
_LENGTH_BYTES = 8
"""A safetensors file begins with its header's length, little-endian; the header is JSON."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was saved.

    Attributes:
        tensors: By name, on the CPU.
        facts: Whatever JSON holds, and non-finite numbers.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


def save(folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Replace a folder's checkpoint.

    Args:
        folder: Exists already.
        tensors: On any device; no two may share memory.
        facts: Must be JSON, but for floats that are not finite.

    Raises:
        OSError: It could not be written; the checkpoint before it is still there.
    """
    _remove_leftovers(folder)
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(facts)
    metadata = {"facts": text, "digest": _digest(on_cpu, text)}
    # The library's own writing to a file would leave temporary names that we do not know.
    data = safetensors.torch.save(on_cpu, metadata)
    partial = folder / f"{CHECKPOINT_FILE}.{uuid.uuid4().hex}.partial"
    try:
        with partial.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(folder / CHECKPOINT_FILE)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    _flush_names(folder)


def load(folder: Path) -> Checkpoint | None:
    """Return a folder's checkpoint; None where there is none, or what is there is not one whole.

    Raises:
        MemoryError: It does not fit; nothing is wrong with it.
    """
    _remove_leftovers(folder)
    try:
        data = (folder / CHECKPOINT_FILE).read_bytes()
    except OSError:
        return None
    try:
        return _read(data)
    except MemoryError:
        raise
    except Exception:  # whatever the parsers make of bytes that are no checkpoint
        return None


def _read(data: bytes) -> Checkpoint | None:
    tensors = safetensors.torch.load(data)
    header = data[_LENGTH_BYTES:][: int.from_bytes(data[:_LENGTH_BYTES], "little")]
    metadata = json.loads(header)["__metadata__"]
    if metadata["digest"] != _digest(tensors, metadata["facts"]):
        return None
    return Checkpoint(tensors, json.loads(metadata["facts"]))


def _digest(tensors: Mapping[str, Tensor], facts: str) -> str:
    names = sorted(tensors)
    kinds = [(name, str(tensors[name].dtype), list(tensors[name].shape)) for name in names]
    digest = hashlib.blake2b(json.dumps([kinds, facts]).encode(), digest_size=16)
    for name in names:
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _flush_names(folder: Path) -> None:
    """Make a rename in a folder outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_leftovers(folder: Path) -> None:
    """Remove what a writer that was killed has left half-written."""
    with suppress(OSError):
        for partial in folder.glob(f"{CHECKPOINT_FILE}.*.partial"):
            partial.unlink(missing_ok=True)
