"""The optimizer of an LLM Foundry configuration.

Source: llm-foundry 0.22, utils/builders.py (_extract_param_groups) and optim/__init__.py; of
Composer's DecoupledAdamW the defaults eps 1e-8 and weight_decay 1e-5, and that its weight decay is
not scaled by the learning rate, only by its schedule (optim/decoupled_weight_decay.py).
"""

from __future__ import annotations

from critical.frameworks.reading import Optimizer, Setting
from critical.targets.config_keys import Keys

_ADAM = "decoupled_adamw"


def optimizer(keys: Keys) -> Optimizer | None:
    """Return the optimizer; None where it is none with Adam's ε.

    Raises:
        CriticalError: A value is of the wrong type.
    """
    section = keys.inner("optimizer")
    if section.values.get("name") != _ADAM:
        return None
    stated = section.values
    # Without groups of its own every parameter is decayed, embeddings and norms too.
    grouped = stated.get("param_groups") is not None
    return Optimizer(
        Setting("optimizer.eps", section.positive(("eps",), 1e-8), stated.get("eps") is not None),
        Setting(
            "optimizer.weight_decay",
            section.number(("weight_decay",), 1e-5),
            stated.get("weight_decay") is not None,
        ),
        decays_embeddings=None if grouped else True,
        decay_times_lr=False,
    )
