"""Many visitors who open a dashboard, step through epochs and layers, and leave, over and over: does anything go wrong?

python benchmarks/visitors.py --visitors 50 --minutes 10

The visitors speak to the server as pages do, without a browser (tests/viz/visiting.py): browsers compute on other
machines. Between two steps they look for some seconds. Meanwhile other runs of the served folder are being written. At
the end come how long steps took, what went wrong or was complained of, how many kernels are left, and what the server
takes of memory, at the start, at its most and after all have left. Not part of the tests; exit code 1 if something went
wrong.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "viz"))

import psutil
from browsing import Served, wait_until
from sample import Spec, write_run
from serving import megabytes
from visiting import Page, VisitError, visit

EPOCHS, STEPS = 12, 6
LOOKS_S = (2.0, 6.0)
COMES_AGAIN_S = (0.0, 10.0)
WRITTEN_EVERY_S = 30
# Every tenth visitor is gone without a word, as by a lost connection. The server keeps such kernels for ten minutes, in
# case that their page comes back; here for one.
VANISH_EVERY = 10
IMPATIENT = "import sauron_viz.serve as s; s.IDLE_S = 60"
FOUND_GONE_S = 300


@dataclass
class Seen:
    """What happened: visits that were finished, seconds of each kind of step, what went wrong, and sizes in MB."""

    visits: int = 0
    times: dict[str, list[float]] = field(default_factory=dict)
    wrong: Counter[str] = field(default_factory=Counter)
    server: list[float] = field(default_factory=list)
    kernels: list[int] = field(default_factory=list)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Note how long the block takes."""
        started = time.perf_counter()
        yield
        self.times.setdefault(what, []).append(time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=50, help="how many there are at once")
    parser.add_argument("--minutes", type=float, default=10, help="how long they come and go")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        write_run(runs / "rats", Spec(side=64, epochs=EPOCHS, every=1))
        with being_written(runs):
            went_wrong = crowd(runs, arguments.visitors, 60 * arguments.minutes)
    sys.exit(1 if went_wrong else 0)


@contextmanager
def being_written(runs: Path) -> Iterator[None]:
    """Runs beside, one after the other."""
    ended = threading.Event()

    def write() -> None:
        for place in itertools.count():
            write_run(runs / f"written_{place}", Spec(epochs=8))
            if ended.wait(WRITTEN_EVERY_S):
                return

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def crowd(runs: Path, count: int, seconds: float) -> bool:
    """Let them come and go; tells what was seen, and whether something went wrong."""
    seen, server = Seen(), Served(runs, first=IMPATIENT)
    own = psutil.Process(server.process.pid)
    try:
        wait_until(lambda: len(server.kernels()) == 1)
        time.sleep(5)
        before = megabytes(own)
        come_and_go(server, own, count, seconds, seen)
        print(f"{seen.visits} visits of {count} visitors in {seconds / 60:.1f} min", flush=True)
        with suppress(AssertionError):
            wait_until(lambda: len(server.kernels()) <= 1, seconds=FOUND_GONE_S)
        time.sleep(10)
        left, after = len(server.kernels()), megabytes(own)
    finally:
        said = server.stop()
    tell(seen, before, after, left, said)
    return bool(seen.wrong) or left != 1 or "Traceback" in said


def come_and_go(server: Served, own: psutil.Process, count: int, seconds: float, seen: Seen) -> None:
    """All visitors at once, each in a thread, until the time is over and all have left."""
    end, tally = time.monotonic() + seconds, itertools.count(1)
    threads = [threading.Thread(target=visitor, args=(server, end, place, tally, seen)) for place in range(count)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen.server.append(megabytes(own))
        seen.kernels.append(len(server.kernels()))
        time.sleep(5)


def visitor(server: Served, end: float, place: int, tally: Iterator[int], seen: Seen) -> None:
    """Comes, looks around, leaves, and comes again."""
    mood = random.Random(place)
    while time.monotonic() < end:
        try:
            look_around(server, mood, next(tally) % VANISH_EVERY != 0, seen)
            seen.visits += 1
        except (OSError, VisitError) as error:
            seen.wrong[f"{type(error).__name__}: {error}"] += 1
        time.sleep(mood.uniform(*COMES_AGAIN_S))


def look_around(server: Served, mood: random.Random, goodbye: bool, seen: Seen) -> None:
    """One visit."""
    with ExitStack() as stack:
        with seen.timed("open the page and get its widgets"):
            page = stack.enter_context(visit(server.url, "run=rats&tab=maps", goodbye))
        for _ in range(STEPS):
            step(page, mood, seen)


def step(page: Page, mood: random.Random, seen: Seen) -> None:
    """Another epoch or, one time in three, another layer; then look at it."""
    page.stay(mood.uniform(*LOOKS_S))
    if mood.random() < 1 / 3:
        with seen.timed("other layer"):
            page.choose("Layer", mood.choice([-1, 1]))
            page.look(EPOCHS)
    else:
        with seen.timed("other epoch"):
            page.look(mood.randint(1, EPOCHS))


def tell(seen: Seen, before: float, after: float, left: int, said: str) -> None:
    """Print what was seen."""
    for what, times in seen.times.items():
        late = statistics.quantiles(times, n=20)[-1] if len(times) > 1 else times[0]
        print(f"{what}: median {statistics.median(times):.2f} s, 95 % below {late:.2f} s, {len(times)} times")
    print(f"kernels: at most {max(seen.kernels)}, {left} when all had left (one page is kept ready)")
    print(f"server: {before:.0f} MB at the start, at most {max(seen.server):.0f}, {after:.0f} when all had left")
    for problem, times in seen.wrong.most_common():
        print(f"{times} x {problem}")
    print(said[-2000:] if "Traceback" in said or "rror" in said else "the server complained of nothing")


if __name__ == "__main__":
    main()
