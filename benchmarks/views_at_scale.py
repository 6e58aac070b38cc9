"""Whether the views wait for what is large or far away, in a real browser: long runs, many maps or runs, slow folders.

python benchmarks/views_at_scale.py /usr/bin/chromium

- long: a run of 62 layers and 1,000 epochs beside a short one
- maps: a run with 20 GB of feature maps, and how much of them is read
- runs: a list of 1,000 runs beside one of 10
- slow: a folder whose every answer comes 0, 5 or 20 ms late, as from a network

Medians in milliseconds. Not part of the tests. The parts `maps` and `slow` need what slow_folder.py says.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dashboard_in_browser import CHART, FLAGS, copies, step, switch, tell, turn
from playwright.sync_api import sync_playwright
from slow_folder import Reads, mounted

from sauron_train.runlog import Run

from browsing import Served  # isort: skip - dashboard_in_browser says where it is
from sample import Spec, write_run  # isort: skip

LONG = Spec(levels=13, init=4, max_filters=16, epochs=1000, maps=False, images=1)
SHORT = Spec(levels=5, init=8, side=64, epochs=24, every=4)
# One epoch of it is stored, and stands for all of them.
LARGE = Spec(levels=4, init=32, side=256, epochs=4, every=100, images=2, widest=480, pruning=False)
LARGE_BYTES, MANY, LATENCIES = 20e9, 1000, (0.0, 0.005, 0.02)
READY_S = 12
TABS = ("trends", "compare", "runs", "maps", "pruning")
GRID = ".sauron-grid[data-ready*='|']"
PARTS = ("long", "maps", "runs", "slow")
WIDE = {"width": 1440, "height": 900}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("browser", help="path of Chromium")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to time (all)")
    arguments = parser.parse_args()
    parts: dict[str, Callable[[Any, Path], None]] = {"long": long_run, "maps": maps, "runs": runs, "slow": slow}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=arguments.browser, args=FLAGS)
        for part in arguments.only:
            with tempfile.TemporaryDirectory() as place:
                parts[part](browser, Path(place))
        browser.close()


@contextmanager
def opened(browser: Any, folder: Path, address: str, shows: str) -> Iterator[tuple[Any, float]]:
    """A page of a server of its own that has a page ready, and milliseconds until it shows something."""
    server = Served(folder, "dashboard")
    try:
        time.sleep(READY_S)
        page = browser.new_page(viewport=WIDE)
        page.set_default_timeout(120_000)
        started = time.perf_counter()
        page.goto(f"{server.url}?{address}", wait_until="commit")
        page.wait_for_selector(shows)
        yield page, 1000 * (time.perf_counter() - started)
        page.close()
    finally:
        server.stop()


def long_run(browser: Any, place: Path) -> None:
    """The same views of a run that is long and deep, and of one that is not."""
    write_run(place / "long", LONG)
    write_run(place / "short", SHORT)
    for name, epochs in (("short", SHORT.epochs), ("long", LONG.epochs)):
        with opened(browser, place, f"run={name}&tab=pruning", CHART) as (page, first):
            tell(f"{name}: the first chart", [first])
            # The long run has stored no maps, and both are to show the same.
            others = [tab for tab in TABS if tab != "maps"]
            tell(f"{name}: a tab, the first time", [turn(page, tab) for tab in others])
            tell(f"{name}: a tab, again", [turn(page, tab) for _ in range(3) for tab in others])
            stride = max(1, epochs // 16)
            tell(f"{name}: a step of the epoch", [step(page, at, epochs) for at in range(2, epochs - 2, stride)])
            for tab in ("pruning", "trends"):
                turn(page, tab)
                page.wait_for_timeout(1500)
                switch(page, "long" if name == "short" else "short")
                tell(f"{name}: to it from the other run, {tab}", [switch(page, name)])


def maps(browser: Any, place: Path) -> None:
    """What is read of a run with more maps than the machine has memory for others."""
    source = place / "runs"
    run = write_run(source / "large", LARGE)
    whole = many_maps(source / "large")
    count = len(list((source / "large" / "maps").iterdir()))
    print(f"{whole / 1e9:.1f} GB of maps: {count} epochs, {len(Run(run).info.layers)} layers")
    with (
        mounted(source, place / "counted", 0.0) as reads,
        opened(browser, place / "counted", "run=large&tab=maps", GRID) as (page, first),
    ):
        tell("the first maps", [first])
        page.wait_for_timeout(8000)
        told("opened", reads, whole)
        slider = page.get_by_role("slider", name="Epoch")
        for _ in range(5):
            slider.press("ArrowLeft")
            page.wait_for_timeout(1000)
        told("five epochs more", reads, whole)
        for tab in ("pruning", "trends", "runs"):
            turn(page, tab)
        page.wait_for_timeout(3000)
        told("the other tabs", reads, whole)


def many_maps(run: Path) -> int:
    """Give a run as many epochs of maps as make 20 GB, all links to those it has; returns their bytes."""
    folder = run / "maps"
    first = sorted(folder.iterdir())[0]
    files = sorted(first.rglob("*.safetensors"))
    size = sum(path.stat().st_size for path in files)
    count = round(LARGE_BYTES / size)
    log = {name: (run / name).read_text().splitlines() for name in ("epochs.csv", "layers.csv")}
    for epoch in range(1, count + 1):
        target = folder / first.name.replace(f"{1:04d}", f"{epoch:04d}")
        target.mkdir(exist_ok=True)
        for path in files:
            with_link(path, target / path.name)
        if epoch > LARGE.epochs:
            for lines in log.values():
                lines += [f"{epoch}," + line.partition(",")[2] for line in lines if line.startswith("1,")]
    for name, lines in log.items():
        (run / name).write_text("\n".join(lines) + "\n")
    return count * size


def with_link(path: Path, target: Path) -> None:
    if not target.exists():
        os.link(path, target)


def told(what: str, reads: Reads, whole: int) -> None:
    requests, read = reads.since()
    print(f"{what}: {requests} requests, {read / 1e6:.1f} MB read, {read / whole:.3%} of the maps", flush=True)


def runs(browser: Any, place: Path) -> None:
    """The list of many runs."""
    write_run(place / "first", SHORT)
    for count in (10, MANY):
        folder = place / f"list_{count}"
        copies(place / "first", folder, count)
        with opened(browser, folder, "run=study_00/run_000&tab=pruning", CHART) as (page, first):
            tell(f"{count} runs: the first chart", [first])
            page.wait_for_timeout(2000)
            tell(f"{count} runs: the list, the first time", [turn(page, "runs")])
            turn(page, "pruning")
            tell(f"{count} runs: the list, again", [turn(page, "runs")])


def slow(browser: Any, place: Path) -> None:
    """The same views of the same runs, while every answer of the folder comes late."""
    source = place / "runs"
    write_run(source / "short", SHORT)
    write_run(source / "long", Spec(levels=5, init=8, side=64, epochs=200, maps=False, images=1))
    for latency in LATENCIES:
        name, at = f"{1000 * latency:.0f} ms late", place / f"late_{1000 * latency:.0f}"
        with (
            mounted(source, at, latency) as reads,
            opened(browser, at, "run=short&tab=maps", GRID) as (page, first),
        ):
            tell(f"{name}: the first maps", [first], f"{reads.since()[0]} requests since the start of the server")
            page.wait_for_timeout(5000)
            reads.since()
            page.wait_for_timeout(20_000)
            print(f"{name}: {reads.since()[0] / 20:.1f} requests a second while nothing happens")
            for tab in ("pruning", "trends", "compare", "runs", "maps"):
                taken = turn(page, tab)
                tell(f"{name}: {tab}, the first time", [taken], f"{reads.since()[0]} requests")
            turn(page, "pruning")
            tell(f"{name}: a step of the epoch", [step(page, epoch, SHORT.epochs) for epoch in range(2, 20, 3)])
            tell(f"{name}: to another run and back", [switch(page, run) for run in ("long", "short") * 3])


if __name__ == "__main__":
    main()
