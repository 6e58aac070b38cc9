"""Tells programs how training goes, as lines of JSON on stdout; what a person reads then goes to stderr.

Every line is a table with the key `event`. A reader may come at any time: each line says by itself where training is.

| event | with |
|---|---|
| `loading` | `done`, `total`: cases that are read |
| `begun` | `epochs` in all, `done` before, `dataset`, `device` |
| `step` | `epoch`, `epochs`, `done`, `total`, `loss`; at most one a second |
| `remark` | `what` happened, or is odd about the data, in a sentence |
| `stage` | `epoch`, `epochs`, `what` |
| `epoch` | `epoch`, `epochs`, `loss`, `val_loss`, `dice`, `filters`, `removed`, `flops` left as a share, `seconds` |
| `ended` | `how`: finished, stopped or failed; `why` in a sentence |
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from sauron_train import ranks
from sauron_train.console import console
from sauron_train.errors import SauronError
from sauron_train.progress import Terminal
from sauron_train.runlog import EpochRow, RunInfo

_STEPS_APART_S = 1.0


class Events(Terminal):
    """Says everything twice: to people in words, to programs as events."""

    def __init__(self, words: Console) -> None:
        super().__init__(words)
        self._planned = self._flops = 0
        self._last_step = 0.0

    def loading(self, done: int, total: int) -> None:
        """A case has been read."""
        super().loading(done, total)
        _say("loading", done=done, total=total)

    def started(self, info: RunInfo, how: str = "", done: int = 0) -> None:
        """Training begins or goes on."""
        super().started(info, how, done)
        self._planned, self._flops = info.epochs_planned, info.flops
        _say("begun", epochs=self._planned, done=done, dataset=info.dataset, device=info.device)

    def step(self, epoch: int, done: int, total: int, loss: float) -> None:
        """A step has been made."""
        super().step(epoch, done, total, loss)
        now = time.monotonic()
        # A log of days must not grow with every step.
        if now - self._last_step >= _STEPS_APART_S:
            self._last_step = now
            _say("step", epoch=epoch, epochs=self._planned, done=done, total=total, loss=loss)

    def stage(self, epoch: int, what: str) -> None:
        """Something other than steps is going on."""
        super().stage(epoch, what)
        _say("stage", epoch=epoch, epochs=self._planned, what=what)

    def remark(self, sentence: str) -> None:
        """Something happened that one should know of."""
        super().remark(sentence)
        _say("remark", what=sentence)

    def epoch(self, row: EpochRow) -> None:
        """An epoch has been committed."""
        super().epoch(row)
        _say(
            "epoch",
            epoch=row.epoch,
            epochs=self._planned,
            loss=row.train_loss,
            val_loss=row.val_loss,
            dice=row.val_dice,
            filters=row.filters,
            removed=row.filters_removed,
            flops=row.flops / self._flops if self._flops else None,
            seconds=row.seconds,
        )


@contextmanager
def watched(machine: bool) -> Iterator[Terminal]:
    """Who is told how training goes: a person, or a program too."""
    if not machine or not ranks.leads():
        with Terminal(console) as terminal:
            yield terminal
        return
    console.stderr = True
    with Events(console) as events:
        try:
            yield events
        except KeyboardInterrupt:
            _say("ended", how="stopped", why="")
            raise
        except SauronError as error:
            _say("ended", how="failed", why=str(error))
            raise
        except BaseException as error:
            _say(
                "ended", how="failed", why=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            )
            raise
        _say("ended", how="finished", why="")


def _say(event: str, **values: Any) -> None:
    plain = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in values.items()
    }
    # Nobody may listen any more, or the disk of the log may be full: training is not to end by that.
    with contextlib.suppress(OSError):
        sys.stdout.write(json.dumps({"event": event, **plain}, ensure_ascii=False) + "\n")
        sys.stdout.flush()
