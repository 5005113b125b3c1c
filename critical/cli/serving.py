"""What ``critical dashboard`` does."""

from __future__ import annotations

import os
from typing import Any

from critical.cli.output import say
from critical.dashboards.server import build, serve
from critical.recommend import recommend
from critical.storage.store import Store
from critical.store_url import resolve_storage


def serve_dashboard(host: str, port: int, storage: str | None) -> None:
    """Serve until Ctrl-C."""
    url = resolve_storage(storage, os.environ)

    def advice(name: str, width: int) -> dict[str, Any]:
        with Store.open(url, create=False) as store:
            return recommend(store, store.study(name), width)

    app = build(url, recommend=advice)
    serve(app, host, port, announce=lambda address: say(f"{address}  (Ctrl-C stops)"))
