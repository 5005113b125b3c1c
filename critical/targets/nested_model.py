"""The language model of a multimodal configuration, as the model around it builds and draws it.

The head is drawn by the outer configuration in most families and by the nested one in some, and
which of them ties it differs too: so the whole model is built, on the meta device. Vision towers
and projectors are drawn by rules of their own and are not listed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from critical.errors import TargetError
from critical.targets.layout import Matrix, grouped
from critical.targets.meta_model import configuration, listed, recorded
from critical.targets.target import Target


@dataclass(frozen=True, slots=True)
class NestedModel:
    """A language model within a multimodal one.

    Attributes:
        matrices: Its own and its head's, under their names in the whole model.
        path: Where it stands in the whole model, as ``model.language_model``.
        head: Where a head of its own stands, outside of ``path``; None where there is none.
    """

    matrices: tuple[Matrix, ...]
    path: str
    head: str | None


def build_nested(target: Target) -> NestedModel:
    """List the matrices of a nested language model.

    Args:
        target: One with an ``outer``.

    Raises:
        TargetError: transformers is not installed or cannot build the whole model, or a
            parameter's fan-in or std is not known.
    """
    outer = target.outer or {}
    config = configuration(target, str(outer.get("model_type")), outer)
    model, recorder = recorded(target, _class_for(target, config), config)
    names = {id(module): name for name, module in model.named_modules()}
    decoder: Any = model.get_decoder()
    path = names.get(id(decoder), "")
    if not path or not isinstance(decoder, nn.Module):
        raise TargetError(f"{target.name}: where its language model is in it is not known")
    output = model.get_output_embeddings()
    head = None if output is None else names.get(id(output))
    ours = [
        (name, parameter)
        for name, parameter in model.named_parameters()
        if name.startswith(f"{path}.") or (head is not None and name.startswith(f"{head}."))
    ]
    matrices = grouped(listed(target, model, recorder, ours))
    own = head is not None and any(each.name.startswith(f"{head}.") for each in matrices)
    return NestedModel(matrices, path, head if own else None)


def _class_for(target: Target, config: Any) -> Any:  # noqa: ANN401  # transformers is not typed
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    )

    if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return AutoModelForImageTextToText
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForCausalLM
    raise TargetError(
        f"{target.name}: transformers builds no model of text from a {config.model_type}"
    )
