"""Which store a command works on."""

from __future__ import annotations

from collections.abc import Mapping

DEFAULT_STORAGE = "sqlite:///critical.db"


def resolve_storage(storage: str | None, environment: Mapping[str, str]) -> str:
    """Return the store's URL: as given, else ``CRITICAL_STORAGE``, else the default file."""
    return storage or environment.get("CRITICAL_STORAGE") or DEFAULT_STORAGE
