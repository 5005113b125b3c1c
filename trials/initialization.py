"""γ-initialization of any module: every weight matrix drawn with std = fan_in^−γ, and its inverse.

    fan_in   the input dimension of a matrix; for an embedding the model width, not the vocabulary
    γ_eq     −ln(std) / ln(fan_in), the γ that an existing std amounts to

Two conventions. ``fan_in``: each matrix by its own fan-in. ``width``: d_model^−γ for every matrix,
residual projections further divided by √(2L), as in the code of arXiv 2501.08537.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from critical.trials import randomness

Convention = Literal["fan_in", "width"]

RESIDUAL_PROJECTION = re.compile(
    r"(^|\.)(o_proj|out_proj|c_proj|down_proj|wo|w2|fc2|fc_out|dense_4h_to_h|attention_output"
    r"|(self_)?(attn|attention)\.dense)\.weight$"
)
"""Names under which the common families write into the residual stream."""
_STACKS = ("gate_up_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Matrix:
    """A weight matrix of a module.

    Attributes:
        name: Dotted name of the parameter; a tied one appears once, under its first name.
        fan_in: Its input dimension; an embedding's is its width.
        std: The standard deviation it has, or was just drawn with.
    """

    name: str
    fan_in: int
    std: float

    @property
    def gamma(self) -> float:
        """γ_eq of this matrix."""
        return equivalent_gamma(self.std, self.fan_in)


@dataclass(frozen=True, slots=True)
class Initialization:
    """What ``initialize`` did: the matrices it drew, and the ones it does not know and left."""

    drawn: tuple[Matrix, ...]
    left: tuple[str, ...]


def gamma_std(gamma: float, fan_in: int) -> float:
    """Return std = fan_in^−γ.

    Raises:
        ValueError: ``fan_in`` is below 1.
    """
    if fan_in < 1:
        raise ValueError(f"fan_in is {fan_in}: it must be at least 1")
    return math.exp(-gamma * math.log(fan_in))


def equivalent_gamma(std: float, fan_in: int) -> float:
    """Return γ_eq = −ln(std) / ln(fan_in), the inverse of ``gamma_std``.

    Raises:
        ValueError: ``std`` is not positive, or ``fan_in`` is below 2 (every γ gives the same std).
    """
    if not std > 0:
        raise ValueError(f"std is {std}: γ_eq exists for a positive one only")
    if fan_in < 2:
        raise ValueError(f"fan_in is {fan_in}: γ_eq exists from 2 upwards only")
    return -math.log(std) / math.log(fan_in)


@torch.no_grad()
def initialize(
    model: nn.Module,
    gamma: float,
    *,
    seed: int = 0,
    convention: Convention = "fan_in",
    width: int | None = None,
    depth: int | None = None,
) -> Initialization:
    """Draw every Linear and Embedding weight from N(0, fan_in^−2γ); norm gains 1, biases 0.

    The standard normal draws depend on the seed and the parameter's name alone, never on γ, so
    that models of one seed differ by a scale per matrix and nothing else.

    Args:
        model: Any module. Tied parameters are drawn once. Hugging Face's Conv1D, its stacks of
            experts with their routers, and the fused in-projection of ``nn.MultiheadAttention``
            are known besides Linear and Embedding; convolutions are not, and are left.
        gamma: The exponent γ.
        seed: Decides the random draws.
        convention: ``fan_in`` or ``width``, see the module's text.
        width: d_model; needed by ``width`` only.
        depth: Number of blocks L; needed by ``width`` only.

    Returns:
        The matrices drawn, with fan-in and std, and the names of parameters of two or more
        dimensions that belong to no known module and were left as they were.

    Raises:
        ValueError: There is no such convention, or ``convention`` is ``width`` and ``width`` or
            ``depth`` is missing.
    """
    if convention not in get_args(Convention):
        raise ValueError(f"convention {convention!r} is not known: write 'fan_in' or 'width'")
    if convention == "width" and (width is None or depth is None):
        raise ValueError("the convention 'width' needs width= and depth=")
    drawn = []
    for name, parameter, fan_in in weight_matrices(model):
        if convention == "fan_in":
            std = gamma_std(gamma, fan_in)
        else:
            assert width is not None and depth is not None
            std = gamma_std(gamma, width)
            if RESIDUAL_PROJECTION.search(name):
                std /= math.sqrt(2 * depth)
        parameter.copy_(standard_normal(name, parameter, seed)).mul_(std)
        drawn.append(Matrix(name, fan_in, std))
    _reset_gains_and_biases(model)
    return Initialization(tuple(drawn), _unknown_matrices(model, {m.name for m in drawn}))


@torch.no_grad()
def measure(model: nn.Module) -> tuple[Matrix, ...]:
    """Return every weight matrix with the std that it has now, the inverse of ``initialize``.

    The root mean square is taken (the draws have mean 0). A matrix of zeros has std 0 and no γ_eq.
    """
    return tuple(
        Matrix(name, fan_in, float(parameter.double().square().mean().sqrt()))
        for name, parameter, fan_in in weight_matrices(model)
    )


def weight_matrices(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, int]]:
    """Yield (name, parameter, fan-in) of every known weight matrix, a tied one once."""
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        for attribute, fan_in in _matrices_of(module):
            parameter = getattr(module, attribute, None)
            if isinstance(parameter, nn.Parameter) and id(parameter) not in seen:
                seen.add(id(parameter))
                yield (f"{prefix}.{attribute}" if prefix else attribute), parameter, fan_in


def standard_normal(name: str, like: Tensor, seed: int) -> Tensor:
    """Draw N(0, 1) of the shape of ``like``, on the CPU, from the seed and the name alone."""
    generator = randomness.generator("weight", seed, name)
    return torch.randn(like.shape, generator=generator, dtype=torch.float32)


def _matrices_of(module: nn.Module) -> tuple[tuple[str, int], ...]:
    if isinstance(module, nn.Linear):
        return (("weight", module.in_features),)
    if isinstance(module, nn.Embedding):
        return (("weight", module.embedding_dim),)
    if isinstance(module, nn.MultiheadAttention):
        return (
            ("in_proj_weight", module.embed_dim),
            ("q_proj_weight", module.embed_dim),
            ("k_proj_weight", module.kdim or module.embed_dim),
            ("v_proj_weight", module.vdim or module.embed_dim),
        )
    if type(module).__name__ == "Conv1D" and hasattr(module, "nf"):  # transformers: [in, out]
        return (("weight", int(cast(Tensor, module.weight).shape[0])),)
    return _matrices_of_experts(module)


def _matrices_of_experts(module: nn.Module) -> tuple[tuple[str, int], ...]:
    """Families stack experts as (experts, out, in), or (experts, in, out) and then say so."""
    own = {name: tuple(p.shape) for name, p in module.named_parameters(recurse=False)}
    if re.search("Router|Gate", type(module).__name__) and len(own.get("weight", ())) == 2:
        return (("weight", own["weight"][1]),)
    transposed = getattr(module, "is_transposed", None)
    if not isinstance(transposed, bool):
        return ()
    stacks = {name: own[name] for name in _STACKS if len(own.get(name, ())) == 3}
    return tuple((name, shape[1] if transposed else shape[2]) for name, shape in stacks.items())


def _reset_gains_and_biases(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if _is_bias(name):  # before the gains: a bias would mislead the probe
            parameter.zero_()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if name == "weight" and parameter.ndim == 1:
                parameter.fill_(0.0 if _is_zero_centred(module, parameter) else 1.0)


def _is_bias(name: str) -> bool:
    return name.endswith("bias") and not name.endswith("dt_bias")  # a state-space time step


def _is_zero_centred(module: nn.Module, weight: nn.Parameter) -> bool:
    """Whether a norm's gain is 1 + weight, as in Gemma: then weight 1 would mean gain 2."""
    if type(module) in (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm):  # Nemotron's is a subclass
        return False
    weight.zero_()
    probe = torch.linspace(-1.0, 1.0, weight.numel(), dtype=weight.dtype, device=weight.device)
    try:
        answer = module(probe[None])
    except Exception:  # no norm after all, whatever it is: a plain gain
        return False
    return isinstance(answer, Tensor) and bool(answer.abs().max() > 0.5)


def _unknown_matrices(model: nn.Module, known: set[str]) -> tuple[str, ...]:
    return tuple(
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim >= 2 and name not in known and not _is_bias(name)
    )
