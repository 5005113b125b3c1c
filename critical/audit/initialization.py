"""How the matrices of a model are drawn: whether with one γ, and with the recommended one."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from critical.audit.case import Case
from critical.audit.finding import Finding
from critical.audit.rates import (
    TELLING,
    blocks,
    brief,
    count,
    gamma_of,
    joined,
    names,
    rates_of,
    span,
)
from critical.export.report import EXACT_WITHIN
from critical.targets.layout import Matrix

_MOST_TOLD = 4
"""Of more fan-ins the least and the greatest are told."""
_MOST_STDS = 2


def not_at_gamma(case: Case) -> Iterator[Finding]:
    """Find the matrices that the recommended γ would draw with another std."""
    drawn = [each for each in rates_of(case.reading, case.gamma) if each.gamma is not None]
    ratios = [(one.ratio, one.matrix) for one in drawn if one.ratio is not None]
    off = [(ratio, matrix) for ratio, matrix in ratios if abs(ratio - 1) > EXACT_WITHIN]
    if not off:
        return
    total, missed = count(each.matrix for each in drawn), count(matrix for _, matrix in off)
    how = f"{span([ratio for ratio, _ in off], '.4g')} times the std of γ {case.gamma:.4g}"
    yield Finding(
        code="not-at-gamma",
        what=f"{missed} of {total} matrices are drawn with {how}",
        why="γ-initialization draws every matrix with std = fan_in^−γ (arXiv 2405.05409, "
        "2501.08537)",
        instead=f"{case.export_command()}: edits what {case.reading.framework} has a key for and "
        "writes code for the rest",
        certainty="derived",
        numbers={
            "gamma": case.gamma,
            "matrices": missed,
            "of": total,
            "least_ratio": min(ratio for ratio, _ in off),
            "greatest_ratio": max(ratio for ratio, _ in off),
        },
    )


def one_std_several_gammas(case: Case) -> Iterator[Finding]:
    """Find a std that is given to several fan-ins, for it is another γ at each."""
    told: list[tuple[int, str]] = []
    numbers = []
    for same in _of_one_std(case.reading.matrices):
        by_fan_in: dict[int, list[Matrix]] = defaultdict(list)
        for each in same:
            by_fan_in[each.fan_in].append(each)
        std = max(each.configured_std for each in same)
        found = [(fan_in, gamma_of(std, fan_in), by_fan_in[fan_in]) for fan_in in sorted(by_fan_in)]
        gammas = [gamma for _, gamma, _ in found if gamma is not None]
        if not gammas or max(gammas) - min(gammas) < TELLING:
            continue
        known = [(fan_in, gamma, some) for fan_in, gamma, some in found if gamma is not None]
        told.append((-count(same), f"std {std:.4g} is {_told(known)}"))
        numbers.append(
            {
                "std": std,
                "fan_ins": [
                    {"fan_in": fan_in, "gamma": gamma, "matrices": count(matrices)}
                    for fan_in, gamma, matrices in found
                ],
            }
        )
    if told:
        yield Finding(
            code="one-std-several-gammas",
            what=_most(told),
            why="γ = −ln(std) / ln(fan_in), by each matrix's own fan-in, so one std is a smaller γ "
            "where more inputs are summed (arXiv 2501.08537; its code takes the width for every "
            "matrix)",
            instead="give each matrix fan_in^−γ: critical export with --bundle writes code that "
            "does, where no key can",
            certainty="derived",
            numbers={"stds": numbers},
        )


def depth_scaled(case: Case) -> Iterator[Finding]:
    """Find residual projections that are drawn narrower than the rest."""
    scaling = case.reading.depth_scaling
    if scaling is None:
        return
    found = _narrower(case)
    who = brief(each for each, _ in found) if found else "residual projections"
    how = "than that of the others"
    by_fan_in: dict[int, list[float]] = defaultdict(list)
    for each, ratio in found:
        by_fan_in[each.fan_in].append(-math.log(ratio) / math.log(each.fan_in))
    if by_fan_in:
        shifts = [f"{span(by_fan_in[one])} (fan-in {one})" for one in sorted(by_fan_in)]
        how = f"by {joined(shifts)}"
    yield Finding(
        code="depth-scaling",
        what=f"{who} are drawn at {scaling.formula}, so their γ is larger {how}",
        why="dividing a std by n adds ln(n) / ln(fan_in) to its γ, so a rule for depth, as GPT-2's "
        "n = √(2L), and γ act on the same matrices (the text of arXiv 2501.08537 does without, its "
        "code keeps it)",
        instead=scaling.remedy
        or "no key turns it off: critical export with --bundle writes code that draws them with γ",
        certainty="derived",
        numbers={
            "formula": scaling.formula,
            "depth": case.reading.depth,
            "matrices": names(each for each, _ in found),
            "shifts": [
                {"fan_in": fan_in, "least": min(some), "greatest": max(some)}
                for fan_in, some in sorted(by_fan_in.items())
            ],
        },
    )


def _of_one_std(matrices: Sequence[Matrix]) -> list[list[Matrix]]:
    """Group matrices by their std, equal ones within the tolerance of an exact export.

    Those of one numbered block are grouped among themselves: where a std goes with the depth, that
    of a matrix may be another's of another block by chance.
    """
    groups: list[list[Matrix]] = []
    drawn = [each for each in matrices if gamma_of(each.configured_std, each.fan_in) is not None]
    for each in sorted(drawn, key=lambda one: (_block(one), -one.configured_std, one.name)):
        first = groups[-1][0] if groups else None
        if (
            first is not None
            and _block(first) == _block(each)
            and each.configured_std >= first.configured_std * (1 - EXACT_WITHIN)
        ):
            groups[-1].append(each)
        else:
            groups.append([each])
    return groups


def _block(matrix: Matrix) -> int:
    """Return the number of a matrix's block; −1 where it stands for all of them, or is in none."""
    found = re.search(r"\.(\d{1,9})\.", matrix.name)
    return -1 if found is None else int(found[1])


def _most(told: Sequence[tuple[int, str]]) -> str:
    """Join the sentences on the stds of the most matrices, and count the rest."""
    first = [sentence for _, sentence in sorted(told, key=lambda one: one[0])[:_MOST_STDS]]
    more = len(told) - len(first)
    return "; ".join(first) + (f"; likewise for {more} more" if more else "")


def _told(found: Sequence[tuple[int, float, Sequence[Matrix]]]) -> str:
    ends = found if len(found) <= _MOST_TOLD else (found[0], found[-1])
    parts = [
        f"γ {gamma:.3f} at fan-in {fan_in} ({count(matrices)} "
        f"{'matrix' if count(matrices) == 1 else 'matrices'})"
        for fan_in, gamma, matrices in ends
    ]
    between = len(found) - len(ends)
    return joined(parts) + (f", with {between} fan-ins between" if between else "")


def _narrower(case: Case) -> list[tuple[Matrix, float]]:
    """Return the depth-scaled matrices, each with its std as a part of what it would be.

    They are told by numbers, for every framework names them differently: with a fixed std, or with
    one that goes as 1/√fan_in, all others are drawn at the scale of the widest, and these at one
    part of it, or at 1/√(2k) of it with k up to the depth. Empty where neither fits.
    """
    some = blocks(case.reading)
    for power in (0.0, 0.5):
        scales = [each.configured_std * each.fan_in**power for each in some]
        ratios = [scale / max(scales) for scale in scales]
        pairs = zip(some, ratios, strict=True)
        narrower = [(each, ratio) for each, ratio in pairs if not ratio >= 1 - EXACT_WITHIN]
        if narrower and _of_one_rule([ratio for _, ratio in narrower], case.reading.depth):
            return narrower
    return []


def _of_one_rule(ratios: Sequence[float], depth: int) -> bool:
    if min(ratios) >= max(ratios) * (1 - EXACT_WITHIN) > 0:
        return True
    return all(_is_of_depth(ratio, depth) for ratio in ratios)


def _is_of_depth(ratio: float, depth: int) -> bool:
    if not ratio * math.sqrt(2 * depth) >= 1 - EXACT_WITHIN:
        return False
    nearest = round(1 / (2 * ratio * ratio))
    return 1 <= nearest <= depth and math.isclose(
        ratio, 1 / math.sqrt(2 * nearest), rel_tol=EXACT_WITHIN
    )
