"""What a training asks of the machine that it runs on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Frees 64 MB and says how many MB of them the process still has.
FREED = """
import torch
from sauron_train.machine import keep_freed_memory
keep_freed_memory()
megabytes = lambda: int(open("/proc/self/statm").read().split()[1]) * {page} / 2**20
torch.ones(2**10)
before = megabytes()
tensor = torch.ones(2**24)
del tensor
print(round(megabytes() - before))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc's memory is spoken to")
@pytest.mark.parametrize(("environment", "kept"), [({}, True), ({"MALLOC_ARENA_MAX": "4"}, False)])
def test_memory_that_tensors_free_is_kept_unless_the_user_says_otherwise(
    environment: dict[str, str], kept: bool
) -> None:
    code = FREED.format(page=os.sysconf("SC_PAGE_SIZE"))
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=plain | environment, capture_output=True, text=True, check=True
    )
    assert (int(done.stdout) > 50) == kept
