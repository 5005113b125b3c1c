"""Trials that go on after an interruption, and one driver at a time.

A trial may be ``interrupted``, and has a charge for each of its attempts; a driver holds a lease
on its study.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_OLD_STATES = "'running', 'completed'"
_NEW_STATES = "'running', 'interrupted', 'completed'"


def upgrade() -> None:
    """Widen the states, number the charges of a trial, and create the leases."""
    if op.get_bind().dialect.name == "sqlite":
        _rebuild("critical_trial", ((_OLD_STATES, _NEW_STATES),))
        _rebuild(
            "critical_charge",
            (
                ("purpose VARCHAR", "attempt INTEGER NOT NULL, \n\tpurpose VARCHAR"),
                ("reserved_at DATETIME", "reason TEXT, \n\treserved_at DATETIME"),
                (
                    "uq_critical_charge_trial_id UNIQUE (trial_id)",
                    "uq_critical_charge_trial_id_attempt UNIQUE (trial_id, attempt)",
                ),
            ),
            {"attempt": "0"},
        )
    else:
        _alter()
    _create_lease()


def _alter() -> None:
    op.drop_constraint(op.f("ck_critical_trial_state"), "critical_trial", type_="check")
    op.create_check_constraint(
        op.f("ck_critical_trial_state"),
        "critical_trial",
        f"state IN ({_NEW_STATES}, 'stopped', 'diverged', 'failed')",
    )
    op.add_column(
        "critical_charge", sa.Column("attempt", sa.Integer(), nullable=False, server_default="0")
    )
    op.alter_column("critical_charge", "attempt", server_default=None)
    op.add_column("critical_charge", sa.Column("reason", sa.Text(), nullable=True))
    op.drop_constraint(op.f("uq_critical_charge_trial_id"), "critical_charge", type_="unique")
    op.create_unique_constraint(
        op.f("uq_critical_charge_trial_id_attempt"), "critical_charge", ["trial_id", "attempt"]
    )


def _rebuild(
    table: str, edits: tuple[tuple[str, str], ...], added: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Change what SQLite cannot alter: copy a table into one with an edited definition.

    Foreign keys are off while a database is migrated, or dropping a table would delete what
    refers to its rows.

    Args:
        table: Its name.
        edits: Pieces of its definition, each there once, and what replaces them.
        added: New columns and the SQL that they are filled with.
    """
    bind = op.get_bind()
    made = sa.text("SELECT sql FROM sqlite_master WHERE tbl_name = :table AND sql IS NOT NULL")
    definition, *indexes = bind.scalars(made, {"table": table}).all()
    columns = [column["name"] for column in sa.inspect(bind).get_columns(table)]
    for old, new in ((table, "critical_rebuilt"), *edits):
        if old not in definition:
            raise RuntimeError(f"{table} is not as revision 0001 made it: it lacks {old!r}")
        definition = definition.replace(old, new, 1)
    op.execute(definition)
    into, taken = ", ".join([*columns, *added]), ", ".join([*columns, *added.values()])
    op.execute(f"INSERT INTO critical_rebuilt ({into}) SELECT {taken} FROM {table}")  # noqa: S608 - constants
    op.execute(f"DROP TABLE {table}")
    op.execute(f"ALTER TABLE critical_rebuilt RENAME TO {table}")
    for index in indexes:
        op.execute(index)


def _create_lease() -> None:
    op.create_table(
        "critical_lease",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("machine", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started", sa.String(length=64), nullable=False),
        sa.Column("acquired_at", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("released_at", sa.DateTime(), nullable=True),
        sa.Column("environment", sa.JSON(none_as_null=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"],
            ["critical_study.id"],
            name=op.f("fk_critical_lease_study_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_critical_lease")),
    )
    op.create_index(op.f("ix_critical_lease_study_id"), "critical_lease", ["study_id"])
    op.create_index(
        op.f("uq_critical_lease_unreleased"),
        "critical_lease",
        ["study_id"],
        unique=True,
        sqlite_where=sa.text("released_at IS NULL"),
        postgresql_where=sa.text("released_at IS NULL"),
    )
