"""JSON documents in the store: strict JSON both ways, so that every database can hold them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any

from critical.storage.errors import DocumentError
from critical.storage.records import PosteriorRecord

if TYPE_CHECKING:
    from pydantic import TypeAdapter


def dumps(document: object) -> str:
    """Write JSON, exactly: every float reads back as itself.

    Raises:
        DocumentError: It holds NaN or infinity, which JSON has not, or something not of JSON.
    """
    try:
        return json.dumps(document, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except (ValueError, TypeError) as error:
        raise DocumentError(
            f"a document for the store is not JSON ({error}): "
            "write null for a number that is not finite, and plain lists, dicts, text and numbers"
        ) from error


def posterior_document(record: PosteriorRecord) -> dict[str, Any]:
    """Return a posterior as a JSON object, one key a field.

    What only several settings need is left out where there is one, as versions before had it.
    """
    document = asdict(record)
    if not record.others:
        del document["others"]
        if record.settings == "target":
            del document["settings"]
    return document


def posterior_record(document: Mapping[str, Any]) -> PosteriorRecord:
    """Read a posterior back, its lists as tuples.

    Raises:
        DocumentError: It has another shape than this version writes.
    """
    from pydantic import ValidationError

    try:
        return _posterior_adapter().validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise DocumentError(
            f"the stored posterior cannot be read ({field}: {first['msg']}): "
            "run the same `critical search` again, which computes it anew"
        ) from error


def extras_document(extras: Mapping[str, float]) -> dict[str, float | str]:
    """Return named numbers as JSON: one that is not finite becomes the text ``nan`` or ``inf``."""
    return {
        name: float(value) if math.isfinite(value) else str(float(value))
        for name, value in extras.items()
    }


def extras_mapping(document: Mapping[str, float | str]) -> dict[str, float]:
    """Read named numbers back."""
    return {name: float(value) for name, value in document.items()}


@cache
def _posterior_adapter() -> TypeAdapter[PosteriorRecord]:
    from pydantic import TypeAdapter

    return TypeAdapter(PosteriorRecord)
