"""Draws every weight matrix of a PyTorch model from N(0, std²) with std = fan_in^−GAMMA.

Needs PyTorch and nothing else. Call ``initialize(model)`` once the parameters are real (not on the
meta device) and before the optimizer is made: before DDP, FSDP1 or DeepSpeed wrap the model (else
inside of FSDP.summon_full_params), after FSDP2 or tensor parallelism has made its parameters
DTensors. Seed every process alike. Biases, norm gains and all else stay as they are, depthwise
convolutions among it: they filter every channel by itself, and sum over no inputs.

A trainer that can only load a Hugging Face checkpoint starts from the same initialization with
``python critical_init.py CONFIG_FOLDER NEW_FOLDER [SEED]``, which draws a model and saves it there.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

GAMMA = 0.5
_STACKS = ("gate_up_proj", "gate_proj", "up_proj", "down_proj")


@torch.no_grad()
def initialize(
    model: nn.Module, gamma: float = GAMMA, fan_in: Mapping[str, int] | None = None
) -> list[str]:
    """Draw every weight matrix that is known, a tied one once; warn of the others, and return them.

    Known are Linear, Embedding, convolutions that are not depthwise, nn.MultiheadAttention, and
    Hugging Face's Conv1D, routers and stacks of experts. Fan-in is the input dimension; of an
    embedding it is the model's width.

    Args:
        model: Anything made of these.
        gamma: The exponent.
        fan_in: Fan-in of parameters that are not known, by their names in ``named_parameters``.

    Returns:
        The names of the matrices that stay as they were.

    Raises:
        RuntimeError: A parameter is not real, or no longer whole.
    """
    drawn: set[int] = set()
    padding = [rows for module in model.modules() for rows in _zero_padding(module)]
    width = _width(model)
    for name, module in model.named_modules():
        for attribute, inputs in fan_ins(module, width):
            _draw(module, attribute, f"{name}.{attribute}".lstrip("."), inputs, gamma, drawn)
    for name, inputs in (fan_in or {}).items():
        owner, _, attribute = name.rpartition(".")
        _draw(model.get_submodule(owner), attribute, name, inputs, gamma, drawn)
    for local, row in padding:
        local[row] = 0.0
    left = [
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim > 1 and id(parameter) not in drawn
        if "bias" not in name.rpartition(".")[2]
    ]
    if left:
        shown = ", ".join(left[:4]) + (", …" if left[4:] else "")
        warnings.warn(f"critical_init left {len(left)} as they were: {shown}", stacklevel=3)
    return left


def fan_ins(module: nn.Module, width: int | None = None) -> list[tuple[str, int]]:
    """Return (attribute, fan-in) of the weight matrices that a module itself has.

    Args:
        module: Of any class.
        width: The model's, where it is known: routers and some stacks of experts are told by it.
    """
    if isinstance(module, nn.Linear):
        shards: Any = 1
        if _is(module, "TensorParallelRowLinear"):
            shards = module.world_size  # nanotron's has its shard's in_features, a DTensor's not.
        return [("weight", module.in_features * shards)]
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return [("weight", module.embedding_dim)]
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        if module.groups == module.in_channels > 1:
            return []  # Depthwise.
        return [("weight", module.in_channels // module.groups * math.prod(module.kernel_size))]
    if isinstance(module, nn.MultiheadAttention):
        inputs, keys, values = module.embed_dim, module.kdim, module.vdim
        queries = [("in_proj_weight", inputs), ("q_proj_weight", inputs)]
        return [*queries, ("k_proj_weight", keys or inputs), ("v_proj_weight", values or inputs)]
    return _hugging_face(module, getattr(module, "hidden_size", width))


def _hugging_face(module: nn.Module, width: int | None) -> list[tuple[str, int]]:
    own = {name: tuple(p.shape) for name, p in module.named_parameters(recurse=False)}
    kind, weight = type(module).__name__, own.get("weight", ())
    if _is(module, "Conv1D") and weight[1:] == (getattr(module, "nf", None),):  # (in, out)
        return [("weight", weight[0])]
    if ("Router" in kind or "Gate" in kind) and weight[1:] == (width,):
        return [("weight", weight[1])]
    stacks = {name: own[name][1:] for name in _STACKS if len(own.get(name, ())) == 3}
    transposed = getattr(module, "is_transposed", None)  # Whether stacks of experts are (in, out).
    if isinstance(transposed, bool):
        return [(name, sizes[0 if transposed else 1]) for name, sizes in stacks.items()]
    return [
        (name, math.prod(sizes) // width if name == "down_proj" else width)
        for name, sizes in stacks.items()
        if width is not None and width in sizes
    ]


def _is(module: nn.Module, name: str) -> bool:
    """Return whether a module is of a class so called or, as under FSDP2, extends one."""
    return any(each.__name__ == name for each in type(module).__mro__)


def _width(model: nn.Module) -> int | None:
    config: Any = getattr(model, "config", None)  # Hugging Face's, or none, or another's.
    text = getattr(config, "get_text_config", None)
    width = getattr(text() if text else config, "hidden_size", None)
    return width if isinstance(width, int) else None


def after(owner: type, method: str) -> None:
    """Have ``owner.method(self, …)`` followed by ``initialize(self)``, where a framework draws."""
    plain = getattr(owner, method)

    @functools.wraps(plain)
    def drawing(self: nn.Module, *args: object, **kwargs: object) -> object:
        result = plain(self, *args, **kwargs)
        initialize(self)
        return result

    setattr(owner, method, drawing)


def save(config_folder: str, new_folder: str, seed: int = 0) -> None:
    """Draw the model that a folder's config.json describes, and save it as a checkpoint.

    Raises:
        ValueError: There is no such file, the new folder is not empty, transformers cannot build
            the model, or it is multimodal: parts that γ is not for would be drawn too.
    """
    if not (Path(config_folder) / "config.json").is_file():
        raise ValueError(f"{config_folder} holds no config.json: write the folder that does")
    new = Path(new_folder)
    if new.exists() and not (new.is_dir() and not any(new.iterdir())):
        raise ValueError(f"{new_folder} is there and not empty: write the path of a new folder")
    os.environ["HF_HUB_OFFLINE"] = "1"  # Nothing is needed from there; read once, by the import.
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    try:
        config = AutoConfig.from_pretrained(config_folder, local_files_only=True)
        if config.get_text_config() is not config:
            raise ValueError(
                "it is multimodal: once it is built, call initialize on its language model alone"
            )
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    except Exception as reason:  # A family's code raises anything.
        raise ValueError(f"{config_folder} is not drawn: {reason}") from reason
    initialize(model)
    model.save_pretrained(new)


def _draw(
    module: nn.Module, attribute: str, name: str, inputs: int, gamma: float, drawn: set[int]
) -> None:
    if parametrize.is_parametrized(module, attribute):
        _draw_through(module, attribute, inputs**-gamma, drawn)
        return
    weight = getattr(module, attribute, None)
    if not isinstance(weight, nn.Parameter):
        return
    if weight.is_meta or isinstance(weight, nn.parameter.UninitializedParameter):
        raise RuntimeError(
            f"{name} holds no numbers yet: call initialize once the parameters are real, after "
            "to_empty where the model is on the meta device"
        )
    if weight.ndim < 2 or weight.numel() == 0:
        raise RuntimeError(
            f"{name} is a shard of shape {tuple(weight.shape)}: call initialize before FSDP1 or "
            "DeepSpeed wraps the model, or inside of FSDP.summon_full_params"
        )
    mesh: Any = getattr(weight, "device_mesh", None)  # Of a DTensor.
    if mesh is not None and mesh.device_type == "cpu" and mesh.size() > 1:
        raise RuntimeError(
            f"{name} is spread over processes on the CPU, where torch draws every shard alike: "
            "call initialize once it is on the GPU, or before it is sharded"
        )
    if not weight.is_floating_point() or weight.element_size() < 2:
        return  # Quantized: not drawn, and so among those that are returned.
    if id(weight) not in drawn:
        weight.normal_(0.0, inputs**-gamma)
        drawn.add(id(weight))


def _draw_through(module: nn.Module, attribute: str, std: float, drawn: set[int]) -> None:
    """Draw a matrix that a parametrization computes, as weight_norm does, where it can be set."""
    wanted = torch.empty_like(getattr(module, attribute)).normal_(0.0, std)
    try:
        setattr(module, attribute, wanted)
    except (NotImplementedError, RuntimeError):
        return  # It cannot be inverted.
    if torch.allclose(getattr(module, attribute), wanted, rtol=1e-2, atol=1e-2 * std):
        parameters: Any = module.parametrizations[attribute]  # type: ignore[index]
        drawn.update(id(parameter) for parameter in parameters.parameters())


def _zero_padding(module: nn.Module) -> Iterator[tuple[torch.Tensor, Any]]:
    """Yield an embedding's padding row, (the rows that are here, which), where it is zero."""
    row, weight = getattr(module, "padding_idx", None), getattr(module, "weight", None)
    if not isinstance(row, int) or not isinstance(weight, nn.Parameter):
        return
    if weight.is_meta or weight.ndim != 2 or row >= weight.shape[0]:
        return  # Told of, where it matters, once it is to be drawn.
    local: Any = weight.data
    which: Any = row
    if hasattr(local, "to_local"):
        from torch.distributed.tensor import Replicate, Shard, distribute_tensor

        rows = torch.arange(local.shape[0], device=local.device)
        by_row = [Shard(0) if each.is_shard(0) else Replicate() for each in local.placements]
        which = distribute_tensor(rows, local.device_mesh, by_row).to_local() == row
        local = local.to_local()
    if not local[which].any():
        yield local, which


def main() -> None:
    """Save a drawn checkpoint as the command line says; exit with a sentence where it cannot."""
    parser = argparse.ArgumentParser(description="Draw a model by GAMMA, and save it.")
    parser.add_argument("config_folder", help="that holds a config.json")
    parser.add_argument("new_folder", help="for the checkpoint; made where it is missing")
    parser.add_argument("seed", nargs="?", type=int, default=0, help="of the draws, by default 0")
    given = parser.parse_args()
    try:
        save(given.config_folder, given.new_folder, given.seed)
    except (ImportError, OSError, ValueError) as reason:
        parser.error(" ".join(str(reason).split()))


if __name__ == "__main__":
    main()
