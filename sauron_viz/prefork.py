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
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

NAME = "sauron-prefork"
# What a list of processes shows.
TITLE = "sauron-kernel"
_LAUNCHER = "ipykernel_launcher"
# What every page needs sooner or later.
_IMPORTED = ("ipykernel.kernelapp", "sauron_viz.apps", "scipy.cluster.hierarchy")
_NUMBER = struct.Struct("!q")
_PATIENCE_S = 60.0


def available() -> bool:
    """Whether kernels can be forked here: old systems, and some containers, give no handle of a process."""
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


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
    """The process that kernels are forked from, seen from the server. It ends with the server, and kernels with it.

    Where it does not answer in time, another one is begun, and the kernels of the slow one are left alone.
    """

    def __init__(self) -> None:
        self._patience = _PATIENCE_S
        self._line: socket.socket | None = None
        self._slow: list[socket.socket] = []
        # Answers come in the order of the questions: one at a time.
        self._asking = ThreadPoolExecutor(1, thread_name_prefix="nursery")
        self._starting = threading.Lock()

    def start(self) -> None:
        """Begin to import, if that has not begun."""
        self._opened()

    def be_patient(self, seconds: float) -> None:
        """Wait so long for an answer, from now on."""
        self._patience = seconds
        if self._line is not None:
            self._line.settimeout(seconds)

    async def fork(self, arguments: Sequence[str], env: Mapping[str, str], cwd: str | None) -> Fork:
        """A new kernel; waits until everything is imported.

        Raises:
            OSError: no process could be made, or it takes too long. Other kernels do not suffer from it.
        """
        order = json.dumps({"arguments": list(arguments), "env": dict(env), "cwd": cwd}).encode()
        return await asyncio.get_running_loop().run_in_executor(self._asking, self._ask, order)

    def _ask(self, order: bytes) -> Fork:
        # The second time another process, if the first one was killed meanwhile.
        for _ in range(2):
            line = self._opened()
            try:
                line.sendall(_NUMBER.pack(len(order)) + order)
                answer, handles, *_ = socket.recv_fds(line, _NUMBER.size, 1)
            except TimeoutError:
                self._line = None
                self._slow.append(line)
                raise OSError("the process that kernels are forked from does not answer") from None
            except OSError:
                answer, handles = b"", []
            if len(answer) == _NUMBER.size:
                pid = _NUMBER.unpack(answer)[0]
                if pid < 0:
                    raise OSError(-pid, os.strerror(-pid))
                return Fork(pid, handles[0])
            self._line = None
            line.close()
        raise OSError("the process that kernels are forked from ends again and again")

    def _opened(self) -> socket.socket:
        with self._starting:
            if self._line is None:
                self._line, theirs = socket.socketpair()
                self._line.settimeout(self._patience)
                command = [sys.executable, "-P", "-m", __name__, str(theirs.fileno())]
                # In a session of its own, it is not interrupted together with the server.
                subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True)
                theirs.close()
            return self._line


NURSERY = Nursery()


class Provisioner(LocalProvisioner):
    """Has kernels of this very Python forked; others start as ever, and so do these where forking fails."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Called by Jupyter with the command of the kernel and what `Popen` takes."""
        if _LAUNCHER not in cmd or cmd[0] != sys.executable:
            return await super().launch_kernel(cmd, **kwargs)
        arguments = cmd[cmd.index(_LAUNCHER) + 1 :]
        try:
            process: Any = await NURSERY.fork(arguments, kwargs["env"], kwargs.get("cwd"))
        except OSError as error:
            self.log.error("no kernel could be forked (%s); one is started by itself", error)
            return await super().launch_kernel(cmd, **kwargs)
        self.process, self.cwd = process, kwargs.get("cwd")
        self.pid = self.pgid = process.pid
        return self.connection_info

    async def send_signal(self, signum: int) -> None:
        """To the kernel and what it has started; its number may be another's as soon as it has ended."""
        if self.process is None or self.process.poll() is None:
            await super().send_signal(signum)


def main(line: socket.socket) -> None:
    """Import, fork at every order, and in the fork become the kernel."""
    for module in _IMPORTED:
        importlib.import_module(module)
    # What is never looked at by the collector is never copied for a kernel.
    gc.collect()
    gc.freeze()
    parent = os.getpid()
    order = _next_child(line)
    if order is not None:
        _become(order, parent)


def _next_child(line: socket.socket) -> dict[str, Any] | None:
    """Returns in every child what it was asked to be; in this process once the server is gone."""
    signal.signal(signal.SIGCHLD, _bury)
    while message := _order(line):
        # A child that ends at once must not be gone before there is a handle of it.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        try:
            pid = os.fork()
            if pid == 0:
                line.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
                return json.loads(message)  # type: ignore[no-any-return]
            _answer(line, pid)
        except OSError as error:
            line.sendall(_NUMBER.pack(-(error.errno or 1)))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    return None


def _answer(line: socket.socket, pid: int) -> None:
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        # A kernel that nobody can end must not stay.
        os.kill(pid, signal.SIGKILL)
        raise
    socket.send_fds(line, [_NUMBER.pack(pid)], [handle])
    os.close(handle)


def _order(line: socket.socket) -> bytes:
    """The next order, b"" once nobody gives any."""
    head = _exactly(line, _NUMBER.size)
    return _exactly(line, _NUMBER.unpack(head)[0]) if head else b""


def _exactly(line: socket.socket, count: int) -> bytes:
    """So many bytes, b"" where they end before; a child that ends interrupts what is being received."""
    parts: list[bytes] = []
    while count > 0:
        part = line.recv(count)
        if not part:
            return b""
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _bury(*_: object) -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _become(order: Mapping[str, Any], parent: int) -> None:
    """What `python -m ipykernel_launcher` does, in a session of its own as Jupyter wants it."""
    from ipykernel.kernelapp import IPKernelApp  # noqa: PLC0415

    if os.getppid() != parent:
        # Nobody would notice the end of a kernel whose parent went before it.
        return
    os.setsid()
    _be_known()
    os.environ.clear()
    os.environ.update(order["env"])
    if order["cwd"]:
        os.chdir(order["cwd"])
    # Widgets tell the kernel of themselves when they are imported, and there was none.
    more = [f"--IPKernelApp.parent_handle={parent}", "--IPKernelApp.extra_extensions=ipywidgets"]
    sys.argv = [_LAUNCHER, *order["arguments"], *more]
    IPKernelApp.launch_instance()


def _be_known() -> None:
    """Have a name, and be the first to go where memory runs short: all kernels end with the parent of this one."""
    for file, value in (("comm", TITLE), ("oom_score_adj", "500")):
        with suppress(OSError):
            Path("/proc/self", file).write_text(value)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
