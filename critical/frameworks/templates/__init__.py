"""Modules that are handed to users as files: each stands alone and is filled in by ``hooks``."""
