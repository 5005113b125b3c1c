"""What was read of a target, in a sentence: a misreading is seen before the budget is spent.

For example: the target is a llama of width 512: 8 blocks of 8 heads sharing 4 of keys and values,
feed-forward 1,376 (silu, gated), RMSNorm with ε 1e-05 before each layer, rotary positions, a
vocabulary of 32,000, not tied; its initializer, std 0.02, is γ 0.627.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from critical.targets.architecture import read_architecture
from critical.targets.family_kinds import FAMILY_KINDS
from critical.targets.target import Target
from critical.trials.architecture import Kinds, NormPlacement

_NORMS = {"rms": "RMSNorm", "layer": "LayerNorm"}
_PLACED: Mapping[NormPlacement, str] = {
    "pre": "before each layer",
    "post": "after each layer",
    "sandwich": "before and after each layer",
}


def recognised(target: Target) -> str:
    """Return the sentence; of a family that is not known it says nothing of the parts' kinds.

    Raises:
        TargetError: A key of the configuration is not of the type that it must have.
    """
    return (
        f"the target is a {target.model_type} of width {target.width:,}: "
        f"{', '.join(_parts(target))}; its initializer, std {target.initializer_range:g}, "
        f"is γ {target.reference_gamma:.3f}"
    )


def _parts(target: Target) -> Iterator[str]:
    known = target.model_type in FAMILY_KINDS
    kinds = read_architecture(target)[0].kinds if known else None  # else a Llama's, for want of it
    own = f" of dimension {target.head_dim}" if _own_dimension(target) else ""
    grouped = target.kv_heads != target.heads
    shared = f" sharing {target.kv_heads} of keys and values" if grouped else ""
    yield f"{target.depth} blocks of {target.heads} heads{own}{shared}"
    feed_forward = f"feed-forward {target.feed_forward:,}"
    if kinds is None:
        yield feed_forward
    else:
        yield f"{feed_forward} ({kinds.activation}{', gated' if kinds.gated else ''})"
        yield from _kinds(target, kinds)
    yield f"a vocabulary of {target.vocabulary:,}, {'tied' if target.tied else 'not tied'}"


def _kinds(target: Target, kinds: Kinds) -> Iterator[str]:
    yield f"{_NORMS[kinds.norm]} with ε {target.norm_eps:g} {_PLACED[kinds.placement]}"
    if kinds.parallel != "no":
        yield "attention and feed-forward in parallel"
    if kinds.qk_norm != "no":
        yield "norms of queries and keys"
    yield f"{kinds.positions} positions"


def _own_dimension(target: Target) -> bool:
    return target.heads * target.head_dim != target.width
