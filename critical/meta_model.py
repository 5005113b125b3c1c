"""What transformers draws for any family: built on the meta device, every draw recorded.

Nothing is allocated and nothing is downloaded; code that a configuration names (auto_map) is never
run. Every in-place operation on a parameter is recorded as torch dispatches it, so that a std is
what the family's own ``_init_weights`` asks for, and not what its configuration suggests.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from critical.errors import TargetError
from critical.layout import Kind, Matrix, grouped, kind_of_block, pattern
from critical.target import Target
from critical.trials.hf_config import without_hub

# None of these changes a shape or an initialization; some need packages that are not here.
_LEFT_OUT = (
    "auto_map",
    "quantization_config",
    "dtype",
    "torch_dtype",
    "attn_implementation",
    "_attn_implementation",
    "experts_implementation",
    "model_type",
)
_EXPERTS = ("gate_up_proj", "gate_proj", "up_proj", "down_proj")
# transformers replaces functions of torch.nn.init while it initializes.
_ONE_AT_A_TIME = Lock()


def build(target: Target) -> tuple[Matrix, ...]:
    """List the matrices of any decoder that transformers knows.

    Raises:
        TargetError: transformers is not installed or cannot build the family, or a parameter's
            fan-in or std is not known.
    """
    model_class, config = _configuration(target)
    recorder = Recorder()
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with recorder, torch.device("meta"):
                model = model_class.from_config(config, attn_implementation="eager")
            with recorder:
                model.initialize_weights()
        # A family's code raises anything at a configuration that it did not expect.
        except Exception as reason:
            raise _not_built(target, reason) from reason
    head = model.get_output_embeddings()
    return grouped(
        _Found(target, name, parameter, _owner(model, name), head).matrix(recorder)
        for name, parameter in model.named_parameters()
        if parameter.dim() > 1 and not name.rpartition(".")[2].endswith("bias")
    )


def _configuration(target: Target) -> tuple[Any, Any]:
    without_hub()
    try:
        from transformers import AutoModelForCausalLM
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    except ImportError as reason:
        raise TargetError(
            f"{target.name}: the matrices of {target.model_type} are known to transformers only: "
            'pip install "critical[hf]"'
        ) from reason
    try:
        family = CONFIG_MAPPING[target.model_type]
    except KeyError:
        raise TargetError(
            f"{target.name}: transformers knows no model_type {target.model_type!r}, and a "
            "configuration's own code is never run: write the model_type of the nearest family"
        ) from None
    values: Mapping[str, Any] = {
        key: value for key, value in target.config.items() if key not in _LEFT_OUT
    }
    try:
        return AutoModelForCausalLM, family.from_dict(dict(values))
    # Validation errors of transformers and huggingface_hub share no base class.
    except Exception as reason:
        raise _not_built(target, reason) from reason


def _not_built(target: Target, reason: Exception) -> TargetError:
    first = " ".join(str(reason).split())[:200] or type(reason).__name__
    return TargetError(
        f"{target.name}: transformers cannot build this {target.model_type} as a decoder: {first}"
    )


def _owner(model: nn.Module, name: str) -> nn.Module:
    return model.get_submodule(name.rpartition(".")[0])


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Remembers what was last written into each tensor, by its storage."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._writes: dict[int, list[tuple[Tensor, str, Sequence[Any]]]] = {}

    def __torch_dispatch__(
        self,
        func: OpOverload[..., object],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        if func._schema.is_mutable and args and isinstance(args[0], Tensor):
            # The tensor is kept with its record, or another could be given its address.
            record = (args[0], func.overloadpacket.__name__, tuple(args[1:]))
            self._writes.setdefault(self._key(args[0]), []).append(record)
        return func(*args, **(kwargs or {}))

    def std(self, parameter: Tensor) -> float | None:
        """Return the std of the last draw over the whole parameter; None where it is unknown."""
        std: float | None = None
        for tensor, operation, arguments in self._writes.get(self._key(parameter), []):
            if tensor.numel() == parameter.numel():
                std = _std_of(operation, arguments)
            elif operation != "zero_" or tensor.numel() > parameter.shape[-1]:
                std = None  # One row of zeros is an embedding's padding; other parts are unknown.
        return std

    @staticmethod
    def _key(tensor: Tensor) -> int:
        return int(tensor.untyped_storage()._cdata)


def _std_of(operation: str, arguments: Sequence[Any]) -> float | None:
    if operation == "normal_":
        return float(arguments[1]) if len(arguments) > 1 else 1.0
    if operation == "uniform_":
        low, high = (*arguments, 1.0)[:2] if arguments else (0.0, 1.0)
        return float(high - low) / math.sqrt(12)
    if operation in ("zero_", "fill_"):
        return 0.0
    return None


@dataclass(frozen=True, slots=True)
class _Found:
    """A parameter in the module that owns it."""

    target: Target
    name: str
    parameter: Tensor
    owner: nn.Module
    head: nn.Module | None

    def matrix(self, recorder: Recorder) -> Matrix:
        std = recorder.std(self.parameter)
        if std is None:
            raise self._unknown("how transformers draws it is not known")
        return Matrix(
            pattern(self.name), 1, tuple(self.parameter.shape), self._fan_in(), self._kind(), std
        )

    def _kind(self) -> Kind:
        if isinstance(self.owner, nn.Embedding):
            return "embedding"
        return "head" if self.owner is self.head else kind_of_block(self.name)

    def _fan_in(self) -> int:
        shape = self.parameter.shape
        owner, leaf = type(self.owner).__name__, self.name.rpartition(".")[2]
        if isinstance(self.owner, nn.Linear | nn.Embedding | nn.Conv1d) and leaf == "weight":
            return math.prod(shape[1:])
        if owner == "Conv1D" and leaf == "weight":
            return shape[0]
        if ("Router" in owner or "Gate" in owner) and shape[1:] == (self.target.width,):
            return shape[1]
        if len(shape) == 3 and leaf in _EXPERTS:
            return self._expert_fan_in(leaf, shape[1], shape[2])
        raise self._unknown("its fan-in is not known")

    def _expert_fan_in(self, leaf: str, first: int, second: int) -> int:
        """Families store experts as (out, in) or (in, out); transformers flags which since 5.0."""
        transposed = getattr(self.owner, "is_transposed", None)
        if isinstance(transposed, bool):
            return first if transposed else second
        width = self.target.width
        if width not in (first, second):
            raise self._unknown("its fan-in is not known")
        other = second if first == width else first
        return other if leaf == "down_proj" else width

    def _unknown(self, what: str) -> TargetError:
        return TargetError(
            f"{self.target.name}: {self.target.model_type} has the parameter {self.name} of shape "
            f"{tuple(self.parameter.shape)}, and {what}: write the config of another family"
        )
