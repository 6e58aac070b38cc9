"""How fast the dashboard is in a real browser: first paint, tabs, runs, long runs, many runs, and runs that grow.

python benchmarks/dashboard_in_browser.py /usr/bin/chromium

Serves synthetic runs, one of 32 layers and 500 epochs and 300 of 500 epochs, and prints medians in milliseconds. Not
part of the tests. Absolute times are those of this machine: read them beside each other, and beside a bare page of
Voila.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "viz"))

import nbformat
import psutil
from browsing import Served
from playwright.sync_api import sync_playwright
from sample import SampleRun, Spec, write_run

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
LONG = Spec(levels=7, init=4, max_filters=16, side=128, epochs=500, maps=False, images=1)
SHORT = Spec(levels=5, init=8, side=64, epochs=24, every=4)
RUNS = 300
PARTS = ("paint", "walk", "overview", "live")
CHART = ".sauron-chart[data-ready=yes] >> visible=true"
# Notes when the network, which is what one looks at first, is about to be painted. Asked from outside, a page that is
# busy with what comes next would answer late.
PAINTED = """new MutationObserver(() => {
  if (window.painted || !document.querySelector('.sauron-network[data-ready=yes]')) return;
  window.painted = true;
  requestAnimationFrame(() => (window.painted = performance.now()));
}).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ['data-ready'] });"""
# Does something, and waits until the page has drawn what follows from it.
TIMED = """async ([act, ready]) => {
  const done = new Function('return ' + ready), started = performance.now();
  new Function(act)();
  while (!done()) await new Promise(requestAnimationFrame);
  await new Promise((painted) => requestAnimationFrame(() => requestAnimationFrame(painted)));
  return performance.now() - started;
}"""
SEEN = "[...document.querySelectorAll('{}')].some((node) => node.clientWidth || node.getBoundingClientRect().width)"
TABS = {
    "maps": SEEN.format('.sauron-grid[data-ready*="|"]'),
    "trends": SEEN.format(".sauron-changes tbody tr"),
    "pruning": SEEN.format(".sauron-network[data-ready=yes]"),
    "compare": SEEN.format(".sauron-chart[data-ready=yes]"),
    "runs": SEEN.format(".sauron-datatable tbody tr"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("browser", help="path of Chromium")
    parser.add_argument("--repeat", type=int, default=5, help="page loads that are timed")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to time (all)")
    arguments = parser.parse_args()
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as place:
        browser = playwright.chromium.launch(executable_path=arguments.browser, args=FLAGS)
        few, many = Path(place) / "few", Path(place) / "many"
        write_run(few / "long", LONG)
        write_run(few / "short", SHORT)
        copies(few / "long", many, RUNS)
        parts: dict[str, Callable[[], None]] = {
            "paint": lambda: first_paint(browser, few, arguments.repeat),
            "walk": lambda: walk(browser, few),
            "overview": lambda: overview(browser, many),
            "live": lambda: live(browser, Path(place) / "live"),
        }
        for part in arguments.only:
            parts[part]()
        browser.close()


def copies(run: Path, folder: Path, count: int) -> None:
    """Many runs, of which only what a list of runs reads."""
    for number in range(count):
        target = folder / f"study_{number // 20:02d}" / f"run_{number:03d}"
        target.mkdir(parents=True)
        for name in ("run.json", "config.yaml", "epochs.csv", "layers.csv", "prunings.jsonl"):
            shutil.copyfile(run / name, target / name)


def first_paint(browser: Any, runs: Path, repeat: int) -> None:
    """The network comes first, charts follow, because plotly.js takes its time."""
    bare = bare_page(browser, repeat)
    bare_page(browser, repeat, "--preheat_kernel=True", "--pool_size=1")
    for options, pause, name in ((("--no-preload",), 2, "none"), ((), 12, "a page")):
        server = Served(runs, "dashboard", *options)
        drawn, charted = [], []
        for _ in range(repeat):
            time.sleep(pause)
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.add_init_script(PAINTED)
            started = time.perf_counter()
            page.goto(f"{server.url}?run=short&tab=pruning", wait_until="commit")
            page.wait_for_selector(CHART)
            charted.append(1000 * (time.perf_counter() - started))
            drawn.append(page.evaluate("window.painted"))
            page.close()
        server.stop()
        for what, found in (("first paint", drawn), ("and the first chart", charted)):
            tell(f"{what}, {name} ready", found, f"{statistics.median(found) / bare:.2f} of a bare page")


def bare_page(browser: Any, repeat: int, *options: str) -> float:
    """A slider of ipywidgets, served by Voila alone: what no dashboard can do without."""
    with tempfile.TemporaryDirectory() as folder:
        notebook = Path(folder) / "bare.ipynb"
        cell = nbformat.v4.new_code_cell("import ipywidgets\nipywidgets.IntSlider()")
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), notebook)
        command = [
            sys.executable,
            "-m",
            "voila",
            str(notebook),
            "--no-browser",
            "--port=9399",
            "--Voila.log_level=ERROR",
            *options,
        ]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        time.sleep(6)
        found = []
        for _ in range(repeat):
            time.sleep(5)
            page = browser.new_page()
            started = time.perf_counter()
            page.goto("http://127.0.0.1:9399/", wait_until="commit")
            page.wait_for_selector(".widget-slider")
            found.append(1000 * (time.perf_counter() - started))
            page.close()
        server.terminate()
        server.wait(30)
    tell(f"first paint, one slider and Voila alone, {'a page' if options else 'none'} ready", found)
    return statistics.median(found)


def walk(browser: Any, runs: Path) -> None:
    """Tabs and runs, back and forth."""
    server = Served(runs, "dashboard")
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(f"{server.url}?run=short&tab=pruning")
    page.wait_for_selector(CHART)
    order = ["trends", "compare", "runs", "maps", "pruning"]
    tell("a tab, the first time", [turn(page, tab) for tab in order])
    tell("a tab, again", [turn(page, tab) for _ in range(4) for tab in order])
    for tab in ("pruning", "trends"):
        turn(page, tab)
        page.wait_for_timeout(1500)
        taken = [switch(page, name) for _ in range(6) for name in ("long", "short")]
        for size, times in ((f"32 layers x {LONG.epochs}", taken[::2]), (f"22 layers x {SHORT.epochs}", taken[1::2])):
            tell(f"to a run of {size} epochs, {tab}", times)
    switch(page, "long")
    turn(page, "pruning")
    page.wait_for_timeout(1500)
    tell("step of the epoch, 500 epochs", [step(page, place) for place in range(20, 480, 40)])
    page.close()
    server.stop()


def turn(page: Any, tab: str) -> float:
    page.wait_for_timeout(400)
    act = f"document.querySelector('.sauron-tabs [data-value={tab}]').click()"
    return float(page.evaluate(TIMED, [act, TABS[tab]]))


def switch(page: Any, name: str) -> float:
    """Until the charts that are seen show the other run."""
    page.wait_for_timeout(600)
    act = (
        "window.before = new Map([...document.querySelectorAll('.sauron-chart')].map((c) => [c, c.dataset.version]));"
        "const select = [...document.querySelectorAll('.sauron-select')].find((s) => s.textContent.startsWith('Run'))"
        f".querySelector('select'); select.value = '{name}'; select.dispatchEvent(new Event('change'));"
    )
    ready = "[...window.before].some(([card, drawn]) => card.clientWidth && card.dataset.version !== drawn)"
    return float(page.evaluate(TIMED, [act, ready]))


def step(page: Any, place: int, epochs: int = LONG.epochs) -> float:
    is_it = f"s.offsetParent && s.max === '{epochs - 1}'"
    slider = f"[...document.querySelectorAll('input[type=range]')].find((s) => {is_it})"
    act = f"const s = {slider}; s.value = {place}; s.dispatchEvent(new Event('input', {{ bubbles: true }}));"
    page.wait_for_timeout(150)
    return float(
        page.evaluate(TIMED, [act, f"document.querySelector('.sauron-network').dataset.epoch === '{place + 1}'"])
    )


def overview(browser: Any, runs: Path) -> None:
    server = Served(runs, "dashboard")
    found = []
    for _ in range(3):
        time.sleep(12)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(f"{server.url}?run=study_00/run_000&tab=pruning")
        page.wait_for_selector(CHART)
        page.wait_for_timeout(1000)
        found.append(turn(page, "runs"))
        page.close()
    tell(f"a list of {RUNS} runs, the first time", found)
    server.stop()


def live(browser: Any, folder: Path) -> None:
    """Share of a core that a page takes, while nothing happens and while an epoch comes every five seconds."""
    run = SampleRun(folder / "live", Spec(levels=5, init=8, side=64, epochs=400, maps=False)).run(until=200)
    server = Served(folder, "dashboard")
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(f"{server.url}?tab=pruning")
    page.wait_for_selector(CHART)
    page.wait_for_timeout(15_000)
    still = spent(server, lambda: page.wait_for_timeout(30_000))

    def grow() -> None:
        for _ in range(6):
            started = time.perf_counter()
            run.step()
            page.wait_for_timeout(max(0, 5000 - 1000 * (time.perf_counter() - started)))

    growing = spent(server, grow)
    for name, one, other in zip(("server and kernels", "browser"), still, growing, strict=True):
        print(f"{name}: {one:.1f} % of a core while nothing happens, {other:.1f} % with an epoch every 5 s")
    page.close()
    server.stop()


def spent(server: Served, wait: Callable[[], None]) -> tuple[float, float]:
    """Processor time in percent of a core: of the server with its kernels, and of the browser."""
    served = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
    browsing = [p for p in psutil.process_iter(["name"]) if "chrom" in (p.info["name"] or "")]
    started, before = time.perf_counter(), [seconds(served), seconds(browsing)]
    wait()
    took = time.perf_counter() - started
    server_share, browser_share = (
        100 * (seconds(p) - b) / took for p, b in zip((served, browsing), before, strict=True)
    )
    return server_share, browser_share


def seconds(processes: list[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def tell(what: str, times: list[float], more: str = "") -> None:
    spread = f"({min(times):.0f} to {max(times):.0f}, {len(times)} times)"
    print(f"{what}: {statistics.median(times):.0f} ms {spread}{f', {more}' if more else ''}", flush=True)


if __name__ == "__main__":
    main()
