"""Processes that train together end together: whichever fails or is interrupted first, one sentence says why.

A process that waits for the others, in the middle of adding up gradients, hears no signal and no exception. So whoever
ends first leaves word in the store by which torchrun's processes find each other, and a thread of the first process,
which writes the run folder, looks there.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import timedelta
from types import FrameType
from typing import Literal

from sauron_train import ranks
from sauron_train.errors import SauronError, TrainingError
from sauron_train.interruption import exit_code, from_words, raised, words

Finish = Callable[[Literal["stopped", "failed"], str], None]
"""Says in the run folder how a training ended, and why."""

_LOOK_EVERY_S = 0.5
# torchrun kills what has not ended 30 seconds after the first process did.
_GRACE_S = 15.0
_LOST = (
    "another process of this training ended without a word, as when the machine runs out of memory or is switched off; "
    "the finished epochs are whole, go on with sauron-train resume"
)
_ORPHANED = "what started the processes of this training is gone; go on with sauron-train resume"

_trainings = itertools.count()


@dataclass(frozen=True)
class End:
    """How a training of several processes ends: which of them was the first, and in what way."""

    rank: int
    status: Literal["stopped", "failed"]
    message: str


class _Watch:
    """What a process of several knows of the end of all."""

    def __init__(self) -> None:
        from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # noqa: PLC0415

        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(address, port, is_master=False, wait_for_workers=False)
        # Each training has a word of its own, also one that torchrun starts again.
        restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self._store = PrefixStore(f"sauron/{restart}/{next(_trainings)}", store)
        self.rank = ranks.rank()
        self.finish: Finish | None = None
        self.settling = False
        self._over = threading.Event()
        if self.rank == 0:
            threading.Thread(target=self._look, daemon=True, name="end of other processes").start()

    def settle(self, error: BaseException) -> BaseException:
        """Leave word, or learn who was first; what is to be raised."""
        if self.settling:
            return error
        self.settling = True
        end = self._first(End(self.rank, *_words(error, self.rank)))
        if end.rank == self.rank:
            self._await_first_process()
            return TrainingError(_LOST) if _lost_another(error) else error
        return from_words(end.message) if end.status == "stopped" else TrainingError(end.message)

    def close(self) -> None:
        """Look no more; what there was to say in the run folder has been said."""
        self._over.set()
        if self.settling:
            self._say_written()

    def _first(self, mine: End) -> End:
        with contextlib.suppress(RuntimeError):  # the store ends with the process that holds it
            return End(**json.loads(self._store.compare_set("end", "", json.dumps(asdict(mine)))))
        return mine

    def _await_first_process(self) -> None:
        """It is to write what happened before torchrun, which sees this process end, ends it too."""
        if self.rank:
            with contextlib.suppress(RuntimeError):
                self._store.wait(["written"], timedelta(seconds=_GRACE_S))

    def _say_written(self) -> None:
        if self.rank == 0:
            with contextlib.suppress(RuntimeError):
                self._store.set("written", "yes")

    def _look(self) -> None:
        while not self._over.wait(_LOOK_EVERY_S):
            try:
                if not self._store.check(["end"]):
                    continue
                end = End(**json.loads(self._store.get("end")))
            except RuntimeError:  # the store ends with torchrun
                self._write(End(-1, "failed", _ORPHANED), 0)
                return
            if end.rank != self.rank:
                self._write(end, _GRACE_S)
            return

    def _write(self, end: End, grace_s: float) -> None:
        with contextlib.suppress(Exception):
            if self.finish is not None:
                self.finish(end.status, end.message)
        self._say_written()
        if not self._over.wait(grace_s):
            # It waits for a process that is gone, and would be killed without a word.
            sys.stderr.write(f"error: {end.message}\n" if end.status == "failed" else "stopped\n")
            sys.stderr.flush()
            os._exit(2 if end.status == "failed" else exit_code(from_words(end.message)))


_active: list[_Watch] = []


@contextmanager
def ended_together(finish: Finish | None = None) -> Iterator[None]:
    """Where several processes run the block, it ends in all of them when it does not reach its end in one.

    The first process then raises what the one that was first to end has to say; the others must keep silent. Blocks may
    lie inside each other.

    Args:
        finish: says it in the run folder, from any thread; called while the first process may still be waiting.

    Raises:
        TrainingError: another process failed, or is gone.
        KeyboardInterrupt: another process was interrupted.
    """
    if ranks.processes() == 1 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        yield
        return
    with nullcontext(_active[0]) if _active else _listening() as watch:
        before, watch.finish = watch.finish, finish
        try:
            yield
        except BaseException as error:
            raise watch.settle(error) from None
        watch.finish = before


@contextmanager
def _listening() -> Iterator[_Watch]:
    watch = _Watch()

    def interrupted(number: int, frame: FrameType | None) -> None:
        # torchrun ends all that are left when one has ended; that must not disturb what one does about it.
        if not watch.settling:
            raised(number, frame)

    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, interrupted) for number in (signal.SIGINT, signal.SIGTERM) if main}
    _active.append(watch)
    try:
        yield watch
        for number, handler in before.items():
            signal.signal(number, handler)
    finally:
        _active.clear()
        watch.close()


@contextmanager
def told(finish: Finish) -> Iterator[None]:
    """Say in the run folder how the block ended, where it does not reach its end; all processes end together."""
    try:
        with ended_together(finish):
            yield
    except KeyboardInterrupt as error:
        _say(finish, "stopped", words(error))
        raise
    except BaseException as error:
        _say(finish, "failed", str(error).split("\n")[0])
        raise


def _say(finish: Finish, status: Literal["stopped", "failed"], message: str) -> None:
    # Where the disk is full, why the run ended matters more than that this cannot be written either.
    with contextlib.suppress(OSError):
        finish(status, message)


def _words(error: BaseException, rank: int) -> tuple[Literal["stopped", "failed"], str]:
    if isinstance(error, KeyboardInterrupt):
        return "stopped", words(error)
    if _lost_another(error):
        return "failed", _LOST
    first = (str(error).splitlines() or [""])[0]
    if isinstance(error, SauronError):
        return "failed", first
    return "failed", f"process {rank} of the training failed: {type(error).__name__}: {first}"


def _lost_another(error: BaseException) -> bool:
    """Whether a process found that another one is gone."""
    from torch.distributed import DistBackendError, DistError  # noqa: PLC0415

    said = str(error)
    return isinstance(error, (DistBackendError, DistError)) or (
        isinstance(error, RuntimeError) and ("gloo" in said and "peer" in said)
    )
