"""How fast the explorer is in a real browser, and how much memory its kernel takes.

First paint, steps of the epoch slider, drags of the threshold, and a walk through 1 GB of maps.

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "viz"))

import psutil
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
    parser.add_argument("--only", choices=("speed", "memory"), help="leave the other out")
    arguments = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=arguments.browser, args=FLAGS)
        if arguments.only != "memory":
            with served(Spec(side=64, levels=3, init=16, epochs=12, every=1, widest=480), "--no-preload") as server:
                tell("first paint, no page ready", first_paints(server, browser, arguments.repeat, pause=2))
            with served(Spec(side=64, levels=3, init=16, epochs=12, every=1, widest=480)) as server:
                tell("first paint, a page ready", first_paints(server, browser, arguments.repeat, pause=12))
                measure(server, browser)
        if arguments.only != "speed":
            with served(Spec(side=64, levels=3, init=16, epochs=16, every=1, widest=480, images=16)) as server:
                tell_memory(server, browser)
        browser.close()


@contextmanager
def served(spec: Spec, *options: str) -> Iterator[Served]:
    with tempfile.TemporaryDirectory() as folder:
        write_run(Path(folder) / "wide", spec)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.safetensors")) / 2**20
        print(f"a run of {spec.epochs} epochs with {size:.0f} MB of maps", *options)
        server = Served(Path(folder), "dashboard", *options)
        try:
            yield server
        finally:
            server.stop()


def open_page(server: Served, browser: Any) -> Any:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(f"{server.url}?run=wide")
    page.wait_for_selector(DRAWN)
    return page


def first_paints(server: Served, browser: Any, repeat: int, pause: float) -> list[float]:
    found = []
    for _ in range(repeat):
        time.sleep(pause)
        started = time.perf_counter()
        page = open_page(server, browser)
        found.append(1000 * (time.perf_counter() - started))
        page.close()
    return found


def measure(server: Served, browser: Any) -> None:
    page = open_page(server, browser)
    tell("epoch step, first time", steps(page, lambda: page.evaluate(EPOCH_STEP, -1), 3, pause=0))
    page.wait_for_timeout(8000)  # the other epochs are fetched in the background
    back = steps(page, lambda: page.evaluate(EPOCH_STEP, 1), 3)
    tell("epoch step, in the browser", back + steps(page, lambda: page.evaluate(EPOCH_STEP, -1), 10))
    page.get_by_role("tab", name="What would go?").click()
    page.wait_for_selector(".sauron-outlook [data-name=FLOPs]")
    tell("drag of the threshold", [page.evaluate(THRESHOLD_STEP, place) for place in range(20, 220, 10)])
    page.close()


def tell_memory(server: Served, browser: Any) -> None:
    """The largest kernel after everything has been looked at, at every epoch and for several images."""
    time.sleep(12)
    page = open_page(server, browser)
    print(f"kernel after the first paint: {kernel_megabytes(server):.0f} MB")
    page.locator(".sauron-grid-canvas").first.click(position={"x": 30, "y": 30})
    slider = page.get_by_role("slider", name="Epoch")
    for image in range(0, 16, 4):
        page.get_by_label("Probe image", exact=True).select_option(str(image))
        for _ in range(16):
            slider.press("ArrowLeft")
            page.wait_for_timeout(400)
        slider.press("End")
        for tab in ("Distances", "What would go?", "Result", "Map"):
            page.get_by_role("tab", name=tab, exact=True).click()
            page.wait_for_timeout(1500)
    page.get_by_label("Compare with").select_option("epoch:1")
    for tab in ("Layer trends", "Pruning"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(2000)
    print(f"kernel after a walk through all of it: {kernel_megabytes(server):.0f} MB")
    page.close()


def kernel_megabytes(server: Served) -> float:
    """Resident memory of the kernel that a page is looking at: the one that has come furthest."""
    kernels = psutil.Process(server.process.pid).children(recursive=True)
    return max(process.memory_info().rss for process in kernels) / 2**20


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
