"""What a training configuration says of the model that it builds, in the same words for all.

Quantities:
    std      a matrix's standard deviation as it is drawn: after truncation and depth scaling
    γ_eq     −ln(std) / ln(fan_in), the exponent that a std stands for
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from critical.targets.layout import Matrix
from critical.targets.target import Target

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """One value that a configuration decides.

    Attributes:
        key: What its user writes, as in ``model.init_std`` or ``--init-method-std``.
        value: Its value.
        stated: Whether the file states it; else it is the framework's default.
    """

    key: str
    value: T
    stated: bool


@dataclass(frozen=True, slots=True)
class Norms:
    """The norms of a model.

    Attributes:
        eps: ε, added to the mean square (or variance) of their input.
        read_embedding: Whether a norm reads the embedding directly, as in pre-norm blocks.
        embedding_scale: Factor on the embedding before that norm, as Gemma's √width.
    """

    eps: Setting[float]
    read_embedding: bool = True
    embedding_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Attention:
    """What holds a model's attention logits, where it is known; None where it is not.

    Attributes:
        qk_norm: Whether queries and keys are normalized.
        gated: Whether a gate multiplies the attention output.
    """

    qk_norm: bool | None = None
    gated: bool | None = None


@dataclass(frozen=True, slots=True)
class Optimizer:
    """The optimizer, as far as the file or the framework's defaults tell.

    Attributes:
        eps: Adam's ε.
        weight_decay: Decoupled weight decay.
        decays_embeddings: Whether it reaches the embeddings; None where it is not known.
        decay_times_lr: Whether a step takes lr · weight_decay of a weight, as torch's AdamW does;
            else weight_decay times the learning rate as a part of its greatest.
    """

    eps: Setting[float]
    weight_decay: Setting[float]
    decays_embeddings: bool | None = None
    decay_times_lr: bool = True


@dataclass(frozen=True, slots=True)
class DepthScaling:
    """How residual projections are drawn narrower than the rest.

    Attributes:
        formula: As in ``std / √(2 · 32)``.
        remedy: What turns it off, as in ``scaling_method: NONE``; None where nothing does.
    """

    formula: str
    remedy: str | None


@dataclass(frozen=True, slots=True)
class Reading:
    """One model and its initialization as a configuration has them.

    Attributes:
        framework: Its name, as in ``megatron``.
        file_name: Of the configuration, without its folder.
        model: What is built, as in ``llama`` or ``GPT``.
        width: d_model.
        depth: Blocks.
        matrices: Every weight matrix, a tied one once; ``configured_std`` is the std drawn.
        std: The value that an export sets; None where the framework has no such key.
        norms: Its norms; None where they are not known.
        tied: Whether input and output embeddings are one matrix.
        attention: What holds its attention logits.
        depth_scaling: How residual projections are scaled; None where they are as the rest.
        optimizer: The optimizer; None where neither the file nor the framework tells.
        remarks: Sentences on what was assumed, or is ignored by the framework.
        target: The Hugging Face model, where it is one.
        edits: Path of the file that an export edits; None for the one that was read.
    """

    framework: str
    file_name: str
    model: str
    width: int
    depth: int
    matrices: tuple[Matrix, ...]
    std: Setting[float] | None
    norms: Norms | None
    tied: bool
    attention: Attention = Attention()
    depth_scaling: DepthScaling | None = None
    optimizer: Optimizer | None = None
    remarks: tuple[str, ...] = ()
    target: Target | None = None
    edits: str | None = None
