"""What flows through a model: the norms' saturation, attention sinks, activations and gradients.

Quantities:
    saturation      √(ms / (ms + ε)), the RMS of a norm's output before its gain: ms is the mean
                    square of a token's input (RMSNorm) or its variance (LayerNorm); below about
                    0.95 the norm no longer normalizes
    sink            mean share of attention that later positions pay to the first token
    activation      RMS of the residual stream after a block
    gradient norm   Frobenius norm of a loss's gradient in a weight matrix

Hooks and a gradient of our own read them, so that training comes to the same bits. A value stays on
its device, a tensor of shape (), until ``transferred`` brings all of them over at once.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from critical.trials.development import named_matrices
from critical.trials.naming import short_names

SINK_TOKENS = 1024
"""Tokens whose attention is looked at, at most, in whole sequences."""


@contextmanager
def watched_saturation(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Yield a mapping that holds ``saturation/NORM`` after the block, averaged over all tokens.

    Every module whose class is named …RMSNorm or …LayerNorm and that has an ε is a norm.
    """
    seen: dict[str, list[Tensor]] = defaultdict(list)
    norms = {name: norm for name, norm in model.named_modules() if _eps(norm) is not None}
    found: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for name, short in short_names(norms).items():
            look = partial(_note_saturation, seen[short])
            hooks.callback(norms[name].register_forward_pre_hook(look).remove)
        yield found
    found.update(
        (f"saturation/{name}", torch.cat(each).mean()) for name, each in seen.items() if each
    )


@torch.no_grad()
def sinks(model: nn.Module, tokens: Tensor) -> dict[str, Tensor]:
    """Return ``sink/BLOCK`` of a model that can tell, and nothing of any other.

    Args:
        model: It may have ``first_token_attention``, from tokens (n, t) to shares (depth,).
        tokens: Sequences of shape (n, t), t ≥ 2; at most ``SINK_TOKENS`` are looked at.
    """
    look: Callable[[Tensor], Tensor | None] | None = getattr(model, "first_token_attention", None)
    shares = None if look is None else look(tokens[: max(1, SINK_TOKENS // tokens.shape[1])])
    return {} if shares is None else {f"sink/{i}": share for i, share in enumerate(shares)}


def flow(model: nn.Module, loss: Callable[[], Tensor], when: str) -> dict[str, Tensor]:
    """Return ``activation_WHEN/BLOCK`` and ``gradient_norm_WHEN/MATRIX`` of one pass.

    The parameters keep the gradients that they have. A matrix that the loss does not depend on
    gives none.

    Args:
        model: The model that ``loss`` runs.
        loss: The training loss of a batch, shape ().
        when: ``initial`` or ``final``.
    """
    with _watched_blocks(model) as activations:
        value = loss()
    matrices = named_matrices(model)
    gradients = torch.autograd.grad(value, list(matrices.values()), allow_unused=True)
    found = {f"activation_{when}/{block}": rms for block, rms in activations.items()}
    for name, gradient in zip(matrices, gradients, strict=True):
        if gradient is not None:
            found[f"gradient_norm_{when}/{name}"] = torch.linalg.vector_norm(gradient)
    return found


def transferred(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Bring the finite values over, in six digits: these are no results to repeat bits of."""
    if not values:
        return {}
    numbers = torch.stack([value.double() for value in values.values()]).tolist()
    return {
        name: float(f"{number:.6g}")
        for name, number in zip(values, numbers, strict=True)
        if math.isfinite(number)
    }


def _eps(module: nn.Module) -> float | None:
    """Return the ε of a norm; of anything else, and of a norm without one, None."""
    if not type(module).__name__.endswith(("RMSNorm", "LayerNorm")):
        return None
    eps = getattr(module, "eps", getattr(module, "variance_epsilon", None))
    return float(eps) if isinstance(eps, float | int) else None


@torch.no_grad()
def _note_saturation(seen: list[Tensor], norm: nn.Module, given: tuple[Tensor, ...]) -> None:
    x = given[0].float()
    if type(norm).__name__.endswith("LayerNorm"):
        x = x - x.mean(-1, keepdim=True)
    ms = x.square().mean(-1).flatten()
    eps = _eps(norm)
    assert eps is not None
    seen.append((ms / (ms + eps)).sqrt())


@contextmanager
def _watched_blocks(model: nn.Module) -> Iterator[dict[int, Tensor]]:
    """Yield a mapping that is filled with the RMS of what each block gives."""
    found: dict[int, Tensor] = {}
    blocks = next((m for m in model.modules() if isinstance(m, nn.ModuleList)), ())
    with ExitStack() as hooks:
        for number, block in enumerate(blocks):
            hooks.callback(block.register_forward_hook(partial(_note_rms, found, number)).remove)
        yield found


def _note_rms(
    found: dict[int, Tensor],
    number: int,
    _: nn.Module,
    __: tuple[object, ...],
    given: Tensor | tuple[Tensor, ...],
) -> None:
    stream = given if isinstance(given, Tensor) else given[0]
    found[number] = stream.detach().float().square().mean().sqrt()
