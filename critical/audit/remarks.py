"""What an audit says besides its findings: what could not be checked, and why."""

from __future__ import annotations

from collections.abc import Iterator

from critical.audit.case import Case
from critical.audit.rates import brief, stated
from critical.audit.saturation import unread
from critical.frameworks.reading import Reading


def remarks_of(case: Case) -> tuple[str, ...]:
    """Return the reading's own remarks, and what the checks could not see."""
    reading = case.reading
    found = [*reading.remarks, *_zeros(reading), *_tied(reading), *_attention(reading)]
    said = unread(reading)
    return (*found, *([] if said is None else [said]), *_optimizer(reading))


def _zeros(reading: Reading) -> Iterator[str]:
    zeros = [each for each in reading.matrices if each.configured_std == 0]
    if zeros:
        yield f"drawn at 0, and so without a γ: {brief(zeros)}"


def _tied(reading: Reading) -> Iterator[str]:
    if reading.tied:
        yield (
            "input and output embedding are one matrix, so there is one std for both; γ asks for "
            "the same, width^−γ, as either"
        )


def _attention(reading: Reading) -> Iterator[str]:
    attention = reading.attention
    if attention.gated is None and attention.qk_norm is not True:
        yield "whether attention has an output gate is not known here, so sinks are not checked"
    elif attention.gated is False and attention.qk_norm is None:
        yield "whether queries and keys are normalized is not known here, so sinks are not checked"


def _optimizer(reading: Reading) -> Iterator[str]:
    optimizer = reading.optimizer
    if optimizer is None:
        yield (
            "the file does not say what optimizer trains it, so Adam's ε and weight decay are not "
            "checked"
        )
    elif not (optimizer.eps.stated or optimizer.weight_decay.stated):
        yield (
            f"the file states no optimizer: taken are {stated(optimizer.eps)} and "
            f"{stated(optimizer.weight_decay)}; look at these where you train"
        )
    elif optimizer.weight_decay.value > 0 and optimizer.decays_embeddings is None:
        yield f"whether {stated(optimizer.weight_decay)} reaches the embedding is not known here"
