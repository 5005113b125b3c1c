"""What transformers draws for any family: built on the meta device, every draw recorded.

Nothing is allocated and nothing is downloaded; code that a configuration names (auto_map) is never
run. Every in-place operation on a parameter is recorded as torch dispatches it, so that a std is
what the family's own ``_init_weights`` asks for, and not what its configuration suggests.

A depthwise convolution is no matrix, like biases and gains: each channel is filtered by itself, and
no sum over inputs of the model's width is there for fan_in^−γ to hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from critical.errors import TargetError
from critical.targets.layout import Kind, Matrix, grouped, kind_of_block, pattern
from critical.targets.target import Target
from critical.trials.hf_config import quiet, without_code, without_hub

_EXPERTS = ("gate_up_proj", "gate_proj", "up_proj", "down_proj")
# transformers replaces functions of torch.nn.init while it initializes.
_ONE_AT_A_TIME = Lock()


def build(target: Target) -> tuple[Matrix, ...]:
    """List the matrices of any decoder that transformers knows.

    Raises:
        TargetError: transformers is not installed or cannot build the family, or a parameter's
            fan-in or std is not known.
    """
    config = configuration(target, target.model_type, target.config)
    from transformers import AutoModelForCausalLM

    model, recorder = recorded(target, AutoModelForCausalLM, config)
    return grouped(listed(target, model, recorder, model.named_parameters()))


def configuration(target: Target, model_type: str, values: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return the configuration that transformers makes of a file's values.

    Args:
        target: Of the file, for messages.
        model_type: The family.
        values: Of the file, or of a configuration nested in it.

    Raises:
        TargetError: transformers is not installed, does not know the family, or refuses the values.
    """
    without_hub()
    try:
        from transformers import CONFIG_MAPPING
    except ImportError as reason:
        raise TargetError(
            f"{target.name}: the matrices of {model_type} are known to transformers only: "
            'pip install "critical[hf]"'
        ) from reason
    try:
        family = CONFIG_MAPPING[model_type]
    except KeyError:
        raise TargetError(
            f"{target.name}: transformers knows no model_type {model_type!r}, and a "
            "configuration's own code is never run: write the model_type of the nearest family"
        ) from None
    try:
        with quiet():
            return family.from_dict(without_code(dict(values)))
    # Validation errors of transformers and huggingface_hub share no base class.
    except Exception as reason:
        raise _not_built(target, model_type, reason) from reason


def recorded(target: Target, model_class: Any, config: Any) -> tuple[Any, Recorder]:  # noqa: ANN401
    """Build a model on the meta device, and record how it is drawn.

    Raises:
        TargetError: transformers cannot build it.
    """
    recorder = Recorder()
    with _ONE_AT_A_TIME, quiet():
        try:
            with recorder, torch.device("meta"):
                model = model_class.from_config(config, attn_implementation="eager")
            with recorder, _untied(model):
                model.initialize_weights()
        # A family's code raises anything at a configuration that it did not expect.
        except Exception as reason:
            raise _not_built(target, config.model_type, reason) from reason
    return model, recorder


@contextmanager
def _untied(model: Any) -> Iterator[None]:  # noqa: ANN401
    """Give a tied head a matrix of its own meanwhile: it is drawn before it becomes the other."""
    head = model.get_output_embeddings()
    shared: Tensor | None = getattr(head, "weight", None)
    embedding: object = getattr(model.get_input_embeddings(), "weight", None)
    if shared is None or shared is not embedding:
        yield
        return
    head.weight = nn.Parameter(torch.empty_like(shared))
    yield
    head.weight = shared


def listed(
    target: Target,
    model: Any,  # noqa: ANN401
    recorder: Recorder,
    parameters: Iterable[tuple[str, nn.Parameter]],
) -> Iterator[Matrix]:
    """Yield the matrices among some parameters of a model, each with the std that it is drawn with.

    Raises:
        TargetError: The fan-in or the std of one is not known.
    """
    head = model.get_output_embeddings()
    for name, parameter in parameters:
        owner = model.get_submodule(name.rpartition(".")[0])
        if parameter.dim() > 1 and not name.endswith("bias") and not _is_depthwise(owner):
            yield _Found(target, name, parameter, owner, head).matrix(recorder)


def _is_depthwise(owner: nn.Module) -> bool:
    return isinstance(owner, nn.Conv1d) and owner.groups == owner.in_channels > 1


def _not_built(target: Target, model_type: str, reason: Exception) -> TargetError:
    first = " ".join(str(reason).split())[:200] or type(reason).__name__
    return TargetError(
        f"{target.name}: transformers cannot build this {model_type} as a decoder: {first}"
    )


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
