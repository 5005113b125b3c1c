"""On what a recommendation rests, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from critical.storage.records import (
    GammaStar,
    PosteriorRecord,
    ScalePosterior,
    TargetPosterior,
)
from critical.targets.target import Target

_NO_REASONING = 0.005
"""R, everywhere below which nothing has been learned of reasoning."""


def conditions_of(
    posterior: PosteriorRecord,
    scales: Sequence[ScalePosterior],
    found: TargetPosterior | None,
    *,
    unconfirmed: bool,
) -> list[str]:
    """Say on what γ* of some settings rests.

    Args:
        posterior: Of the study.
        scales: Of the settings, at least one.
        found: At the target; None where no scale has learned.
        unconfirmed: Whether its gain is still to be measured on fresh seeds.
    """
    said = []
    rate = posterior.conditional_on_learning_rate
    if rate is not None:
        said.append(f"conditional on learning rate {rate:g}")
    if max(max(scale.reasoning.median) for scale in scales) < _NO_REASONING:
        said.append("R is near 0 at every γ: γ* rests on efficiency alone")
    exploratory = [str(scale.width) for scale in scales if not scale.learned]
    if exploratory:
        said.append(
            f"exploratory at width {', '.join(exploratory)}: the reference has not learned its "
            "trained items there"
        )
    said += _of_target(found)
    if unconfirmed:
        said.append("not confirmed on fresh seeds yet")
    return said


def disagreement(study: str, medians: Mapping[str, float], chosen: str | None) -> str:
    """Say that settings have no γ* in common, and what to write.

    Args:
        study: Its name.
        medians: Of the γ* of each.
        chosen: Those that were asked for by name, if any were.
    """
    told = ", ".join(f"{settings} {median:.3f}" for settings, median in medians.items())
    start = f"the settings disagree on γ* ({told})"
    if chosen is not None:
        return f"{start}: this one is for a model that trains under {chosen}"
    return (
        f"{start}: choose the settings that you will train with: critical recommend {study} "
        f"--settings {next(iter(medians))}"
    )


def relaxed_needs(model: Target | None, *, gated: bool) -> str | None:
    """Say what a model must have for γ* of the built-in trial's settings ``relaxed`` to be its own.

    Args:
        model: That is to be trained; None where only its width is known.
        gated: Whether the proxies had gated attention too, as all but those of ``--proxy hf``.

    Returns:
        A sentence; None where the model has all of it.
    """
    from critical.trials.settings import RELAXED_EPS

    start = f"relaxed settings are norm ε {RELAXED_EPS:g}" + (
        " and gated attention" if gated else ""
    )
    if model is None:
        both, these = ("both", "these") if gated else ("it", "this")
        return f"{start}: train with {both}, for γ* holds under {these} alone"
    lacks = []
    if model.norm_eps > RELAXED_EPS:
        lacks.append(f"{model.norm_eps_key or 'norm ε'} {model.norm_eps:g}")
    if gated and not _has_gate(model):
        lacks.append("no gate")
    if not lacks:
        return None
    change = "change these" if len(lacks) > 1 else "change this"
    return f"{start}: {model.name} has {' and '.join(lacks)}, so {change} too"


def _has_gate(model: Target) -> bool:
    # Its package imports every framework, which searches can do without.
    from critical.frameworks.hf_attention import attention

    return attention(model).gated is True


def _of_target(found: TargetPosterior | None) -> list[str]:
    if found is None:
        return [
            "no scale has learned, so nothing is extrapolated: give a new --study a bigger --budget"
        ]
    said = []
    if found.prior_dominated:
        low, high = found.doubled
        said.append(
            f"prior-dominated at width {found.width}: with twice the slope's sd the interval is "
            f"{low:.2f}–{high:.2f}"
        )
    said += _skew(found.gamma_star)
    if found.truncated > 0.01:
        said.append(f"{found.truncated:.0%} of draws lay outside the interval and were truncated")
    return said


def _skew(star: GammaStar) -> list[str]:
    """Say where the plateau lies if γ*'s median is not in it."""
    low, high = star.plateau
    if low <= star.median <= high:
        return []
    side, cheaper = ("above", "large") if star.median < low else ("below", "small")
    return [
        f"the plateau {low:.2f}–{high:.2f} lies {side} the median of γ*: a γ too {cheaper} is "
        "expected to cost less share than one too far the other way"
    ]
