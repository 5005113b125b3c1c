"""Optuna's storage on the same database: its tables beside ours, its own version table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

from critical.storage.engine import BUSY_SECONDS, in_one_sentence
from critical.storage.errors import StoreError
from critical.storage.url import check_place, parse_url, place

if TYPE_CHECKING:
    from optuna.storages import RDBStorage


def optuna_storage(url: str) -> RDBStorage:
    """Open Optuna's tables at a storage URL, creating them where they are missing.

    No heartbeat: it beats only under ``study.optimize``, and the search asks and tells. Optuna's
    log is set to warnings, for what it reports of each trial the search says itself.

    Raises:
        StoreError: The database cannot be used, or another version of Optuna made its tables.
    """
    parsed = parse_url(url)
    check_place(parsed, create=True)

    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    options: dict[str, Any] = {}
    if parsed.drivername == "sqlite":
        options["connect_args"] = {"timeout": BUSY_SECONDS}
    try:
        storage = optuna.storages.RDBStorage(
            parsed.render_as_string(hide_password=False),
            engine_kwargs=options,
            # Checked below instead: Optuna's own check leaves its connection open when it fails.
            skip_compatibility_check=True,
        )
        found, known = storage.get_current_version(), storage.get_head_version()
    except DBAPIError as error:
        raise in_one_sentence(error, parsed) from error
    if found != known:
        storage.engine.dispose()
        raise StoreError(
            f"Optuna {optuna.__version__} cannot use its tables in {place(parsed)} (schema "
            f"{found}, not {known}): install the version that made them, or name another store "
            "with --storage"
        )
    return storage
