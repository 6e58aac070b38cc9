"""Kernels that begin with everything imported: each is forked from one process that does nothing else. Linux only.

A kernel of its own takes two seconds of imports and a hundred megabytes. A forked one takes a moment, and shares with
the others what nobody changes.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

AVAILABLE = sys.platform == "linux" and hasattr(os, "pidfd_open")
NAME = "sauron-prefork"
_LAUNCHER = "ipykernel_launcher"
# What a list of processes shows.
TITLE = "sauron-kernel"
# What every page needs sooner or later.
_IMPORTED = ("ipykernel.kernelapp", "sauron_viz.apps", "scipy.cluster.hierarchy")
_LONGEST = 2**20


class Fork:
    """A kernel's process, as far as Jupyter asks a `Popen` for it; it is the child of another one than ours."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int, handle: int) -> None:
        self.pid, self._handle = pid, handle
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """None while it runs. How it ended its parent alone has learnt: 1 stands for whatever it was."""
        return self.wait(0)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait, at most that many seconds."""
        if self.returncode is None:
            ended = select.poll()
            ended.register(self._handle, select.POLLIN)
            if ended.poll(None if timeout is None else 1000 * timeout):
                os.close(self._handle)
                self.returncode = 1
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._handle, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The process that kernels are forked from, seen from the server. It ends with the server, and kernels with it."""

    def __init__(self) -> None:
        self._line: socket.socket | None = None
        self._one_at_a_time = threading.Lock()

    def start(self) -> None:
        """Begin to import, if that has not begun."""
        with self._one_at_a_time:
            self._opened()

    async def fork(self, arguments: Sequence[str], env: Mapping[str, str], cwd: str | None) -> Fork:
        """A new kernel; waits until everything is imported.

        Raises:
            OSError: no process could be made.
        """
        order = json.dumps({"arguments": list(arguments), "env": dict(env), "cwd": cwd}).encode()
        return await asyncio.to_thread(self._ask, order)

    def _ask(self, order: bytes) -> Fork:
        with self._one_at_a_time:
            # The second time to a new process, if that one was killed.
            for _ in range(2):
                line = self._opened()
                try:
                    line.send(order)
                    answer, handles, *_ = socket.recv_fds(line, 64, 1)
                except OSError:
                    answer, handles = b"", []
                if answer and handles:
                    return Fork(int(answer), handles[0])
                self._line = None
                line.close()
        raise OSError("no kernel could be forked")

    def _opened(self) -> socket.socket:
        if self._line is None:
            self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            command = [sys.executable, "-P", "-m", __name__, str(theirs.fileno())]
            # In a session of its own, it is not interrupted together with the server.
            subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True)
            theirs.close()
        return self._line


NURSERY = Nursery()


class Provisioner(LocalProvisioner):
    """Has kernels of this very Python forked; others start as ever."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Called by Jupyter with the command of the kernel and what `Popen` takes."""
        if _LAUNCHER not in cmd or cmd[0] != sys.executable:
            return await super().launch_kernel(cmd, **kwargs)
        arguments = cmd[cmd.index(_LAUNCHER) + 1 :]
        process: Any = await NURSERY.fork(arguments, kwargs["env"], kwargs.get("cwd"))
        self.process, self.cwd = process, kwargs.get("cwd")
        self.pid = self.pgid = process.pid
        return self.connection_info


def main(line: socket.socket) -> None:
    """Import, fork at every order, and in the fork become the kernel."""
    for module in _IMPORTED:
        importlib.import_module(module)
    # What is never looked at by the collector is never copied for a kernel.
    gc.collect()
    gc.freeze()
    order = _next_child(line)
    if order is not None:
        _become(order)


def _next_child(line: socket.socket) -> dict[str, Any] | None:
    """Returns in every child what it was asked to be; in this process once the server is gone."""
    # Children that end leave nothing behind.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while message := line.recv(_LONGEST):
        pid = os.fork()
        if pid == 0:
            line.close()
            return json.loads(message)  # type: ignore[no-any-return]
        handle = os.pidfd_open(pid)
        socket.send_fds(line, [str(pid).encode()], [handle])
        os.close(handle)
    return None


def _become(order: Mapping[str, Any]) -> None:
    """What `python -m ipykernel_launcher` does, in a session of its own as Jupyter wants it."""
    from ipykernel.kernelapp import IPKernelApp  # noqa: PLC0415

    os.setsid()
    Path("/proc/self/comm").write_text(TITLE)
    # Where memory runs short, one visitor shall lose their session, and not all by the end of this one's parent.
    Path("/proc/self/oom_score_adj").write_text("500")
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(order["env"])
    if order["cwd"]:
        os.chdir(order["cwd"])
    # Widgets tell the kernel of themselves when they are imported, and there was none.
    more = [f"--IPKernelApp.parent_handle={os.getppid()}", "--IPKernelApp.extra_extensions=ipywidgets"]
    sys.argv = [_LAUNCHER, *order["arguments"], *more]
    IPKernelApp.launch_instance()


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
