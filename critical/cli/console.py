"""Where tables and the progress are drawn: nothing that they hold is markup or controls it."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from critical.cli.visible import visible

_WIDTH = 110
"""Where there is no terminal."""


class PlainConsole(Console):
    """A Rich console whose texts are text: Rich itself removes but a few control characters."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render to segments, the control characters in their texts made visible."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


def console(*, stderr: bool = False) -> Console:
    """Return a console on standard output or standard error."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _WIDTH
    return PlainConsole(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)
