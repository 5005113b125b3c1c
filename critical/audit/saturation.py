"""Whether the ε of the norms that read the embedding outweighs what they read.

Quantities:
    d     width
    s     factor on the embedding before its norm, 1 but for Gemma and the like
    σ     std of an embedding; learned positions, added to the tokens, have one of their own
    ms    mean square of the norm's input, s² Σ σ²; at γ, s² n d^−2γ for n embeddings
    RMS   of the norm's output before its gain, √(ms / (ms + ε)); 1 where it normalizes
    γ_c   crossover, where ms = ε: ln(s² n / ε) / (2 ln d)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from critical.audit.case import Case
from critical.audit.finding import Finding
from critical.audit.rates import finite, has_key, stated, to_write
from critical.frameworks.reading import Reading, Setting

MARGIN = 100.0
"""ms / ε from which on a norm counts as normalizing: its output RMS is then √(100/101) = 0.995."""


def output_rms(mean_square: float, eps: float) -> float:
    """Return the RMS of a norm's output before its gain, in [0, 1]; 0 for an input of zeros."""
    return 0.0 if mean_square <= 0 else 1 / math.sqrt(1 + eps / mean_square)


@dataclass(frozen=True, slots=True)
class Saturation:
    """The first norm of a model, and what it reads.

    Attributes:
        eps: Its ε.
        width: d.
        scale: s.
        stds: σ of every embedding that is summed, in ascending order.
    """

    eps: Setting[float]
    width: int
    scale: float
    stds: tuple[float, ...]

    def mean_square(self, gamma: float | None = None) -> float:
        """Return ms as it is drawn now, or with every embedding drawn at γ."""
        drawn = (
            sum(std * std for std in self.stds)
            if gamma is None
            else len(self.stds) * self.width ** (-2 * gamma)
        )
        rms = self.scale * math.sqrt(drawn)
        return finite(rms * rms)

    def rms(self, gamma: float | None = None) -> float:
        """Return the norm's output RMS now, or at γ."""
        return output_rms(self.mean_square(gamma), self.eps.value)

    def gamma_where(self, times: float) -> float | None:
        """Return the γ at which ms is so many times ε; None for an ε of 0."""
        if self.eps.value <= 0 or self.scale <= 0:
            return None
        first = 2 * math.log(self.scale) + math.log(len(self.stds))
        return (first - math.log(times) - math.log(self.eps.value)) / (2 * math.log(self.width))

    @property
    def crossover(self) -> float | None:
        """Return γ_c."""
        return self.gamma_where(1.0)

    @property
    def begins(self) -> float | None:
        """Return the γ above which the output RMS is under 0.995."""
        return self.gamma_where(MARGIN)

    def relaxed(self, gamma: float | None = None) -> float | None:
        """Return the greatest round ε that leaves 0.995 of the RMS; None where none can."""
        greatest = self.mean_square(gamma) / MARGIN
        return rounded_down(greatest) if greatest > _LEAST else None

    def restrains(self, gamma: float | None = None) -> bool:
        """Return whether the output RMS is under 0.995 now, or at γ."""
        return self.mean_square(gamma) / MARGIN < self.eps.value  # To the last bit as relaxed().

    def to_document(self, gamma: float | None) -> dict[str, Any]:
        """Return it as JSON, with what the recommended γ makes of it."""
        known = gamma is not None
        return {
            "key": self.eps.key,
            "eps": self.eps.value,
            "stated": self.eps.stated,
            "embedding_stds": list(self.stds),
            "embedding_scale": self.scale,
            "mean_square": self.mean_square(),
            "output_rms": self.rms(),
            "recommended_mean_square": self.mean_square(gamma) if known else None,
            "recommended_output_rms": self.rms(gamma) if known else None,
            "begins_gamma": self.begins,
            "crossover_gamma": self.crossover,
            "relaxed_eps": self.relaxed(gamma),
        }


def saturation_of(reading: Reading) -> Saturation | None:
    """Return the first norm and what it reads; None where ``unread`` says why not."""
    if reading.norms is None or unread(reading) is not None:
        return None
    stds = [each.configured_std for each in reading.matrices if each.kind == "embedding"]
    norms = reading.norms
    return Saturation(norms.eps, reading.width, norms.embedding_scale, tuple(sorted(stds)))


def unread(reading: Reading) -> str | None:
    """Say why the ε of a model's norms cannot be held against its embedding; None where it can."""
    fan_ins = {each.fan_in for each in reading.matrices if each.kind == "embedding"}
    if reading.norms is None:
        return "the ε of its norms is not checked"
    if not reading.norms.read_embedding:
        return (
            f"no norm reads the embedding itself, the first block's attention and feed-forward do: "
            f"whether {stated(reading.norms.eps)} saturates its norms depends on what these put out"
        )
    if fan_ins != {reading.width} or reading.width < 2:
        return "what its first norm reads is not known, so its ε is not checked"
    return None


def norm_eps(case: Case) -> Iterator[Finding]:
    """Find an ε that holds the first norm's output under 0.995, now or at the recommended γ."""
    found, gamma = saturation_of(case.reading), case.gamma
    if found is None:
        return
    if not found.restrains() and (gamma is None or not found.restrains(gamma)):
        return
    at = "" if gamma is None else f" and {found.rms(gamma):.3f} at γ {gamma:.4g}"
    squares = f"{found.mean_square():.3g} now" + (
        "" if gamma is None else f" and {found.mean_square(gamma):.3g} at γ {gamma:.4g}"
    )
    embeddings = "" if len(found.stds) == 1 else f" of {len(found.stds)} embeddings, summed"
    factor = "" if found.scale == 1 else f" times {found.scale:.4g}²"
    cross = "" if found.crossover is None else f"; ms = ε at γ {found.crossover:.3f}"
    yield Finding(
        code="norm-eps",
        what=f"{stated(found.eps)} holds the first norm's output at an RMS of {found.rms():.3f} "
        f"now{at}, where 1 is normalized",
        why="output RMS = √(ms / (ms + ε)) (torch.nn.RMSNorm and LayerNorm) with ms = std²"
        f"{factor}{embeddings}, {squares}{cross}; it is the first norm alone, for deeper ones read "
        "the residual stream",
        instead=_instead(found, gamma),
        certainty="derived",
        numbers=found.to_document(gamma),
    )


def rounded_down(number: float) -> float:
    """Return the greatest number of one digit that is not above a positive one."""
    exponent = math.floor(math.log10(number))
    digits = (float(f"{digit}e{power}") for power in (exponent, exponent - 1) for digit in _DIGITS)
    return next((one for one in digits if one <= number), number)


_DIGITS = range(9, 0, -1)
_LEAST = 1e-300
"""Below is no ε to write."""


def _instead(found: Saturation, gamma: float | None) -> str:
    if gamma is not None and not found.restrains(gamma):
        return f"γ {gamma:.4g} does: the RMS is {found.rms(gamma):.3f} there"
    relaxed = found.relaxed(gamma)
    if relaxed is None:
        return "draw the embedding with a greater std: it is all but 0"
    where = "now" if gamma is None else f"at γ {gamma:.4g}"
    write = (
        to_write(found.eps.key, relaxed)
        if has_key(found.eps)
        else f"in the model's code {to_write('ε', relaxed)}"
    )
    return (
        f"{write} or less, for at least 0.995 {where}; that "
        "1e-12 is better still is a hypothesis, which critical search --settings target,relaxed "
        "tests"
    )
