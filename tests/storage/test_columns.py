"""Column types that mean the same everywhere."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy.dialects import sqlite

from critical.storage.columns import UtcDateTime

DIALECT = sqlite.dialect()


def test_a_moment_is_stored_as_utc() -> None:
    """Another zone's moment comes back as the same moment in UTC."""
    there = datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    stored = UtcDateTime().process_bind_param(there, DIALECT)
    assert stored == datetime(2025, 12, 31, 23)
    assert UtcDateTime().process_result_value(stored, DIALECT) == there.astimezone(UTC)


def test_a_moment_without_a_zone_is_refused() -> None:
    """Which moment it means is unknown; the message says what to write."""
    with pytest.raises(ValueError, match=r"no time zone: write datetime\.now\(UTC\)"):
        UtcDateTime().process_bind_param(datetime(2026, 1, 1), DIALECT)
