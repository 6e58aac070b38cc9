"""How a training stands, from the lines that it writes; only what was added is read, and only whole lines."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

_FIRST_LOOK = 256 * 1024
_RECENT = 5


class Tail:
    """Reads a file that grows, line by line; asking when nothing has grown costs a look at its size.

    Args:
        path: the file; it need not be there yet.
        first: bytes of a long file that are read at first, from its end.
    """

    def __init__(self, path: Path, first: int = _FIRST_LOOK) -> None:
        self.path = path
        self._first = first
        self._offset: int | None = None
        self._inode = 0

    def read(self) -> list[str]:
        """The lines that were finished since the last time."""
        try:
            stat = os.stat(self.path)
        except OSError:
            return []
        if stat.st_ino != self._inode or (self._offset or 0) > stat.st_size:
            self._offset, self._inode = None, stat.st_ino
        if self._offset == stat.st_size:
            return []
        start = self._offset
        if start is None:
            start = max(0, stat.st_size - self._first)
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                content = file.read(stat.st_size - start)
        except OSError:
            return []
        end = content.rfind(b"\n") + 1
        lines = content[:end].decode("utf-8", errors="replace").split("\n")[:-1]
        if self._offset is None and start > 0:
            lines = lines[1:]  # its beginning was not read
        self._offset = start + end
        return lines


@dataclass(frozen=True)
class Progress:
    """Where a training is.

    `phase` is what it does now; `step` of `steps` counts training steps of the epoch or cases that are read. `epoch` is
    the one that is being trained, `done` how many are finished. `seconds` are those of the latest epochs. `ended` is
    how, and `why` the sentence with it.
    """

    phase: str = "starting"
    epoch: int = 0
    epochs: int = 0
    done: int = 0
    step: int = 0
    steps: int = 0
    loss: float | None = None
    dice: float | None = None
    flops: float | None = None
    device: str = ""
    seconds: tuple[float, ...] = ()
    ended: str = ""
    why: str = ""

    def after(self, event: dict[str, Any]) -> Progress:
        """The same after one more event; what is no event changes nothing."""
        try:
            return self._after(event)
        except (KeyError, TypeError, ValueError):
            return self

    @property
    def share(self) -> float | None:
        """How much of the training is done, in [0, 1]; None before that can be told."""
        if not self.epochs:
            return None
        within = self.step / self.steps if self.phase == "training" and self.steps else 0.0
        if self.epoch > self.done and self.phase not in ("training", "starting"):
            within = 1.0
        return min(1.0, (self.done + within) / self.epochs)

    @property
    def left_s(self) -> float | None:
        """Seconds that are left, if all epochs take as long as the latest; None before the first is over."""
        share = self.share
        if not self.seconds or share is None:
            return None
        return (1 - share) * self.epochs * median(self.seconds)

    def _after(self, event: dict[str, Any]) -> Progress:
        changed = self
        match event["event"]:
            case "asked":
                changed = Progress(done=self.done, epochs=self.epochs)
            case "loading":
                changed = replace(self, phase="reading cases", step=int(event["done"]), steps=int(event["total"]))
            case "begun":
                done, epochs = int(event["done"]), int(event["epochs"])
                begun = Progress(phase="training", done=done, epoch=done + 1, epochs=epochs)
                changed = replace(begun, device=str(event.get("device", "")))
            case "step":
                step, steps = int(event["done"]), int(event["total"])
                at = replace(self._at(event), phase="training", loss=_number(event["loss"]))
                changed = replace(at, step=step, steps=steps)
            case "stage":
                changed = replace(self._at(event), phase=str(event["what"]))
            case "epoch":
                recent = (*self.seconds, float(event["seconds"]))[-_RECENT:]
                dice, flops = _number(event["dice"]), _number(event["flops"])
                at = replace(self._at(event), done=int(event["epoch"]), step=0, phase="training", seconds=recent)
                changed = replace(at, loss=_number(event["loss"]), dice=dice, flops=flops)
            case "ended":
                changed = replace(self, ended=str(event["how"]), why=str(event["why"]))
        return changed

    def _at(self, event: dict[str, Any]) -> Progress:
        epoch = int(event["epoch"])
        return replace(self, epoch=epoch, epochs=int(event["epochs"]), done=max(self.done, epoch - 1), ended="", why="")


class Follower:
    """The progress of a training whose events are in a file."""

    def __init__(self, path: Path) -> None:
        self._tail = Tail(path)
        self.progress = Progress()

    def read(self) -> Progress:
        """How it stands now."""
        for line in self._tail.read():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                self.progress = self.progress.after(event)
        return self.progress


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
