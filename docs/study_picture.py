"""Draws the curves of a study for docs/results.md: `python docs/study_picture.py STUDY OUT.png [LOWEST]`.

What the tab Compare shows, with the axis of the Dice beginning at LOWEST. Needs Playwright and Chromium.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright
from plotly.offline import get_plotlyjs

from sauron_viz.figures.compare import CURVES, comparison
from sauron_viz.groups import group_runs
from sauron_viz.runs import Library


def main(study: str, out: str, lowest: str = "0.6") -> None:
    """Draw the validation Dice of all finished runs."""
    library = Library(Path(study))
    lines = [line for line in library.overview() if line.epochs and line.status == "finished"]
    plot = comparison(group_runs([library.open(line.name) for line in lines], lines), CURVES[0])
    if plot is None:
        raise SystemExit(f"no run of {study} is finished")
    figure = plot.figure()
    highest = max(max(trace.y) for trace in figure.data)
    figure.update_yaxes(range=[float(lowest), highest + 0.1 * (highest - float(lowest))])
    figure.update_layout(width=1000, height=460, paper_bgcolor="white", plot_bgcolor="white")
    page_text = f"<script>{get_plotlyjs()}</script>{figure.to_html(include_plotlyjs=False, full_html=False)}"
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=os.environ.get("SAURON_CHROMIUM"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 460}, device_scale_factor=2)
        page.set_content(page_text)
        page.wait_for_selector(".main-svg")
        page.locator(".js-plotly-plot").screenshot(path=out)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
