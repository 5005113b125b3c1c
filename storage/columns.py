"""Column types that mean the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import DateTime, Dialect, Double, Enum
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, stored as UTC without a zone (SQLite has none) and handed back with one."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC. A naive datetime is refused: which moment it means is unknown."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone: write datetime.now(UTC)")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Put the zone back."""
        return None if value is None else value.replace(tzinfo=UTC)


class NanDouble(TypeDecorator[float]):
    """A number that may be NaN, as a diverged loss is: NULL in the table.

    SQLite turns NaN into NULL by itself, PostgreSQL orders it above every number; infinity is
    the same on both.
    """

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:
        """NaN becomes NULL."""
        return None if value is None or math.isnan(value) else float(value)

    def process_result_value(self, value: float | None, dialect: Dialect) -> float:
        """NULL becomes NaN."""
        return math.nan if value is None else value


def one_of(members: type[StrEnum], name: str) -> Enum:
    """Return a text column of an enumeration's values, checked by the database under ``name``."""
    return Enum(
        members,
        name=name,
        native_enum=False,
        create_constraint=True,
        length=16,
        values_callable=lambda enum: [member.value for member in enum],
    )
