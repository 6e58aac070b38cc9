"""Kernels that are forked from one process: they are what they were asked to be, and end when they should."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from browsing import Served, wait_until
from jupyter_client.manager import AsyncKernelManager

from sauron_viz import prefork
from sauron_viz.prefork import Fork, Nursery, Provisioner
from sauron_viz.training.processes import launch

pytestmark = pytest.mark.skipif(not prefork.available(), reason="kernels are forked on Linux only")


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    for child in psutil.Process().children():
        # Those that tests have killed are there until somebody asks how they ended.
        with suppress(psutil.Error):
            if "sauron_viz.prefork" in child.cmdline():
                child.kill()
                child.wait()


async def ask(client: Any, code: str) -> str:
    """Run code in a kernel; returns what it printed."""
    said: list[str] = []
    await client.execute_interactive(code, timeout=60, output_hook=lambda m: said.append(m["content"].get("text", "")))
    return "".join(said)


def test_a_forked_kernel_is_one_like_any_other(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(prefork, "NURSERY", nursery)
    asyncio.run(_talk_to_one(tmp_path))


async def _talk_to_one(folder: Path) -> None:
    manager: Any = AsyncKernelManager()
    manager.provisioner_name = prefork.NAME
    manager.kernel_spec.metadata["kernel_provisioner"] = {"provisioner_name": prefork.NAME}
    await manager.start_kernel(env=os.environ | {"QUERY_STRING": "run=rats"}, cwd=str(folder))
    assert isinstance(manager.provisioner, Provisioner)
    assert isinstance(manager.provisioner.process, Fork)
    client = manager.client()
    client.start_channels()
    await client.wait_for_ready(timeout=60)
    code = "import os, sys; print(os.environ['QUERY_STRING'], os.getcwd(), 'sauron_viz.apps' in sys.modules)"
    assert (await ask(client, code)).split() == ["run=rats", str(folder), "True"]
    assert (await ask(client, "import os; print(os.getsid(0) == os.getpid())")).strip() == "True"
    # Whoever connects later asks for all widgets at once.
    targets = await ask(client, "print(sorted(get_ipython().kernel.comm_manager.targets))")
    assert "jupyter.widget.control" in targets
    process = psutil.Process(manager.provisioner.pid)
    assert process.name() == prefork.TITLE
    client.stop_channels()
    await manager.shutdown_kernel()
    assert not await manager.is_alive()
    assert not psutil.pid_exists(process.pid)


def run(nursery: Nursery, *arguments: str) -> Fork:
    """A fork with the arguments of a kernel, if it can make anything of them."""
    return asyncio.run(nursery.fork(arguments, os.environ, None))


def test_the_end_of_a_fork_is_seen_and_signals_reach_it(nursery: Nursery, tmp_path: Path) -> None:
    fork = run(nursery, "-f", str(tmp_path / "kernel.json"))
    assert fork.poll() is None
    assert fork.wait(0.01) is None
    fork.kill()
    assert fork.wait(30) == fork.poll() == 1
    fork.send_signal(signal.SIGTERM)


def test_a_killed_nursery_is_replaced_and_its_kernels_end(nursery: Nursery, tmp_path: Path) -> None:
    before = run(nursery, "-f", str(tmp_path / "before.json"))
    wait_until((tmp_path / "before.json").exists)
    parent = psutil.Process(before.pid).parent()
    assert parent is not None
    parent.kill()
    after = run(nursery, "-f", str(tmp_path / "after.json"))
    assert after.poll() is None
    assert psutil.Process(after.pid).ppid() != parent.pid
    assert before.wait(30) == 1
    after.kill()
    assert after.wait(30) == 1


def test_what_cannot_become_a_kernel_ends(nursery: Nursery) -> None:
    assert run(nursery, "--IPKernelApp.transport=pigeon").wait(30) == 1


def test_an_order_that_fails_harms_no_other_kernel(nursery: Nursery, tmp_path: Path) -> None:
    living = run(nursery, "-f", str(tmp_path / "living.json"))
    parent = psutil.Process(living.pid).ppid()
    with pytest.raises(OSError, match="Too many open files"):
        resource.prlimit(parent, resource.RLIMIT_NOFILE, (0, 256))
        run(nursery, "-f", str(tmp_path / "none.json"))
    resource.prlimit(parent, resource.RLIMIT_NOFILE, (256, 256))
    huge = os.environ | {"QUERY_STRING": "\\" * 400_000}
    long = asyncio.run(nursery.fork(["-f", str(tmp_path / "long.json")], huge, None))
    nowhere = asyncio.run(nursery.fork(["-f", "x.json"], os.environ, str(tmp_path / "nowhere")))
    assert nowhere.wait(30) == 1
    assert (living.poll(), long.poll()) == (None, None)
    assert psutil.Process(long.pid).ppid() == parent
    for fork in (living, long):
        fork.kill()
        assert fork.wait(30) == 1


def test_where_no_kernel_can_be_forked_one_is_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def refuse(*_: object) -> Fork:
        raise OSError("too many")

    monkeypatch.setattr(prefork.NURSERY, "fork", refuse)
    asyncio.run(_start_and_end(tmp_path))


async def _start_and_end(folder: Path) -> None:
    manager: Any = AsyncKernelManager()
    manager.kernel_spec.metadata["kernel_provisioner"] = {"provisioner_name": prefork.NAME}
    await manager.start_kernel(cwd=str(folder))
    assert not isinstance(manager.provisioner.process, Fork)
    assert await manager.is_alive()
    await manager.shutdown_kernel(now=True)


def test_who_does_not_answer_is_not_waited_for_and_left_alone(tmp_path: Path) -> None:
    nursery = Nursery()
    living = run(nursery, "-f", str(tmp_path / "living.json"))
    slow = psutil.Process(living.pid).parent()
    assert slow is not None
    slow.suspend()
    nursery.be_patient(1)
    with pytest.raises(OSError, match="does not answer"):
        run(nursery, "-f", str(tmp_path / "late.json"))
    nursery.be_patient(60)
    other = run(nursery, "-f", str(tmp_path / "other.json"))
    assert psutil.Process(other.pid).ppid() != slow.pid
    assert living.poll() is None
    for process in (slow, psutil.Process(psutil.Process(other.pid).ppid())):
        process.kill()
    assert (living.wait(30), other.wait(30)) == (1, 1)


def test_a_training_is_not_the_first_to_go_where_memory_runs_short(tmp_path: Path) -> None:
    own = Path("/proc/self/oom_score_adj")
    before = own.read_text()
    try:
        own.write_text("500")
        pid = launch([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "out", tmp_path / "err")
    finally:
        own.write_text(before)
    try:
        assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "0"
    finally:
        os.kill(pid, signal.SIGKILL)


def test_kernels_of_another_python_start_as_ever(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefork, "NURSERY", nursery)
    given: list[list[str]] = []

    async def launch(_self: object, cmd: list[str], **_: Any) -> dict[str, str]:
        given.append(cmd)
        return {}

    monkeypatch.setattr(prefork.LocalProvisioner, "launch_kernel", launch)
    others = [["/usr/bin/python9", "-m", "ipykernel_launcher"], [sys.executable, "-m", "another_kernel"]]
    for command in others:
        asyncio.run(Provisioner().launch_kernel(command, env={}))
    assert given == others


def test_nothing_is_left_when_a_server_is_killed(runs: Path) -> None:
    served = Served(runs)
    wait_until(lambda: len(served.kernels()) == 1)
    below = psutil.Process(served.process.pid).children(recursive=True)
    assert len(below) == 2
    served.process.kill()
    served.process.wait()
    gone, alive = psutil.wait_procs(below, timeout=30)
    assert not alive
    assert len(gone) == 2
