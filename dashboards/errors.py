"""The sentences that users of the web page read."""

from __future__ import annotations


class DashboardError(Exception):
    """The page cannot be served or drawn as asked. Exit status 2."""

    exit_status = 2
