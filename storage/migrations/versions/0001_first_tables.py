"""The first tables.

Types are spelled out as the database has them, so that a later change of the schema's own column
types leaves this revision as it was.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create all six tables."""
    _create_study()
    _create_trial()
    _create_measurement()
    _create_charge()
    _create_posterior()
    _create_recommendation()


def downgrade() -> None:
    """Drop them, and with them every study."""
    for table in ("recommendation", "posterior", "charge", "measurement", "trial", "study"):
        op.drop_table(f"critical_{table}")


def _create_study() -> None:
    op.create_table(
        "critical_study",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "running",
                "interrupted",
                "finished",
                "failed",
                name="state",
                native_enum=False,
                create_constraint=True,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("budget_unit", sa.String(length=32), nullable=False),
        sa.Column("budget_total", sa.Double(), nullable=False),
        sa.Column("rule", sa.String(length=64), nullable=False),
        sa.Column("interval_low", sa.Double(), nullable=False),
        sa.Column("interval_high", sa.Double(), nullable=False),
        sa.Column("reference_gamma", sa.Double(), nullable=False),
        sa.Column("target_width", sa.Integer(), nullable=True),
        sa.Column("target_depth", sa.Integer(), nullable=True),
        sa.Column("options", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("plan", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("target", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.CheckConstraint("budget_total >= 0", name=op.f("ck_critical_study_budget_total")),
        sa.CheckConstraint("interval_low < interval_high", name=op.f("ck_critical_study_interval")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_critical_study")),
        sa.UniqueConstraint("name", name=op.f("uq_critical_study_name")),
    )


def _create_trial() -> None:
    op.create_table(
        "critical_trial",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("arm", sa.String(length=128), nullable=False),
        sa.Column("optuna_number", sa.Integer(), nullable=True),
        sa.Column(
            "role",
            sa.Enum(
                "reference",
                "search",
                "confirmation",
                name="role",
                native_enum=False,
                create_constraint=True,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("gamma", sa.Double(), nullable=False),
        sa.Column("learning_rate", sa.Double(), nullable=True),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("heads", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("settings", sa.String(length=64), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "running",
                "completed",
                "stopped",
                "diverged",
                "failed",
                name="state",
                native_enum=False,
                create_constraint=True,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("reasoning", sa.Double(), nullable=True),
        sa.Column("log2_efficiency", sa.Double(), nullable=True),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("finished_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["study_id"],
            ["critical_study.id"],
            name=op.f("fk_critical_trial_study_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_critical_trial")),
        sa.UniqueConstraint(
            "study_id",
            "arm",
            "optuna_number",
            name=op.f("uq_critical_trial_study_id_arm_optuna_number"),
        ),
        sa.UniqueConstraint("study_id", "number", name=op.f("uq_critical_trial_study_id_number")),
    )
    op.create_index(
        op.f("ix_critical_trial_study_id_state"),
        "critical_trial",
        ["study_id", "state"],
        unique=False,
    )


def _create_measurement() -> None:
    op.create_table(
        "critical_measurement",
        sa.Column("trial_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("loss", sa.Double(), nullable=True),
        sa.Column("reasoning", sa.Double(), nullable=True),
        sa.Column("device_seconds", sa.Double(), nullable=False),
        sa.Column("extras", sa.JSON(none_as_null=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["trial_id"],
            ["critical_trial.id"],
            name=op.f("fk_critical_measurement_trial_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("trial_id", "number", name=op.f("pk_critical_measurement")),
        sqlite_with_rowid=False,
    )


def _create_charge() -> None:
    op.create_table(
        "critical_charge",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("trial_id", sa.Integer(), nullable=True),
        sa.Column("purpose", sa.String(length=64), nullable=False),
        sa.Column("reserved_seconds", sa.Double(), nullable=False),
        sa.Column("charged_seconds", sa.Double(), nullable=True),
        sa.Column("reserved_at", sa.DateTime(), nullable=False),
        sa.Column("settled_at", sa.DateTime(), nullable=True),
        sa.CheckConstraint(
            "(charged_seconds IS NULL) = (settled_at IS NULL)",
            name=op.f("ck_critical_charge_settled"),
        ),
        sa.CheckConstraint("charged_seconds >= 0", name=op.f("ck_critical_charge_charged_seconds")),
        sa.CheckConstraint(
            "reserved_seconds >= 0", name=op.f("ck_critical_charge_reserved_seconds")
        ),
        sa.ForeignKeyConstraint(
            ["study_id"],
            ["critical_study.id"],
            name=op.f("fk_critical_charge_study_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["trial_id"],
            ["critical_trial.id"],
            name=op.f("fk_critical_charge_trial_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_critical_charge")),
        sa.UniqueConstraint("trial_id", name=op.f("uq_critical_charge_trial_id")),
    )
    op.create_index(
        op.f("ix_critical_charge_study_id"), "critical_charge", ["study_id"], unique=False
    )


def _create_posterior() -> None:
    op.create_table(
        "critical_posterior",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("trials", sa.Integer(), nullable=False),
        sa.Column("spent_seconds", sa.Double(), nullable=False),
        sa.Column("median", sa.Double(), nullable=True),
        sa.Column("low", sa.Double(), nullable=True),
        sa.Column("high", sa.Double(), nullable=True),
        sa.Column("verdict", sa.String(length=32), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("document", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["study_id"],
            ["critical_study.id"],
            name=op.f("fk_critical_posterior_study_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_critical_posterior")),
    )
    op.create_index(
        op.f("ix_critical_posterior_study_id"), "critical_posterior", ["study_id"], unique=False
    )


def _create_recommendation() -> None:
    op.create_table(
        "critical_recommendation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("document", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"],
            ["critical_study.id"],
            name=op.f("fk_critical_recommendation_study_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_critical_recommendation")),
    )
    op.create_index(
        op.f("ix_critical_recommendation_study_id"),
        "critical_recommendation",
        ["study_id"],
        unique=False,
    )
