"""Cut a copy of the network where the threshold says, in a process of its own, and see whether the Dice holds."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sauron_train.errors import RunError, SauronError
from sauron_train.runlog.schema import Array
from sauron_viz.frames import to_bytes
from sauron_viz.runs import RunView
from sauron_viz.theme import class_colours
from sauron_viz.widgets.base import box, esc, show, text
from sauron_viz.widgets.controls import Actions, Choice, Field
from sauron_viz.widgets.explorer.scene import Scene
from sauron_viz.widgets.grid import ImageView
from sauron_viz.worker import Job

_HOW = [["merge", "Merged"], ["none", "Plain"]]
_HINT = "Merged: survivors take over what was done with a filter that goes. Plain: it is lost, as published"
_KEPT = 5


@dataclass(frozen=True)
class Attempt:
    """A cut that was tried: the run that it made, and what it says."""

    view: RunView
    how: str
    row: Mapping[str, float]
    probe_dice: tuple[float, float]


class TryOut:
    """Starts the work, follows it, and shows how the network fares before and after."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.filters: Mapping[str, list[int]] = {}
        self.attempts: list[Attempt] = []
        self.job: Job | None = None
        self._jobs: list[Job] = []
        guard = scene.viewer.guard
        self.how = Choice(label="Cut", options=_HOW, value="merge")
        self.start = Actions(guard(self._pressed), options=[["try", "Try it", _HINT]], main="try")
        self.progress = text("")
        self.said = text("")
        self.table = text("")
        self.before, self.after = ImageView(), ImageView()
        self.name = Field(label="Save as a run named", value="")
        self.keep = Actions(guard(self._keep), options=[["save", "Save"], ["discard", "Throw away"]])
        self.result = box(
            self.table,
            text('<h4 class="sauron-minor">Predictions, with the Dice on the probe images</h4>'),
            box(self.before, self.after, css="sauron-trio"),
            box(self.name, self.keep, css="sauron-row sauron-close"),
            css="sauron-stack sauron-tight",
        )
        self.widget = box(
            box(self.how, self.start, css="sauron-row sauron-close"),
            self.progress,
            self.said,
            self.result,
            css="sauron-stack sauron-tight",
        )
        show(self.result, False)

    def offer(self, filters: Mapping[str, list[int]]) -> None:
        """The filters that would be cut now."""
        self.filters = filters
        self._draw_buttons()

    def _pressed(self, what: str) -> None:
        if what == "cancel" and self.job is not None:
            self.job.cancel()
            return
        view, epoch = self.scene.view, self.scene.epoch
        if epoch not in view.run.checkpoints():
            kept = ", ".join(map(str, view.run.checkpoints())) or "none"
            raise RunError(
                f"The weights of epoch {epoch} are not there any more, so nothing can be tried; kept: {kept}"
            )
        self._say("")
        handle, table = tempfile.mkstemp(prefix="sauron-", suffix=".json")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(dict(self.filters), file)
        words = ["cut", str(view.run.path), "--epoch", str(epoch), "--filters", table, "--compensate", self.how.value]
        self.job = Job(words, self._advance, lambda made, why: self._ended(made, why, view, Path(table)))
        self._jobs.append(self.job)
        self._advance(0, 1, "starting")
        self._draw_buttons()

    def _advance(self, done: int, total: int, what: str) -> None:
        self.progress.value = (
            f'<label class="sauron-note">{esc(what)}<progress max="{total}" value="{done}"></progress></label>'
        )

    def _ended(self, made: Path | None, why: str, source: RunView, table: Path) -> None:
        table.unlink(missing_ok=True)
        self.job = None
        self.progress.value = ""
        try:
            if made is None:
                self._say(why or "Cancelled.")
            else:
                self._show(source, made)
        except SauronError as error:
            self._say(str(error))
        finally:
            self._draw_buttons()

    def _show(self, source: RunView, made: Path) -> None:
        view = self.scene.viewer.folder.stray(made)
        epoch = view.map_epochs[-1]
        labels = view.probe().labels
        after = view.prediction(epoch)
        before = source.prediction(epoch)
        attempt = Attempt(
            view,
            self.how.value,
            {str(name): value for name, value in view.epochs.iloc[-1].items()},
            (mean_dice(before, labels), mean_dice(after, labels)),
        )
        self.attempts = [*self.attempts, attempt][-_KEPT:]
        self.name.value = f"{source.title}_cut{len(self._jobs)}"
        self.table.value = _table(self.attempts)
        for picture, name, prediction, dice in (
            (self.before, "Before", before, attempt.probe_dice[0]),
            (self.after, "After", after, attempt.probe_dice[1]),
        ):
            self._draw(picture, f"{name}: {dice:.3f}", prediction)
        show(self.result, True)

    def _draw(self, picture: ImageView, name: str, prediction: Array) -> None:
        scene = self.scene
        picture.put(
            to_bytes(scene.input()),
            name,
            label=scene.label().tobytes(),
            prediction=scene.flat(prediction[scene.image]).tobytes(),
            class_colours=class_colours(list(scene.view.info.labels.values())),
            aspect=scene.aspect,
            alt=f"{name}; solid: label, dashed: prediction",
        )

    def _keep(self, what: str) -> None:
        attempt = self.attempts[-1]
        if what == "save":
            self._say(f"Saved as {self.scene.viewer.folder.keep(attempt.view.run, self.name.value.strip())}.")
        else:
            shutil.rmtree(attempt.view.run.path.parent, ignore_errors=True)
        self.attempts = self.attempts[:-1] if what == "discard" else self.attempts
        self.table.value = _table(self.attempts)
        show(self.result, bool(self.attempts) and what == "save")

    def _say(self, sentence: str) -> None:
        self.said.value = f'<p class="sauron-note" role="status">{esc(sentence)}</p>' if sentence else ""

    def _draw_buttons(self) -> None:
        count = sum(len(numbers) for numbers in self.filters.values())
        if self.job is not None:
            self.start.options, self.start.main, self.start.disabled = [["cancel", "Cancel"]], "", []
            return
        self.start.options = [["try", f"Try it: cut {count} {'filter' if count == 1 else 'filters'}", _HINT]]
        self.start.main = "try"
        self.start.disabled = [] if count else ["try"]


def mean_dice(prediction: Array, labels: Array) -> float:
    """Mean over images and the structures that are in their labels; (P, *spatial) each."""
    scores = [
        2 * np.sum((p == value) & (t == value)) / (np.sum(p == value) + np.sum(t == value))
        for p, t in zip(prediction, labels, strict=True)
        for value in np.unique(t)
        if value
    ]
    return float(np.mean(scores)) if scores else float("nan")


def _table(attempts: list[Attempt]) -> str:
    heads = ("Cut", "Filters", "Param.", "FLOPs", "Dice before", "after")
    rows = "".join(_line(attempt) for attempt in reversed(attempts))
    head = "".join(f'<th class="{"" if i == 0 else "num"}">{esc(name)}</th>' for i, name in enumerate(heads))
    return (
        f'<h4 class="sauron-minor">Tried on the validation cases</h4><table class="sauron-table"><thead><tr>{head}</tr>'
        f"</thead><tbody>{rows}</tbody></table>"
    )


def _line(attempt: Attempt) -> str:
    row, info = attempt.row, attempt.view.info
    cells = (
        "merged" if attempt.how == "merge" else "plain",
        f"−{int(row['filters_removed'])}",
        f"{100 * row['parameters'] / info.parameters:.1f} %",
        f"{100 * row['flops'] / info.flops:.1f} %",
        f"{row['val_dice_before_cut']:.3f}",
        f"{row['val_dice']:.3f}",
    )
    return (
        "<tr>" + "".join(f'<td class="{"" if i == 0 else "num"}">{esc(c)}</td>' for i, c in enumerate(cells)) + "</tr>"
    )
