"""One module a revision, each named in critical.storage.migrate.REVISIONS."""
