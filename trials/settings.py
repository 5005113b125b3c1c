"""Settings of an arm by name: the target's own, or with what may restrain small initialization.

    target   as the target has it
    relaxed  every norm's ε 1e-12, and gated attention (2505.06708)
    carried  the target's own, but the norms that read the embedding have the target's saturation
             at initialization

A norm of a width d reads an embedding whose mean square is ms = d^−2γ (d^(1−2γ) where embeddings
are multiplied by √d), and returns a root mean square of √(ms / (ms + ε)): its *saturation* depends
on ε / ms. A proxy has the target's with ε_proxy = ε_target · ms_proxy / ms_target, which is
ε_target · (d_target / d_proxy)^2γ. That relaxing ε and attention sinks restores the gain of a small
initialization is a hypothesis to be tested by the arm ``relaxed``.
"""

from __future__ import annotations

from dataclasses import replace

from critical.trials.architecture import Architecture, ModelShape
from critical.trials.errors import SettingsError
from critical.trials.run import ProxyRun

SETTINGS = ("target", "relaxed", "carried")
RELAXED_EPS = 1e-12


def effective_shape(
    architecture: Architecture,
    run: ProxyRun,
    *,
    target_width: int | None,
    vocabulary: int,
    longest: int,
) -> ModelShape:
    """Return the model that a run trains: the architecture at its scale, under its settings.

    Args:
        architecture: To be scaled.
        run: Its scale, settings and γ are read.
        target_width: d_model of the target, needed by ``carried`` only.
        vocabulary: Number of token ids.
        longest: Longest sequence, tokens.

    Raises:
        SettingsError: As ``check_settings``.
    """
    check_settings(run.settings, architecture, target_width)
    scale = run.scale
    shape = architecture.shape(
        width=scale.width,
        depth=scale.depth,
        heads=scale.heads,
        vocabulary=vocabulary,
        longest=longest,
    )
    if run.settings == "relaxed":
        return replace(shape, norm_eps=RELAXED_EPS, gated_attention=True)
    if run.settings == "carried":
        assert target_width is not None
        eps = carried_eps(architecture, run.gamma, scale.width, target_width)
        return replace(shape, first_norm_eps=eps)
    return shape


def check_settings(settings: str, architecture: Architecture, target_width: int | None) -> None:
    """Refuse settings that are not known, or that an architecture cannot have.

    Raises:
        SettingsError: There are none of that name; or ``carried`` lacks a target, or a norm that
            reads the embedding.
    """
    if settings not in SETTINGS:
        raise SettingsError(
            f"settings {settings!r} are not one of {', '.join(SETTINGS)}: write --settings relaxed"
        )
    if settings != "carried":
        return
    if target_width is None:
        raise SettingsError(
            "--settings carried needs --target config.json, for it carries the target's "
            "saturation: give a target, or leave carried out"
        )
    if architecture.kinds.placement == "post":
        raise SettingsError(
            "--settings carried changes nothing in this target, whose norms all follow their "
            "layer and none reads the embedding: leave carried out"
        )


def carried_eps(architecture: Architecture, gamma: float, width: int, target_width: int) -> float:
    """Return the ε that gives a proxy's first norm the target's saturation at initialization.

    Args:
        architecture: Of both, with the target's ε.
        gamma: Of the run.
        width: The proxy's.
        target_width: The target's.
    """
    exponent = 2 * gamma - (1 if architecture.kinds.scaled_embedding else 0)
    return float(architecture.norm_eps * (target_width / width) ** exponent)
