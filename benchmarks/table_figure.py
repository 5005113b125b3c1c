"""Draw what the table ``main`` holds: R, ρ and share against γ at each width, into docs/tables.png.

    python benchmarks/table_figure.py [--output docs/tables.png]

Points are runs at the rate that is best at their γ, lines the means over seeds that γ* is taken
from (see table_surfaces.py), and the dashed line stands at γ*. Needs Chromium, as the tests do.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import plotly.graph_objects as go
from playwright.sync_api import sync_playwright
from plotly.subplots import make_subplots
from table_file import read
from table_surfaces import Balance, Surfaces, balance, best_places, surfaces

from critical.dashboards.figures import style

ROWS = ("reasoning R", "efficiency ρ", "share")
_SIZE = {"width": 1280, "height": 820}


def main() -> None:
    """Draw the figure and take its picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parents[1] / "docs" / "tables.png"
    )
    output: Path = parser.parse_args().output
    table = read("main")
    page = figure([surfaces(table, width) for width in sorted(set(table["width"].to_pylist()))])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        tab = browser.new_page(viewport=_SIZE)  # type: ignore[arg-type]
        tab.set_content(page.to_html(include_plotlyjs=True, config={"staticPlot": True}))
        tab.wait_for_selector(".main-svg")
        tab.screenshot(path=str(output))
        browser.close()


def figure(found: list[Surfaces]) -> go.Figure:
    """Return three rows of panels, a column a width."""
    drawn = make_subplots(
        len(ROWS), len(found), shared_xaxes=True, shared_yaxes="rows",
        horizontal_spacing=0.03, vertical_spacing=0.05,
        column_titles=[f"width {one.width}" for one in found],
    )  # fmt: skip
    for column, one in enumerate(found, start=1):
        at = balance(one, range(len(one.seeds)))
        _draw_points(drawn, one, column)
        _draw_lines(drawn, at, column)
        drawn.add_vline(at.star, line={"dash": "dash", "width": 1}, col=column)
        drawn.update_xaxes(title_text="γ", row=len(ROWS), col=column)
    for row, title in enumerate(ROWS, start=1):
        drawn.update_yaxes(title_text=title, row=row, col=1)
    drawn.update_yaxes(
        type="log", range=[-1.3, 0.4], row=2, tickvals=[0.0625, 0.125, 0.25, 0.5, 1, 2],
        ticktext=["1/16", "1/8", "1/4", "1/2", "1", "2"],
    )  # fmt: skip
    drawn.update_yaxes(range=[0, 1.02], row=3)
    drawn.update_yaxes(rangemode="tozero", row=1)
    drawn.update_layout(
        template="plotly_white",
        showlegend=False,
        font_size=13,
        margin={"l": 70, "r": 16, "t": 32, "b": 48},
        **_SIZE,
    )
    return drawn


def _draw_points(drawn: go.Figure, found: Surfaces, column: int) -> None:
    best, reference = best_places(found, range(len(found.seeds)))
    for place, gamma in enumerate(found.gammas):
        reasoning = found.reasoning[place, best[place]]
        efficiency = 2 ** found.efficiency[place, best[place], :, reference]
        for row, values in ((1, reasoning), (2, efficiency)):
            drawn.add_scatter(
                x=[gamma] * len(values), y=values, mode="markers", row=row, col=column,
                marker={"size": 4, "color": style.MUTED},
            )  # fmt: skip


def _draw_lines(drawn: go.Figure, at: Balance, column: int) -> None:
    for row, values in enumerate((at.reasoning, 2**at.efficiency, at.share), start=1):
        drawn.add_scatter(
            x=at.gamma, y=values, mode="lines", row=row, col=column,
            line={"color": "#2a6f97", "width": 2},
        )  # fmt: skip


if __name__ == "__main__":
    main()
