"""The ends of a model, embedding and head, against its blocks."""

from __future__ import annotations

from collections.abc import Iterator

from critical.audit.case import Case
from critical.audit.finding import Finding
from critical.audit.rates import TELLING, blocks, brief, finite, gamma_of, joined, names, span
from critical.targets.layout import Kind, Matrix


def embedding_apart(case: Case) -> Iterator[Finding]:
    """Find embeddings of another γ than every matrix of the blocks."""
    yield from _apart(case, "embedding", "the embedding")


def head_apart(case: Case) -> Iterator[Finding]:
    """Find a head of another γ than every matrix of the blocks."""
    yield from _apart(case, "head", "the head")


def embedding_scaled(case: Case) -> Iterator[Finding]:
    """Find a factor on the embedding, for the blocks read another std than the one drawn."""
    norms, width = case.reading.norms, case.reading.width
    if norms is None or norms.embedding_scale <= 0 or width < 2:
        return
    shift = gamma_of(norms.embedding_scale, width)
    if shift is None or abs(shift) < TELLING:
        return
    scale = norms.embedding_scale
    drawn = {each.configured_std for each in case.reading.matrices if each.kind == "embedding"}
    stds = sorted(std for std in drawn if std * scale > 0)
    parts = [
        f"std {std * scale:.4g} (γ {gamma_of(std * scale, width):.3f}) where {std:.4g} "
        f"(γ {gamma_of(std, width):.3f}) is drawn"
        for std in stds
    ]
    read = joined(parts) if parts else f"a γ that is {-shift:.3f} smaller"
    wanted = None if case.gamma is None else finite(width**-case.gamma / scale)
    number = "" if wanted is None else f", {wanted:.4g} at γ {case.gamma:.4g}"
    yield Finding(
        code="embedding-scaled",
        what=f"the model multiplies its embedding by {scale:.4g}, so its blocks read {read}",
        why=f"a factor s takes ln(s) / ln(width) = {-shift:.3f} from the embedding's γ (Gemma's "
        "√width takes ½)",
        instead=f"if γ is to hold for what the blocks read, draw it with std width^−γ / {scale:.4g}"
        f"{number}; if for what is drawn, keep it",
        certainty="derived",
        numbers={"scale": scale, "gamma_shift": shift, "stds": stds, "wanted": wanted},
    )


def _apart(case: Case, kind: Kind, title: str) -> Iterator[Finding]:
    rest = [gamma_of(each.configured_std, each.fan_in) for each in blocks(case.reading)]
    known = [gamma for gamma in rest if gamma is not None]
    if not known:
        return
    low, high = min(known) - TELLING, max(known) + TELLING
    off = [
        (gamma, each)
        for each in case.reading.matrices
        if each.kind == kind
        and (gamma := gamma_of(each.configured_std, each.fan_in)) is not None
        and not low <= gamma <= high
    ]
    if not off:
        return
    off.sort(key=lambda pair: (pair[0], pair[1].name))
    matrices, gammas = [each for _, each in off], [gamma for gamma, _ in off]
    stds = [each.configured_std for each in matrices]
    how = f"std {span(stds, '.4g')}, γ {span(gammas)}"
    yield Finding(
        code=f"{kind}-apart",
        what=f"{title} ({brief(matrices)}) is drawn with {how}, "
        f"and the blocks with γ {span(known)}",
        why="γ = −ln(std) / ln(fan_in), where an embedding's fan-in is the width; γ-initialization "
        "draws embedding and head with the γ of all others (arXiv 2405.05409, 2501.08537)",
        instead=f"draw it with std {_wanted(case, matrices)}, which critical export writes where "
        "there is a key or code for it",
        certainty="derived",
        numbers={
            "matrices": names(matrices),
            "stds": stds,
            "gammas": gammas,
            "blocks": [min(known), max(known)],
        },
    )


def _wanted(case: Case, matrices: list[Matrix]) -> str:
    fan_ins = sorted({each.fan_in for each in matrices})
    if case.gamma is None:
        return " or ".join(f"{fan_in}^−γ" for fan_in in fan_ins)
    return " or ".join(f"{fan_in**-case.gamma:.4g}" for fan_in in fan_ins)
