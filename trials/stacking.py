"""One forward pass of several models of one shape, their parameters stacked over the members.

The model itself is written for one member; ``torch.func.vmap`` runs it for all of them at once, so
that every architecture that it can have is packed as well. A matrix product becomes one batched
product, and the number of kernels no longer grows with the members.

Shapes: k members, p numbers in all parameters of a member, v token ids; n, t and l as in
``mixture.Group``, with l for the number of targets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from critical.trials.batchable import Batchable
from critical.trials.mixture import Group
from critical.trials.training import mixture_loss


class Layout:
    """Where each parameter of a model lies in a row of p numbers: matrices first, then gains.

    In one row the optimizer's steps take a few kernels for all parameters of all members. What
    requires no gradient, as the bias that balances experts, has a gradient of zeros and lies where
    nothing decays: so steps leave it as it is, as AdamW does, which passes it over.

    Attributes:
        matrices: Numbers that belong to matrices, those that decay.
    """

    def __init__(self, model: nn.Module) -> None:
        named = sorted(model.named_parameters(), key=lambda item: not _decays(item[1]))
        self.shapes = {name: parameter.shape for name, parameter in named}
        self._sizes = [shape.numel() for shape in self.shapes.values()]
        self._frozen = frozenset(name for name, p in named if not p.requires_grad)
        self.matrices = sum(parameter.numel() for _, parameter in named if _decays(parameter))

    def row(self, model: nn.Module) -> Tensor:
        """Return a copy of a model's parameters. Shape (1, p)."""
        named = dict(model.named_parameters())
        return torch.cat([named[name].detach().flatten() for name in self.shapes])[None]

    def parameters(self, rows: Tensor) -> dict[str, Tensor]:
        """Return views of rows (k, p) by parameter. Shape (k, …) each."""
        parts = torch.split(rows, self._sizes, dim=1)
        views = {
            name: part.view(len(rows), *shape)
            for part, (name, shape) in zip(parts, self.shapes.items(), strict=True)
        }
        return views | {name: views[name].detach() for name in self._frozen}

    @torch.no_grad()
    def load(self, model: nn.Module, row: Tensor) -> None:
        """Copy a row (1, p) into a model's parameters."""
        views = self.parameters(row)
        named = dict(model.named_parameters())
        places = [named[name].detach() for name in views]
        torch._foreach_copy_(places, [view[0] for view in views.values()])


@dataclass(frozen=True, slots=True)
class Batch:
    """What k members train or predict on, on their device.

    Attributes:
        sources: Of each group.
        tokens: Shape (n, t) for all members together, or (k, n, t).
        targets: Shape (n, l), or (k, n, l).
        own: Whether every member has its own.
    """

    sources: tuple[str, ...]
    tokens: list[Tensor]
    targets: list[Tensor]
    own: bool

    @classmethod
    def of(cls, members: Sequence[Sequence[Group]]) -> Batch:
        """Stack the groups of each member; give one member's where all have the same."""
        first = members[0]
        sources = tuple(group.source for group in first)
        if all(groups is first for groups in members):
            return cls(sources, [g.tokens for g in first], [g.targets for g in first], False)
        together = list(zip(*members, strict=True))
        tokens = [torch.stack([group.tokens for group in groups]) for groups in together]
        targets = [torch.stack([group.targets for group in groups]) for groups in together]
        return cls(sources, tokens, targets, True)

    def padded(self, count: int) -> Batch:
        """Return the batch of as many members, the first of these standing for those added."""
        if not self.own:
            return self
        tokens, targets = (
            [padded(p, count) for p in given] for given in (self.tokens, self.targets)
        )
        return Batch(self.sources, tokens, targets, True)

    def of_the_only_member(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return tokens and targets without a dimension of members."""
        if not self.own:
            return self.tokens, self.targets
        return [part[0] for part in self.tokens], [part[0] for part in self.targets]


def _decays(parameter: nn.Parameter) -> bool:
    return parameter.ndim >= 2 and parameter.requires_grad


def padded(rows: Tensor, count: int) -> Tensor:
    """Return so many rows, the first one repeated after the others. Shape (k, …) to (count, …)."""
    if len(rows) == count:
        return rows
    return torch.cat((rows, rows[:1].expand(count - len(rows), *rows.shape[1:])))


def stacked_losses(
    model: nn.Module, layout: Layout, rows: Tensor, batch: Batch, fractions: Mapping[str, float]
) -> Tensor:
    """Return the training loss of every member. Shape (k,).

    No member's loss depends on another's row, so the gradient of their sum holds in each row the
    gradient of that member alone.

    Args:
        model: Any member's, for its structure; its own parameters are not used.
        layout: Of its parameters.
        rows: The members' parameters. Shape (k, p).
        batch: What to predict.
        fractions: Weights of the sources.
    """

    def one(parameters: dict[str, Tensor], tokens: list[Tensor], targets: list[Tensor]) -> Tensor:
        parts = zip(batch.sources, tokens, targets, strict=True)
        groups = [Group(source, given, wanted) for source, given, wanted in parts]
        return mixture_loss(_with_parameters(model, parameters), groups, fractions)

    parameters = layout.parameters(rows)
    if len(rows) == 1:  # as a member alone, with its fused kernels
        alone = {name: part[0] for name, part in parameters.items()}
        tokens, targets = batch.of_the_only_member()
        return one(alone, tokens, targets)[None]
    along = 0 if batch.own else None
    with Batchable():
        return vmap(one, in_dims=(0, along, along))(parameters, batch.tokens, batch.targets)


def stacked_logits(
    model: nn.Module, layout: Layout, rows: Tensor, groups: Sequence[Group]
) -> list[Tensor]:
    """Return every member's logits where the groups have targets. Shape (k, n, l, v) each."""
    tokens = [group.tokens for group in groups]
    last = [group.targets.shape[1] for group in groups]

    def one(parameters: dict[str, Tensor]) -> list[Tensor]:
        return _with_parameters(model, parameters)(tokens, last)

    parameters = layout.parameters(rows)
    if len(rows) == 1:
        alone = {name: part[0] for name, part in parameters.items()}
        return [logits[None] for logits in one(alone)]
    with Batchable():
        return vmap(one)(parameters)


def _with_parameters(
    model: nn.Module, parameters: dict[str, Tensor]
) -> Callable[[Sequence[Tensor], Sequence[int]], list[Tensor]]:
    return lambda tokens, last: functional_call(model, parameters, (tokens, last))
