"""An audit on the terminal: a table of what is drawn, then what restrains it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from critical.audit import Audit, Certainty, Finding
from critical.audit.rates import Rate, joined, short, span, stated
from critical.targets.layout import pattern

_SURE: dict[Certainty, str] = {
    "measured": "measured",
    "derived": "derived by formula",
    "hypothesis": "to be tested (hypothesis)",
}
Row = tuple[int, tuple[str, ...], list[Rate]]


def audit_view(found: Audit) -> list[RenderableType]:
    """Show an audit: headline, matrices, the first norm, findings, remarks."""
    views: list[RenderableType] = [_headline(found), _matrices(found)]
    views.append(Text("γ = −ln(std) / ln(fan-in): a greater γ is a smaller initialization"))
    views += [Text(sentence) for sentence in _first_norm(found)]
    views += ["", Text(_counted(found.findings), style="bold")]
    for number, finding in enumerate(found.findings, 1):
        views += ["", *_finding(number, finding)]
    bullets = [*found.remarks, *_conditions(found), *_hint(found)]
    return [*views, "", *(_hanging(f"• {sentence}") for sentence in bullets)]


def _headline(found: Audit) -> Text:
    case, reading = found.case, found.case.reading
    gammas = [each.gamma for each in found.rates if each.gamma is not None]
    now = f", γ {span(gammas)} now" if gammas else ""
    one = case.recommended
    against = "" if one is None else f"; held against γ {one.gamma:.4g} ({one.source})"
    blocks = f"{reading.depth} block{'' if reading.depth == 1 else 's'}"
    return Text.assemble(
        (case.file, "bold"),
        f": {reading.model} of {reading.framework}, width {reading.width}, {blocks}{now}{against}",
    )


def _matrices(found: Audit) -> Table:
    """One line for all that are drawn alike; those whose std goes with their depth in one."""
    gamma = found.case.gamma
    table = Table()
    for column in ("count", "fan-in", "std", "γ"):
        table.add_column(column, justify="right", no_wrap=True)
    if gamma is not None:
        table.add_column(f"at γ {gamma:.4g}", justify="right", no_wrap=True)
        table.add_column("ratio", justify="right", no_wrap=True)
    table.add_column("matrices", overflow="fold")
    shown = _unambiguous(found.rates)
    for fan_in, names, rates in _alike(found.rates):
        gammas = [each.gamma for each in rates if each.gamma is not None]
        wanted = [each.wanted for each in rates if each.wanted is not None]
        ratios = [each.ratio for each in rates if each.ratio is not None]
        table.add_row(
            str(sum(each.matrix.count for each in rates)),
            str(fan_in),
            _range([each.matrix.configured_std for each in rates], ".4g"),
            _range(gammas, ".3f") if gammas else "–",
            *([_range(wanted, ".4g"), _range(ratios, ".4g")] if gamma is not None else []),
            ", ".join(shown[name] for name in names),
        )
    return table


def _alike(rates: Sequence[Rate]) -> list[Row]:
    """Put together what has one fan-in and the same stds, in the order of the model."""
    by_name: dict[tuple[str, int], list[Rate]] = {}
    for each in rates:
        by_name.setdefault((pattern(each.matrix.name), each.matrix.fan_in), []).append(each)
    rows: dict[tuple[int, tuple[float, ...]], tuple[list[str], list[Rate]]] = {}
    for (name, fan_in), some in by_name.items():
        stds = tuple(sorted({each.matrix.configured_std for each in some}))
        names, members = rows.setdefault((fan_in, stds), ([], []))
        names.append(name)
        members += some
    return [(fan_in, tuple(names), members) for (fan_in, _), (names, members) in rows.items()]


def _unambiguous(rates: Sequence[Rate]) -> dict[str, str]:
    """Return each name without what stands before its block, where that leaves it its own."""
    names = {pattern(each.matrix.name) for each in rates}
    seen = Counter(short(name) for name in names)
    return {name: short(name) if seen[short(name)] == 1 else name for name in names}


def _range(values: Sequence[float], form: str) -> str:
    return span(values, form).replace(" to ", "–")


def _first_norm(found: Audit) -> Iterator[str]:
    first, gamma = found.saturation, found.case.gamma
    if first is None:
        return
    at = "" if gamma is None else f", {first.rms(gamma):.3f} at γ {gamma:.4g}"
    limits = ""
    if first.begins is not None and first.crossover is not None:
        limits = (
            f"; at least 0.995 up to γ {first.begins:.3f}, and 0.707 at γ {first.crossover:.3f}"
        )
    yield f"first norm: {stated(first.eps)}, output RMS {first.rms():.3f} now{at}{limits}"


def _counted(findings: Sequence[Finding]) -> str:
    if not findings:
        return "no findings"
    kinds = Counter(finding.certainty for finding in findings)
    total = f"{len(findings)} finding{'' if len(findings) == 1 else 's'}"
    if len(kinds) == 1:
        return f"{total}, {_SURE[findings[0].certainty]}"
    return f"{total}: {joined([f'{number} {_SURE[kind]}' for kind, number in kinds.items()])}"


def _finding(number: int, finding: Finding) -> list[RenderableType]:
    head = Text.assemble(f"{number}. ", (finding.code, "bold"), f" ({finding.certainty})")
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for label in ("what", "why", "instead"):
        grid.add_row(Text(label), Text(getattr(finding, label)))
    return [head, Padding(grid, (0, 0, 0, 3))]


def _hanging(text: str) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    mark, _, rest = text.partition(" ")
    grid.add_row(Text(mark), Text(rest))
    return grid


def _conditions(found: Audit) -> tuple[str, ...]:
    one = found.case.recommended
    return () if one is None else tuple(f"of γ {one.gamma:.4g}: {each}" for each in one.conditions)


def _hint(found: Audit) -> Iterator[str]:
    if found.case.recommended is None:
        yield (
            "--gamma G or --study STUDY holds every matrix against that γ, and "
            f"{found.case.export_command()} writes it"
        )
