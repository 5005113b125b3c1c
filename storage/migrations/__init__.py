"""Alembic's scripts: run on opening by critical.storage.migrate, never from the command line."""
