"""How the weights develop: condensation and rank of every weight matrix.

Quantities, each a number per matrix:
    condensation     share of pairs of neurons whose weights have a cosine similarity above 0.7
    stable rank      Σ σᵢ² / σ_max², from 1 to the matrix's rank (arXiv 2501.08537)
    effective rank   exp(H(p)), p = σ / Σ σ, from 1 to the rank (Roy and Vetterli 2007)

A neuron's weights are a row: what it reads, or a token's embedding. The similarity is signed, so
that neurons of opposite directions are not condensed, and a matrix of rank one whose rows have
either sign at random is condensed by about a half. Independent rows are hardly ever: their
similarity has a standard deviation of 1/√c.

Shapes: m matrices of one shape, s stacked in one parameter (experts; usually 1), r rows, c columns.
"""

from __future__ import annotations

import math
from collections import defaultdict

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from critical.trials.initialization import weight_matrices
from critical.trials.naming import short_names

CONDENSED = 0.7
"""Cosine similarity above which two neurons count as condensed."""
MOST_ROWS = 512
"""Rows that are compared; of a taller matrix so many, evenly spaced."""


def named_matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return every weight matrix by its short name; a tied one once, under its first name."""
    parameters = {name: parameter for name, parameter, _ in weight_matrices(model)}
    short = short_names(parameters)
    return {short[name]: parameter for name, parameter in parameters.items()}


@torch.no_grad()
def development(model: nn.Module) -> dict[str, Tensor]:
    """Return ``condensation/NAME``, ``stable_rank/NAME`` and ``effective_rank/NAME`` of matrices.

    A parameter that stacks several matrices gives the mean over them. On a GPU the host waits once
    a shape, for the eigenvalues' status, and for nothing else.

    Returns:
        Numbers of shape (), float64, on the model's device. They are NaN where a matrix is zero or
        not finite, and condensation also where there is but one row.
    """
    matrices = _with_neurons_as_rows(model)
    alike: dict[torch.Size, list[tuple[str, Tensor]]] = defaultdict(list)
    for name, matrix in matrices.items():
        alike[matrix.shape].append((name, matrix))
    found: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for shape, named in alike.items():
        stack = torch.stack([matrix for _, matrix in named])
        stack = stack.view(len(named), -1, *shape[-2:])  # (m, s, r, c)
        stable, effective = ranks(stack)
        quantities = {
            "condensation": condensation(stack),
            "stable_rank": stable,
            "effective_rank": effective,
        }
        for quantity, values in quantities.items():
            for (name, _), value in zip(named, values.mean(-1), strict=True):
                found[quantity][name] = value
    return {  # in the model's order, not by shape
        f"{quantity}/{name}": values[name]
        for quantity, values in found.items()
        for name in matrices
    }


def condensation(matrices: Tensor) -> Tensor:
    """Return the share of pairs of rows with a cosine similarity above ``CONDENSED``.

    A row of zeros is like no other. Shape (…, r, c) to (…), float64.
    """
    count = min(matrices.shape[-2], MOST_ROWS)
    chosen = torch.linspace(0, matrices.shape[-2] - 1, count, dtype=torch.float64).round().long()
    rows = F.normalize(matrices[..., chosen.to(matrices.device), :].float(), dim=-1, eps=1e-30)
    similar = (rows @ rows.transpose(-2, -1) > CONDENSED).triu(diagonal=1)
    pairs = count * (count - 1) / 2
    share = similar.sum(dim=(-2, -1)).double() / (pairs or math.nan)
    largest = matrices.abs().amax(dim=(-2, -1))
    return share.where((largest > 0) & largest.isfinite(), math.nan)


def ranks(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Return stable and effective rank. Shape (…, r, c) to (…) twice, float64.

    Singular values are the roots of the eigenvalues of the smaller Gram matrix, in double
    precision: faster than a decomposition, and exact to about 1e-8 of the largest.
    """
    flat = matrices.double()
    flat = flat if flat.shape[-2] <= flat.shape[-1] else flat.transpose(-2, -1)
    largest = flat.abs().amax(dim=(-2, -1), keepdim=True)
    known = (largest > 0) & largest.isfinite()
    flat = (flat / largest).where(known, 0.0)  # eigvalsh refuses what is not finite
    squares = torch.linalg.eigvalsh(flat @ flat.transpose(-2, -1)).clamp(min=0.0)
    stable = squares.sum(-1) / squares.amax(-1)
    sigma = squares.sqrt()
    entropy = torch.special.entr(sigma / sigma.sum(-1, keepdim=True)).sum(-1)
    known = known.squeeze(-1).squeeze(-1)
    return stable.where(known, math.nan), entropy.exp().where(known, math.nan)


def _with_neurons_as_rows(model: nn.Module) -> dict[str, Tensor]:
    """Turn the matrices that transformers stores with neurons as columns."""
    columns = {
        id(parameter)
        for module in model.modules()
        if type(module).__name__ == "Conv1D" or getattr(module, "is_transposed", False) is True
        for parameter in module.parameters(recurse=False)
    }
    return {
        name: matrix.detach().transpose(-2, -1) if id(matrix) in columns else matrix.detach()
        for name, matrix in named_matrices(model).items()
    }
