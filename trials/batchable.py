"""What vmap can batch, in place of fused kernels that it would run once a member.

Shapes: q queries of t tokens, e head dimension; under vmap k members, n sequences and h heads
besides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.overrides import TorchFunctionMode

from critical.trials.plain_attention import plain_attention, visible_keys


class Batchable(TorchFunctionMode):
    """Has vmap compute by plain operations where a fused kernel may have no batching rule.

    vmap runs such a kernel once a member: attention has no rule on the CPU, and a fused RMSNorm
    has none on some devices.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # whatever the function returns
        """Call what stands in for a function, or the function itself."""
        plain = _PLAIN.get(func, func)
        return plain(*args, **(kwargs or {}))


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Return what ``F.scaled_dot_product_attention`` does, of shapes (…, q, e) and (…, t, e).

    Under vmap it is one kernel for all members; compiled, it is written out, for a compiler cannot
    look into that and fuses this.
    """
    if torch.compiler.is_compiling():
        visible = visible_keys(query, key) if is_causal else attn_mask
        return plain_attention(query, key, value, visible, scale)
    return _FoldedAttention.apply(query, key, value, attn_mask, is_causal, scale)  # type: ignore[no-any-return, no-untyped-call]


class _FoldedAttention(torch.autograd.Function):
    """Attention whose batching rule takes the members for further sequences.

    Only its rule is ever run; it is made of ordinary operations, whose gradients are known.
    """

    @staticmethod
    def forward(*_: object) -> Tensor:
        """Refuse to run without vmap."""
        raise NotImplementedError("stacked attention runs under vmap only")

    @staticmethod
    def setup_context(*_: object) -> None:
        """Keep nothing: required of a function that vmap knows."""

    @staticmethod
    def vmap(
        info: Any,  # noqa: ANN401  # torch does not name its type
        in_dims: tuple[int | None, ...],
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None,
        *options: Any,  # noqa: ANN401
    ) -> tuple[Tensor, int]:
        """Attend for all members at once; shapes (k, n, h, t, e) once the members come first.

        The mask is the same for all members.
        """
        q, k, v = (
            _members_first(part, place, info.batch_size).flatten(0, 1)
            for part, place in zip((query, key, value), in_dims[:3], strict=True)
        )
        is_causal, scale = options
        out = F.scaled_dot_product_attention(q, k, v, attn_mask, is_causal=is_causal, scale=scale)
        return out.view(info.batch_size, -1, *out.shape[1:]), 0


def _members_first(x: Tensor, place: int | None, members: int) -> Tensor:
    """Move the members' dimension to the front, or add one where all have the same."""
    return x.expand(members, *x.shape) if place is None else x.movedim(place, 0)


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """Return what ``F.rms_norm`` does, over the last dimension: at least in float32, as there."""
    if len(normalized_shape) != 1:
        raise NotImplementedError("stacked models norm over their last dimension only")
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    wide = input.to(torch.promote_types(input.dtype, torch.float32))
    normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (normed if weight is None else normed * weight).to(input.dtype)


_PLAIN: Mapping[Callable[..., Any], Callable[..., Any]] = {
    F.scaled_dot_product_attention: attention,
    F.rms_norm: rms_norm,
}
