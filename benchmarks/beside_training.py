"""Does a training go slower while its run is looked at? One run on one thread, in turn alone and with visitors.

python benchmarks/beside_training.py --visitors 5

The visitors open the dashboard of the very run that is being written, look at one layer after the other and leave, over
and over, without a browser (tests/viz/visiting.py): browsers compute on other machines. Epochs that lie wholly in one
spell count for it. Nothing is cut, so that all epochs cost the same. Not part of the tests.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "viz"))

from browsing import Served, wait_until
from visiting import VisitError, visit

from sauron_train.errors import SauronError
from sauron_train.runlog import Run

SETTINGS = ("epochs=2000", "prune.enabled=false", "data.workers=0", "maps.every=5")
SETTLED_S = 5
STAYS_S, STEPS = 5.0, 3


@dataclass
class Seen:
    """Seconds of the epochs alone and with visitors, and how many visits were made or failed."""

    alone: list[float] = field(default_factory=list)
    visited: list[float] = field(default_factory=list)
    visits: Counter[str] = field(default_factory=Counter)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=5, help="how many there are at once")
    parser.add_argument("--spells", type=int, default=4, help="how often they come")
    parser.add_argument("--seconds", type=float, default=40, help="length of a spell, and of the time between")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seen = watch(Path(folder), arguments)
    alone, visited = statistics.median(seen.alone), statistics.median(seen.visited)
    counts = f"{len(seen.alone)} and {len(seen.visited)} epochs, {dict(seen.visits)} visits"
    print(f"an epoch alone {alone:.3f} s, with visitors {visited:.3f} s: {visited / alone:.3f} ({counts})")


def watch(folder: Path, arguments: argparse.Namespace) -> Seen:
    """Train, let visitors come and go, and read how long the epochs took."""
    seen, data, run = Seen(), folder / "phantom", folder / "runs" / "written"
    sauron = [sys.executable, "-m", "sauron_train"]
    subprocess.run([*sauron, "phantom", str(data)], check=True, stdout=subprocess.DEVNULL)
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    words = ["run", "--recipe", "phantom2d", "--data", str(data), "--out", str(run), *settings]
    environment = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    program = ["env", *(f"{key}={value}" for key, value in environment.items()), *sauron, *words]
    training = subprocess.Popen(program, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: last_epoch(run) > 1, seconds=120)
        server = Served(run.parent)
        try:
            time.sleep(SETTLED_S)
            for _ in range(arguments.spells):
                seen.alone += spell(run, arguments.seconds)
                seen.visited += with_visitors(run, server, arguments, seen)
        finally:
            server.stop()
    finally:
        training.send_signal(signal.SIGTERM)
        training.wait()
    return seen


def last_epoch(run: Path) -> int:
    with suppress(SauronError):
        return Run(run).last_epoch
    return 0


def spell(run: Path, seconds: float) -> list[float]:
    """The seconds of the epochs that began and ended while so much time passed."""
    # The epoch that goes on began before, and so did the one whose row is just being written.
    first = last_epoch(run) + 2
    time.sleep(seconds)
    epochs = Run(run).epochs()
    return [float(each) for each in epochs.loc[epochs["epoch"] >= first, "seconds"]]


def with_visitors(run: Path, server: Served, arguments: argparse.Namespace, seen: Seen) -> list[float]:
    """The same with visitors, who all have left when it returns."""
    over = threading.Event()
    visitors = [threading.Thread(target=visits, args=(server, over, seen.visits)) for _ in range(arguments.visitors)]
    for visitor in visitors:
        visitor.start()
    found = spell(run, arguments.seconds)
    over.set()
    for visitor in visitors:
        visitor.join()
    time.sleep(SETTLED_S)
    return found


def visits(server: Served, over: threading.Event, count: Counter[str]) -> None:
    """One visitor, who comes again and again until it is over, and steps through layers meanwhile."""
    while not over.is_set():
        try:
            with visit(server.url, "run=written&tab=maps") as page:
                for _ in range(STEPS):
                    page.stay(STAYS_S)
                    page.choose("Layer", 1)
            count["done"] += 1
        except (OSError, VisitError) as error:
            count[f"failed: {error}"] += 1


if __name__ == "__main__":
    main()
