"""Draws every weight matrix of a torchtitan model from N(0, std²) with std = fan_in^−GAMMA.

Needs torchtitan 0.3 and nothing else. Put this file where Python finds it, then either

    torchrun … -m torchtitan.train … --override.imports critical_init.with_gamma

or, in a config_registry of your own (also where another override replaces modules of the model):

    critical_init.with_gamma(config.model_spec.model)

Either sets ``param_init`` in the configuration, before the model is built: sharding and meta device
are as ever. Norms, biases and all else stay as they are.
"""

from __future__ import annotations

import logging
from functools import partial

from torch import nn
from torchtitan.config.override import override
from torchtitan.models.common import Embedding, Linear
from torchtitan.models.common.moe import GroupedExperts
from torchtitan.models.common.param_init import skip_param_init
from torchtitan.protocols.model import BaseModel
from torchtitan.protocols.module import Module

GAMMA = 0.5
_EXPERTS = {
    "w1_EFD": "dim",
    "w3_EFD": "dim",
    "w2_EDF": "hidden_dim",
    "mlp1_weight_EGD": "dim",
    "mlp2_weight_EDF": "hidden_dim",
}
_LOGGER = logging.getLogger("critical_init")


def with_gamma(config: BaseModel.Config, gamma: float = GAMMA) -> BaseModel.Config:
    """Set the initializer of every Linear, Embedding and stack of experts, and return the config.

    Fan-in is the input dimension; for an embedding it is its own. A tied embedding is left to the
    head, whose fan-in is the same. Parameters of other modules keep their initializers, and are
    logged where these are no norm's.
    """
    kept: set[str] = set()
    for _, module, _, _ in list(config.traverse(Module.Config, recurse=True)):
        if isinstance(module, Linear.Config):
            _set(module, {"weight": module.in_features}, gamma)
            module.param_init.setdefault("bias", nn.init.zeros_)
        elif isinstance(module, Embedding.Config):
            if (module.param_init or {}).get("weight") is not skip_param_init:
                _set(module, {"weight": module.embedding_dim}, gamma)
        elif isinstance(module, GroupedExperts.Config):
            inits = module.param_init or {}
            sizes = {name: getattr(module, dim) for name, dim in _EXPERTS.items() if name in inits}
            _set(module, sizes, gamma)
            kept.update(name for name in inits if name not in sizes and "bias" not in name)
        elif "Norm" not in type(module)._owner.__name__:
            kept.update(module.param_init or {})
    if kept:
        _LOGGER.warning("parameters that keep their own initializers: %s", ", ".join(sorted(kept)))
    return config


def _set(module: Module.Config, fan_ins: dict[str, int], gamma: float) -> None:
    draw = {name: partial(nn.init.normal_, std=f**-gamma) for name, f in fan_ins.items()}
    module.param_init = {**(module.param_init or {}), **draw}


override(target=BaseModel.Config, description="std = fan_in^-gamma for every matrix")(with_gamma)
