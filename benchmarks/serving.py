"""How soon the server answers, what it and every visitor take of memory, and whether many visitors can still work.

python benchmarks/serving.py /usr/bin/chromium --sessions 20

Starts beside a bare `voila` of the same notebook; then opens many pages of a synthetic run (maps of 64 x 64, 12 epochs)
in one browser. In each, while the others stay open, it steps through epochs, whose maps the browser has by then, and
chooses other layers, whose maps the kernel reads and sends: one page after the other, and four at a time. The browser
runs on the same processors. Not part of the tests. Absolute times are those of this machine.
"""

from __future__ import annotations

import argparse
import http.client
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "viz"))
sys.path.insert(0, str(Path(__file__).parent))

import psutil
from browsing import Served, free_port
from explorer_in_browser import DRAWN, EPOCH_STEP, FLAGS, tell
from playwright.sync_api import sync_playwright
from sample import Spec, write_run

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "dashboard.ipynb"
LAYER_STEP = """async (step) => {
  const grid = document.querySelector('.sauron-grid');
  const select = [...document.querySelectorAll('select')].find((x) => x.labels[0]?.textContent.trim() === 'Layer');
  return await new Promise((done) => {
    const before = grid.dataset.ready, started = performance.now();
    const painted = () => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - started)));
    const seen = new MutationObserver(() => { if (grid.dataset.ready !== before) { seen.disconnect(); painted(); } });
    seen.observe(grid, { attributes: true });
    select.selectedIndex += step;
    select.dispatchEvent(new Event('change', { bubbles: true }));
  });
}"""
# The answer is fetched later, so that several pages can step at once.
STARTED = "(step) => {{ window.stepped = null; ({0})(step).then((ms) => (window.stepped = ms)); }}"
TOGETHER = 4
USABLE_MS = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("browser", help="path of Chromium")
    parser.add_argument("--repeat", type=int, default=5, help="starts that are timed")
    parser.add_argument("--sessions", type=int, default=20, help="pages that are open at once")
    parser.add_argument("--only", choices=("start", "sessions"), help="leave the other out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JUPYTER_RUNTIME_DIR"] = str(Path(folder) / "jupyter")
        runs = Path(folder) / "runs"
        write_run(runs / "rats", Spec(side=64, epochs=12, every=1))
        if arguments.only != "sessions":
            measure_start(runs, arguments.repeat)
        if arguments.only != "start":
            measure_sessions(runs, arguments.browser, arguments.sessions)


def measure_start(runs: Path, repeat: int) -> None:
    ours = [sys.executable, "-c", "from sauron_viz.cli import main; main()", "serve", str(runs), "--no-browser"]
    bare = [sys.executable, "-m", "voila", str(NOTEBOOK), "--no-browser"]
    times: dict[str, list[float]] = {"bare voila": [], "sauron-viz serve": [], "sauron-viz serve --no-preload": []}
    for _ in range(repeat):
        for name, command in zip(times, (bare, ours, [*ours, "--no-preload"]), strict=True):
            times[name].append(start_ms(command))
    for name, found in times.items():
        tell(f"{name}, until it answers", found)
    ratio = statistics.median(times["sauron-viz serve"]) / statistics.median(times["bare voila"])
    print(f"ratio to bare voila: {ratio:.2f}")


def start_ms(command: list[str]) -> float:
    """From the command to the first answer."""
    port = free_port()
    started = time.perf_counter()
    process = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                line = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                line.request("GET", "/voila/static/voila.js")
                assert line.getresponse().status == 200
                return 1000 * (time.perf_counter() - started)
            except OSError:
                assert process.poll() is None, "the server ended"
                time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def measure_sessions(runs: Path, browser: str, count: int) -> None:
    server = Served(runs)
    try:
        with sync_playwright() as playwright:
            opened = playwright.chromium.launch(executable_path=browser, args=FLAGS)
            wait_for_kernels(server, 1)
            time.sleep(5)
            own = psutil.Process(server.process.pid)
            print(f"server: {megabytes(own):.0f} MB; page kept ready: {megabytes(server.kernels()[0]):.0f} MB")
            pages = open_pages(server, opened, count)
            time.sleep(10)
            sizes = sorted(megabytes(kernel) for kernel in server.kernels())
            print(f"{len(sizes)} kernels: median {statistics.median(sizes):.0f} MB, largest {sizes[-1]:.0f} MB")
            print(f"server with {count} pages: {megabytes(own):.0f} MB")
            print(f"processor while nobody does anything, per page: {100 * idle_share(server) / count:.1f} % of one")
            for what, step in (("epoch step", EPOCH_STEP), ("other layer", LAYER_STEP)):
                tell_steps(f"{what}, page after page", steps_in_turn(pages, step))
                tell_steps(f"{what}, {TOGETHER} pages at once", steps_together(pages, step))
            opened.close()
    finally:
        server.stop()


def idle_share(server: Served, seconds: float = 10) -> float:
    """How much of one processor the server and all its kernels take when pages are only open."""
    processes = [psutil.Process(server.process.pid), *server.kernels()]
    before = sum(sum(process.cpu_times()[:2]) for process in processes)
    time.sleep(seconds)
    return (sum(sum(process.cpu_times()[:2]) for process in processes) - before) / seconds


def open_pages(server: Served, browser: Any, count: int) -> list[Any]:
    """Pages opened one after the other, as soon as the one before is drawn."""
    pages, times = [], []
    for _ in range(count):
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(120_000)
        started = time.perf_counter()
        page.goto(f"{server.url}?run=rats")
        page.wait_for_selector(DRAWN)
        times.append(1000 * (time.perf_counter() - started))
        pages.append(page)
    tell(f"first paint of {count} pages, one after the other", times)
    return pages


def steps_in_turn(pages: list[Any], script: str) -> list[float]:
    return [page.evaluate(script, step) for step in (-1, -1, 1, 1) for page in pages]


def steps_together(pages: list[Any], script: str) -> list[float]:
    times = []
    for step in (-1, 1):
        for place in range(0, len(pages) - TOGETHER + 1, TOGETHER):
            group = pages[place : place + TOGETHER]
            for page in group:
                page.evaluate(STARTED.format(script), step)
            for page in group:
                page.wait_for_function("window.stepped !== null")
                times.append(page.evaluate("window.stepped"))
    return times


def tell_steps(what: str, times: list[float]) -> None:
    tell(what, times)
    print(f"  of which over {USABLE_MS} ms: {sum(ms > USABLE_MS for ms in times)}")


def wait_for_kernels(server: Served, count: int) -> None:
    while len(server.kernels()) < count:
        time.sleep(0.1)


def megabytes(process: psutil.Process) -> float:
    """What would be free if it ended: its own memory, without what it shares with others."""
    return process.memory_full_info().uss / 2**20


if __name__ == "__main__":
    main()
