"""Looking takes no more memory than it may, and steps back for other work; a training that it starts is not bound."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from browsing import Served

from sauron_viz.limits import MEMORY, default_gb, limit_memory
from sauron_viz.widgets.base import Notice

LIMIT = 700_000_000
PROGRAM = """
import sys, time
from pathlib import Path
import numpy as np
from sauron_viz.limits import limit_memory
from sauron_viz.training.processes import launch

limit_memory()
small = np.ones(100_000_000, np.uint8)
try:
    np.ones(900_000_000, np.uint8)
    print("too much was given")
except MemoryError:
    print("refused")
here = Path(sys.argv[1])
child = "import resource, time; time.sleep(1); print(len(set(resource.getrlimit(resource.RLIMIT_DATA))))"
launch([sys.executable, "-c", child], here / "out", here / "err")
while not (here / "out").read_text():
    time.sleep(0.1)
print("limits of the training:", (here / "out").read_text().strip())
"""

# Pieces that are freed between others that stay, as those of pages that were closed while others were open.
FREEING = """
import psutil
from sauron_viz.limits import give_back_memory

pieces = [bytes(20_000) for _ in range(10_000)]
pieces[:] = pieces[::20]
before = psutil.Process().memory_info().rss
give_back_memory()
print(before - psutil.Process().memory_info().rss)
"""


def test_a_server_lets_a_training_go_before(dashboard: Served) -> None:
    for process in (psutil.Process(dashboard.process.pid), *dashboard.kernels()):
        assert process.nice() == max(10, os.nice(0))


def test_one_that_starts_trainings_does_not(serve: Callable[..., Served], runs: Path, tmp_path: Path) -> None:
    served = serve(runs, "dashboard", "--allow-training", str(tmp_path), "--no-preload")
    assert psutil.Process(served.process.pid).nice() == os.nice(0), "they would step back with it"


def test_to_step_back_twice_is_to_step_back_once() -> None:
    twice = "import os; from sauron_viz.limits import step_back; step_back(); step_back(); print(os.nice(0))"
    shown = subprocess.run([sys.executable, "-c", twice], capture_output=True, text=True, check=True)
    assert int(shown.stdout) == max(10, os.nice(0))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries give it back, or cannot be asked to")
def test_memory_that_was_freed_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", FREEING], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 100_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts what a process writes to")
def test_a_page_is_refused_what_it_may_not_have_and_its_training_is_not(tmp_path: Path) -> None:
    surroundings = os.environ | {MEMORY: str(LIMIT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    words = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(words, env=surroundings, check=False, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["refused", "limits of the training: 1"], done.stderr


@pytest.mark.parametrize("value", ["", "none"])
def test_without_a_number_nothing_is_limited(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setenv(MEMORY, value)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit_memory()
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_a_view_says_what_can_be_done() -> None:
    def greedy() -> None:
        raise MemoryError

    notice = Notice()
    notice.guard(greedy)()
    assert "takes more memory than a page may have here" in notice.value


def test_half_of_the_machine_is_the_default() -> None:
    assert 0.5 <= default_gb() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
