"""What can go wrong with a store, in one sentence each: what, where, what to write instead."""

# ruff: noqa: N818 - StudyNotFound says it as well as StudyNotFoundError

from __future__ import annotations

from collections.abc import Sequence

NAMES_SHOWN = 5


class StoreError(Exception):
    """The store, or what was asked of it, is wrong. Exit status 2."""

    exit_status = 2


class StoreNotFound(StoreError):
    """Nothing is stored at the URL, and it was not to be created."""

    def __init__(self, place: str) -> None:
        super().__init__(
            f"there is no store at {place}: run `critical search` first, "
            "or name another with --storage"
        )


class StoreTooNew(StoreError):
    """A newer version of Critical wrote the store."""

    def __init__(self, place: str, revision: str, head: str) -> None:
        super().__init__(
            f"the store {place} was written by a newer version of Critical (schema {revision}; "
            f"this one knows up to {head}): upgrade with `pip install -U critical`"
        )


class StudyExists(StoreError):
    """A study of that name is stored already."""

    def __init__(self, name: str, place: str) -> None:
        super().__init__(
            f"a study {name!r} exists already in {place}: resume it with the same command, "
            "or name another with --study"
        )


class StudyNotFound(StoreError):
    """No study has that name, or that key."""

    @classmethod
    def named(cls, name: str, place: str, existing: Sequence[str]) -> StudyNotFound:
        """Say which studies exist, at most a few of them by name."""
        if not existing:
            return cls(f"no study {name!r} in {place}, which has none: run `critical search` first")
        shown = ", ".join(repr(each) for each in existing[:NAMES_SHOWN])
        more = len(existing) - NAMES_SHOWN
        rest = f" and {more} more (`critical studies` lists them)" if more > 0 else ""
        return cls(f"no study {name!r} in {place}: write one of {shown}{rest}")

    @classmethod
    def keyed(cls, study_id: int) -> StudyNotFound:
        """Say that no study has this database key."""
        return cls(f"no study has the id {study_id}: take it from a StudyRecord of this store")


class TrialNotFound(StoreError):
    """No trial has that key, or that number in its study."""


class DocumentError(StoreError):
    """A document that JSON cannot hold, or that this version cannot read."""


class StoreFull(StoreError):
    """There is no room left on the store's disk. Exit status 1."""

    exit_status = 1


class StudyBusy(StoreError):
    """Another driver holds the lease on a study."""


class LeaseLost(StoreError):
    """Another driver has taken the study over: nothing may be written any more. Exit status 1."""

    exit_status = 1
