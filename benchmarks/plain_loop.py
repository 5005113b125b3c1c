"""A plain training loop of the same model on the same data, for trial_speed.py and pack_speed.py.

As one writes it in the manner of nanoGPT: a module a layer, a forward pass a group of sequences,
fused AdamW; without averaging, evaluation, checkpoints or a warmup.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from critical.trials import ProxyRun
from critical.trials.architecture import ModelShape
from critical.trials.mixture import Mixture
from critical.trials.training import TrainingRecipe, to_device


class PlainBlock(nn.Module):
    """Pre-norm attention with rotary positions, then SwiGLU."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        d, f = shape.width, shape.feed_forward
        self.heads = shape.heads
        self.norm1, self.norm2 = nn.RMSNorm(d, eps=1e-6), nn.RMSNorm(d, eps=1e-6)
        self.qkv, self.out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.gate, self.up = nn.Linear(d, f, bias=False), nn.Linear(d, f, bias=False)
        self.down = nn.Linear(f, d, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Map (n, t, d) to (n, t, d)."""
        n, t, d = x.shape
        q, k, v = (
            part.view(n, t, self.heads, -1).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).split(d, dim=-1)
        )
        q, k = (part * cos + _turned(part) * sin for part in (q, k))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(n, t, d))
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))  # type: ignore[no-any-return]


class PlainDecoder(nn.Module):
    """The whole model."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(PlainBlock(shape) for _ in range(shape.depth))
        self.norm = nn.RMSNorm(shape.width, eps=1e-6)
        self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)
        e = shape.width // shape.heads
        angle = torch.arange(shape.longest)[:, None] * 10_000.0 ** -(torch.arange(0, e, 2) / e)
        self.cos, self.sin = (nn.Buffer(f(angle).repeat(1, 2)) for f in (torch.cos, torch.sin))

    def forward(self, tokens: Tensor, last: int) -> Tensor:
        """Return logits (n, last, vocabulary) of tokens (n, t)."""
        x = self.embedding(tokens)
        t = tokens.shape[1]
        for block in self.blocks:
            x = block(x, self.cos[:t], self.sin[:t])
        return self.head(self.norm(x[:, -last:]))  # type: ignore[no-any-return]


class PlainLoop:
    """Trains one model; nothing is measured of it."""

    def __init__(self, recipe: TrainingRecipe, run: ProxyRun) -> None:
        torch.set_num_threads(1)
        self._device = torch.device(run.device)
        self._mixture = Mixture(recipe.mixture, recipe.corpus, recipe.batch_tokens, run.seed)
        self._model = PlainDecoder(recipe.shape(run)).to(self._device)
        rate = run.learning_rate or recipe.base_learning_rate
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=rate, fused=True)
        self._clip = recipe.clip
        self._predict: Callable[[Tensor, int], Tensor] = self._model
        if recipe.compiled:
            self._predict = torch.compile(self._model, dynamic=False)

    def advance(self, step: int) -> None:
        """Take an optimizer step, counted from 1."""
        loss = torch.zeros((), device=self._device)
        for group in (to_device(group, self._device) for group in self._mixture.batch(step)):
            logits = self._predict(group.tokens, group.targets.shape[1])
            part = F.cross_entropy(logits.flatten(0, 1), group.targets.flatten())
            loss = loss + self._mixture.fractions[group.source] * part
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._model.parameters(), self._clip)
        self._optimizer.step()


def _turned(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)
