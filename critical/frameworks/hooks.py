"""The Python modules that are handed to users, filled in from templates.

What is filled in are literals, and every one goes through ``repr``: a name in somebody's
configuration can never become code.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from importlib.resources import files

from critical.frameworks.framework import Hook

FILE_NAME = "critical_init.py"
_TEMPLATES = "critical.frameworks.templates"


def filled(template: str, constants: Mapping[str, object]) -> str:
    """Return a template's text with module constants set.

    Args:
        template: Name of a module of ``critical.frameworks.templates``.
        constants: By name; each stands in the template at the start of a line, ``NAME = …``. Of
            them only numbers, texts, booleans, None, and tuples, lists and dicts of such.
    """
    text = _text(template)
    for name, value in constants.items():
        text = _with(text, template, name, _literal(name, value))
    return text


def module_hook(
    gamma: float, usage: str, leaves: tuple[str, ...] = (), extension: str | None = None
) -> Hook:
    """Return the module that redraws any PyTorch model's matrices by their own fan-in.

    Args:
        gamma: The exponent.
        usage: One sentence: where to call it in this framework.
        leaves: Name patterns of the matrices that it does not know.
        extension: A template that imports from ``module``, put behind it in the same file.
    """
    text = filled("module", {"GAMMA": float(gamma)})
    if extension is not None:
        body, _, end = text.partition('\n\nif __name__ == "__main__":')
        text = f'{body}\n\n{_without_head(extension)}\n\nif __name__ == "__main__":{end}'
    return Hook(FILE_NAME, text, usage, leaves)


def _text(template: str) -> str:
    return (files(_TEMPLATES) / f"{template}.py").read_text("utf-8")


def _with(text: str, template: str, name: str, literal: str) -> str:
    found = re.findall(rf"^{name}(?:: [^=\n]+)? = .*$", text, re.MULTILINE)
    if len(found) != 1:
        raise AssertionError(f"{template} has {len(found)} lines that set {name}")
    head = found[0].partition(" = ")[0]
    return text.replace(f"\n{found[0]}\n", f"\n{head} = {literal}\n", 1)


def _literal(name: str, value: object) -> str:
    """Return a value as Python writes it, once it is sure to be a literal that reads back equal."""
    text = repr(value)
    try:
        same = ast.literal_eval(text) == value
    except (ValueError, SyntaxError):
        same = False
    if not same:
        raise AssertionError(f"{name} {text[:80]} is no literal")
    return text


def _without_head(extension: str) -> str:
    """Return a template's text past its imports, the last of which is of ``module``."""
    text = _text(extension)
    _, found, rest = text.partition(f"\nfrom {_TEMPLATES}.module import ")
    if not found or f"{_TEMPLATES}." in rest:
        raise AssertionError(f"{extension} does not extend module")
    return rest.partition("\n")[2].strip("\n")
