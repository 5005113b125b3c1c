"""A plugin of Axolotl's that draws once the model is built, before adapters and the optimizer."""

from __future__ import annotations

from torch import nn

from critical.frameworks.templates.module import initialize


def _base_plugin() -> type:
    """Return Axolotl's own base class; it alone knows all that a plugin is asked."""
    import importlib

    try:
        base: type = importlib.import_module("axolotl.integrations.base").BasePlugin
    except ImportError:
        return object
    return base


class AxolotlPlugin(_base_plugin()):  # type: ignore[misc]
    """Named in the YAML as ``plugins: [critical_init.AxolotlPlugin]``."""

    def post_model_build(self, cfg: object, model: nn.Module) -> None:
        """Draw the model that ``reinit_weights`` has just built."""
        initialize(model)
