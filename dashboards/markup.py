"""HTML that cannot be injected: text is escaped unless this module made it."""

from __future__ import annotations

import html
from typing import TypeAlias

_VOID = {"meta", "input", "br", "link"}


class Html(str):
    """Markup that is safe as it stands."""

    __slots__ = ()


Child: TypeAlias = str | float | None
"""Html as it is, any other text escaped, None left out."""


def tag(name: str, /, *children: Child, **attributes: Child | bool) -> Html:
    """Return an element.

    Args:
        name: The element's name.
        children: Its content, in order.
        attributes: ``class_`` and ``aria_label`` become ``class`` and ``aria-label``; True is an
            attribute without a value, None and False leave it out.
    """
    opening = name + "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{opening}>")
    return Html(f"<{opening}>{join(*children)}</{name}>")


def join(*children: Child) -> Html:
    """Return children one after the other."""
    return Html("".join(_escaped(child) for child in children if child is not None))


def _escaped(child: str | float) -> str:
    return child if isinstance(child, Html) else html.escape(str(child))


def _attribute(key: str, value: Child | bool) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'
