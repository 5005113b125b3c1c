"""What Alembic runs: migrations on the connection, and in the transaction, that it is given."""

from __future__ import annotations

from alembic import context

from critical.storage.migrate import VERSION_TABLE, is_ours
from critical.storage.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    include_object=is_ours,
    # SQLite alters a table by copying it.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
