"""Many visitors who open a dashboard, step through epochs and layers, and leave, over and over: does anything go wrong?

python benchmarks/visitors.py /usr/bin/chromium --visitors 50 --minutes 10

Every visitor is a page in one browser. Each in turn takes its next step: opens the dashboard, scrubs through epochs,
chooses other layers, closes the page, comes again. Meanwhile other runs of the served folder are being written. At the
end come what the pages and the server complained of, how many kernels are left, and what the server takes of memory, at
the start, at its most and after all have left. The browser runs on the same processors, which is most of the load. Not
part of the tests; exit code 1 if something went wrong.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "viz"))
sys.path.insert(0, str(Path(__file__).parent))

import psutil
from browsing import Served, wait_until
from explorer_in_browser import DRAWN, EPOCH_STEP, FLAGS
from playwright.sync_api import Error, sync_playwright
from sample import Spec, write_run
from serving import LAYER_STEP, STARTED, megabytes

VIEWPORT = {"width": 1440, "height": 900}
STEPS = (
    ("other epoch", EPOCH_STEP, -1),
    ("other epoch", EPOCH_STEP, -1),
    ("other layer", LAYER_STEP, -1),
    ("other epoch", EPOCH_STEP, 1),
    ("other layer", LAYER_STEP, 1),
)
# A page that shows nothing for so long would have been given up by its visitor.
PATIENCE_MS = 120_000
PAUSE_S = 30
# Every tenth visitor is gone without a word, as by a lost connection. The server keeps such kernels for ten minutes, in
# case that their page comes back; here for one.
VANISH_EVERY = 10
IMPATIENT = "import sauron_viz.serve as s; s.IDLE_S = 60"
FOUND_GONE_S = 300


@dataclass
class Seen:
    """What happened: visits that were finished, seconds of each kind of step, complaints, and sizes in MB."""

    visits: int = 0
    times: dict[str, list[float]] = field(default_factory=dict)
    complaints: Counter[str] = field(default_factory=Counter)
    server: list[float] = field(default_factory=list)
    kernels: list[int] = field(default_factory=list)

    def took(self, what: str, since: float) -> None:
        """Note how long a step took that began then."""
        self.times.setdefault(what, []).append(time.perf_counter() - since)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("browser", help="path of Chromium")
    parser.add_argument("--visitors", type=int, default=50, help="pages that are open at once")
    parser.add_argument("--minutes", type=float, default=10, help="how long they come and go")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        write_run(runs / "rats", Spec(side=64, epochs=12, every=1))
        with being_written(runs):
            went_wrong = crowd(runs, arguments.browser, arguments.visitors, 60 * arguments.minutes)
    sys.exit(1 if went_wrong else 0)


@contextmanager
def being_written(runs: Path) -> Iterator[None]:
    """A second run beside, which gets its epochs meanwhile; when it is finished the next one begins."""
    ended = threading.Event()

    def write() -> None:
        for place in itertools.count():
            write_run(runs / f"written_{place}", Spec(epochs=8))
            if ended.wait(PAUSE_S):
                return

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def crowd(runs: Path, browser: str, count: int, seconds: float) -> bool:
    """Let them come and go; tells what was seen, and whether something went wrong."""
    seen = Seen()
    server = Served(runs, first=IMPATIENT)
    try:
        with sync_playwright() as playwright:
            opened = playwright.chromium.launch(executable_path=browser, args=FLAGS)
            wait_until(lambda: len(server.kernels()) == 1)
            time.sleep(5)
            before = megabytes(psutil.Process(server.process.pid))
            come_and_go(server, opened, count, seconds, seen)
            opened.close()
        print(f"{seen.visits} visits of {count} visitors in {seconds / 60:.1f} min")
        with suppress(AssertionError):
            wait_until(lambda: len(server.kernels()) <= 1, seconds=FOUND_GONE_S)
        time.sleep(10)
        left, after = len(server.kernels()), megabytes(psutil.Process(server.process.pid))
    finally:
        said = server.stop()
    tell(seen, before, after, left, said)
    return bool(seen.complaints) or left != 1 or "Traceback" in said


def come_and_go(server: Served, browser: Any, count: int, seconds: float, seen: Seen) -> None:
    """Each visitor in turn takes its next step, until the time is over; then all leave."""
    tally = itertools.count(1)
    visitors = [visits(server, browser, seen, tally) for _ in range(count)]
    own, end = psutil.Process(server.process.pid), time.monotonic() + seconds
    while time.monotonic() < end:
        for visitor in visitors:
            next(visitor)
            if time.monotonic() > end:
                break
        seen.server.append(megabytes(own))
        seen.kernels.append(len(server.kernels()))
    for visitor in visitors:
        visitor.close()


def visits(server: Served, browser: Any, seen: Seen, tally: Iterator[int]) -> Iterator[None]:
    """One visitor: comes, looks around, leaves, and comes again; others go on between two steps."""
    while True:
        page = browser.new_page(viewport=VIEWPORT)
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: seen.complaints.update([f"page: {error}"]))
        page.on("console", lambda message: _console(message, seen))
        try:
            started = time.perf_counter()
            page.goto(f"{server.url}?run=rats&tab=maps", wait_until="commit")
            yield
            page.wait_for_selector(DRAWN)
            seen.took("from address to maps, others between", started)
            for what, script, step in STEPS:
                yield
                started = time.perf_counter()
                page.evaluate(STARTED.format(script), step)
                page.wait_for_function("window.stepped !== null")
                seen.took(what, started)
            seen.visits += 1
        except Error as error:
            seen.complaints.update([f"browser: {str(error).splitlines()[0]}"])
        finally:
            _leave(page, vanishes=next(tally) % VANISH_EVERY == 0)
        yield


def _leave(page: Any, vanishes: bool) -> None:
    # A tab that is closed sends word of it, as one that goes elsewhere does; Playwright's own closing does not.
    if not vanishes:
        page.goto("about:blank")
    page.close()


def _console(message: Any, seen: Seen) -> None:
    if message.type == "error":
        seen.complaints.update([f"console: {message.text[:200]}"])


def tell(seen: Seen, before: float, after: float, left: int, said: str) -> None:
    """Print what was seen."""
    for what, times in seen.times.items():
        slowest = f"slowest {max(times):.1f} s"
        print(f"{what}: median {statistics.median(times):.2f} s, {slowest}, {len(times)} times")
    print(f"kernels: at most {max(seen.kernels)}, {left} when all had left (one page is kept ready)")
    print(f"server: {before:.0f} MB at the start, at most {max(seen.server):.0f}, {after:.0f} when all had left")
    for complaint, times in seen.complaints.most_common():
        print(f"{times} x {complaint}")
    print(said[-2000:] if "Traceback" in said or "rror" in said else "the server complained of nothing")


if __name__ == "__main__":
    main()
