"""How fast the explorer is in a real browser: first paint, steps of the epoch slider, and drags of the threshold.

python benchmarks/explorer_in_browser.py /usr/bin/chromium

Serves a synthetic run with a layer of 480 maps of 64 x 64 at 12 epochs, and prints medians in milliseconds. Not part of
the tests. Absolute times are those of this machine: read them beside each other.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "viz"))

from browsing import Served
from playwright.sync_api import sync_playwright
from sample import Spec, write_run

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
DRAWN = ".sauron-grid[data-ready*='|']"
EPOCH_STEP = """async (step) => {
  const grid = document.querySelector('.sauron-grid');
  const slider = document.querySelector('input[type=range][aria-valuetext$="of 12"]');
  return await new Promise((done) => {
    const before = grid.dataset.ready, started = performance.now();
    const painted = () => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - started)));
    const seen = new MutationObserver(() => { if (grid.dataset.ready !== before) { seen.disconnect(); painted(); } });
    seen.observe(grid, { attributes: true });
    slider.value = Number(slider.value) + step;
    slider.dispatchEvent(new Event('input', { bubbles: true }));
  });
}"""
THRESHOLD_STEP = """async (place) => {
  const slider = [...document.querySelectorAll('input[type=range]')].find((x) => x.offsetParent && x.max === '260');
  return await new Promise((done) => {
    const started = performance.now();
    slider.value = place;
    slider.dispatchEvent(new Event('input', { bubbles: true }));
    requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - started)));
  });
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("browser", help="path of Chromium")
    parser.add_argument("--repeat", type=int, default=5, help="page loads that are timed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        write_run(Path(folder) / "wide", Spec(side=64, levels=3, init=16, epochs=12, every=1, widest=480))
        served, browser = (
            Served(Path(folder)),
            playwright.chromium.launch(executable_path=arguments.browser, args=FLAGS),
        )
        try:
            measure(served, browser, arguments.repeat)
        finally:
            browser.close()
            served.stop()


def measure(served: Served, browser: Any, repeat: int) -> None:
    loads = []
    for _ in range(repeat):
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        started = time.perf_counter()
        page.goto(f"{served.url}?run=wide")
        page.wait_for_selector(DRAWN)
        loads.append(1000 * (time.perf_counter() - started))
        if len(loads) < repeat:
            page.close()
    tell("first paint, cold kernel", loads)
    tell("epoch step, first time", steps(page, lambda: page.evaluate(EPOCH_STEP, -1), 3, pause=0))
    page.wait_for_timeout(8000)  # the other epochs are fetched in the background
    back = steps(page, lambda: page.evaluate(EPOCH_STEP, 1), 3)
    tell("epoch step, in the browser", back + steps(page, lambda: page.evaluate(EPOCH_STEP, -1), 10))
    page.get_by_role("tab", name="What would go?").click()
    page.wait_for_selector(".sauron-outlook [data-name=FLOPs]")
    tell("drag of the threshold", [page.evaluate(THRESHOLD_STEP, place) for place in range(20, 220, 10)])


def steps(page: Any, step: Callable[[], float], count: int, pause: int = 150) -> list[float]:
    times = []
    for _ in range(count):
        times.append(step())
        page.wait_for_timeout(pause)
    return times


def tell(what: str, times: list[float]) -> None:
    print(f"{what}: median {statistics.median(times):.0f} ms, {min(times):.0f} to {max(times):.0f}, n = {len(times)}")


if __name__ == "__main__":
    main()
