"""Cut a copy of the network where the threshold says, in a process of its own, and see whether the Dice holds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sauron_train.errors import RunError, SauronError
from sauron_train.runlog.schema import Array
from sauron_viz.frames import Bytes, slice_position, take_slice, to_bytes
from sauron_viz.runs import RunView
from sauron_viz.scratch import scratch_folder, throw_away
from sauron_viz.theme import class_colours
from sauron_viz.widgets.base import box, esc, show, text
from sauron_viz.widgets.controls import Actions, Choice
from sauron_viz.widgets.explorer.scene import Scene
from sauron_viz.widgets.grid import ImageView
from sauron_viz.widgets.origin import Keeping
from sauron_viz.worker import Job, folder_name

_HOW = [["merge", "Merged"], ["none", "Plain"]]
_HINT = "Merged: survivors take over what was done with a filter that goes. Plain: it is lost, as published"
_OPEN = "Look at the maps that are left; it can be compared with the run it came from"
_KEPT = 5


@dataclass(frozen=True)
class Attempt:
    """A cut of a run that was tried, and what it says; `left` are the shares of parameters and FLOPs."""

    source: str
    guest: str
    how: str
    removed: int
    left: tuple[float, float]
    dice: tuple[float, float]


@dataclass(frozen=True)
class Picture:
    """The image that predictions are drawn over, as it was looked at when the work began; `flat` cuts a volume."""

    image: int
    pixels: Bytes
    label: bytes
    aspect: float
    colours: Mapping[str, str]
    flat: Callable[[Array], Array]

    @classmethod
    def of(cls, scene: Scene) -> Picture:
        """What the scene looks at now."""
        axis, share = scene.axis, scene.share

        def flat(volume: Array) -> Array:
            at = (0, None) if volume.ndim == 2 else (axis, slice_position(share, volume.shape[axis]))
            return np.ascontiguousarray(take_slice(volume[None], *at)[0])

        colours = class_colours(list(scene.view.info.labels.values()))
        pixels, label = to_bytes(scene.input()), scene.label().tobytes()
        return cls(scene.image, pixels, label, scene.aspect, colours, flat)


class TryOut:
    """Starts the work, follows it, and shows how the network fares before and after."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.filters: Mapping[str, list[int]] = {}
        self.threshold = 0.0
        self.attempts: list[Attempt] = []
        self.job: Job | None = None
        self.tried = 0
        guard = scene.viewer.guard
        self.how = Choice(label="Cut", options=_HOW, value="merge")
        self.start = Actions(guard(self._pressed), options=[["try", "Try it", _HINT]], main="try")
        self.progress = text("")
        self.said = text("")
        self.table = text("")
        self.before, self.after = ImageView(), ImageView()
        self.open = Actions(guard(self._open), options=[["open", "Explore it", _OPEN]])
        self.keeping = Keeping(scene.viewer, self._say)
        self.result = box(
            self.table,
            text('<h3 class="sauron-minor">Predictions, with the Dice on the probe images</h3>'),
            box(self.before, self.after, css="sauron-trio"),
            self.open,
            self.keeping.widget,
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
        scene.viewer.state.observe(guard(lambda _: self._draw_keeping()), "runs")

    def offer(self, filters: Mapping[str, list[int]], threshold: float) -> None:
        """The filters that would be cut now, and the threshold that they lie below."""
        self.filters, self.threshold = filters, threshold
        # What was tried on another run says nothing of this one.
        show(self.result, any(attempt.source == self.scene.view.name for attempt in self.attempts))
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
        table = scratch_folder() / "filters.json"
        table.write_text(json.dumps(dict(self.filters)), encoding="utf-8")
        picture, how, threshold = Picture.of(self.scene), self.how.value, f"{self.threshold:.3f}"
        asked = f"{'merged' if how == 'merge' else 'plain'}, τ {threshold}"
        words = ["cut", str(view.run.path), "--epoch", str(epoch), "--filters", str(table), "--compensate", how]
        # Recorded with the cut; which filters go is said by the table.
        words += ["--decided-at", threshold]
        name = f"{view.title} cut {self.tried + 1}"
        job = Job(words, self._advance, lambda made, why: self._ended(made, why, view, asked, picture, table), name)
        job.start()
        self.job = job
        self._advance(0, 1, "starting")
        self._draw_buttons()

    def _advance(self, done: int, total: int, what: str) -> None:
        self.progress.value = (
            f'<label class="sauron-note">{esc(what)}<progress max="{total}" value="{done}"></progress></label>'
        )

    def _ended(self, made: Path | None, why: str, source: RunView, how: str, picture: Picture, table: Path) -> None:
        throw_away(table.parent)
        job, self.job = self.job, None
        self.progress.value = ""
        try:
            if made is None or job is None:
                self._say(why or "Cancelled.")
            else:
                self.tried += 1
                view = self.scene.viewer.welcome(made, job.name, source.name, job.discard)
                self._show(source, view, how, picture)
        except SauronError as error:
            self._say(str(error))
        finally:
            self._draw_buttons()

    def _show(self, source: RunView, view: RunView, how: str, picture: Picture) -> None:
        epoch = view.map_epochs[-1]
        labels = view.probe().labels
        predictions = source.prediction(epoch), view.prediction(epoch)
        row, info = view.epochs.iloc[-1], view.info
        attempt = Attempt(
            source.name,
            view.name,
            how,
            int(row["filters_removed"]),
            (float(row["parameters"] / info.parameters), float(row["flops"] / info.flops)),
            (float(row["val_dice_before_cut"]), float(row["val_dice"])),
        )
        same = [old for old in self.attempts if old.source == source.name]
        self.attempts = [*same, attempt][-_KEPT:]
        self.table.value = _table(self.attempts)
        for place, name, prediction in zip((self.before, self.after), ("Before", "After"), predictions, strict=True):
            scored = mean_dice(prediction, labels)
            self._draw(place, name if math.isnan(scored) else f"{name}: {scored:.3f}", prediction, picture)
        show(self.result, source.name == self.scene.viewer.state.run)
        self._draw_keeping()

    @staticmethod
    def _draw(place: ImageView, name: str, prediction: Array, picture: Picture) -> None:
        place.put(
            picture.pixels,
            name,
            label=picture.label,
            prediction=picture.flat(prediction[picture.image]).tobytes(),
            class_colours=picture.colours,
            aspect=picture.aspect,
            alt=f"{name}; solid: label, dashed: prediction",
        )

    def _open(self, _what: str) -> None:
        self.scene.viewer.state.run = self.attempts[-1].guest

    def _draw_keeping(self) -> None:
        """What was tried last may have been saved or thrown away, here or above."""
        viewer = self.scene.viewer
        guest = viewer.folder.guests.get(self.attempts[-1].guest) if self.attempts else None
        for part in (self.open, self.keeping.widget):
            show(part, guest is not None)
        if guest is not None:
            self.keeping.offer(guest.view.name, folder_name(guest.view.name))

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
        f'<h3 class="sauron-minor">Tried on the validation cases</h3><table class="sauron-table"><thead><tr>{head}</tr>'
        f"</thead><tbody>{rows}</tbody></table>"
    )


def _line(attempt: Attempt) -> str:
    cells = (
        attempt.how,
        f"−{attempt.removed}",
        *(f"{100 * share:.1f} %" for share in attempt.left),
        *(f"{dice:.3f}" for dice in attempt.dice),
    )
    return (
        "<tr>" + "".join(f'<td class="{"" if i == 0 else "num"}">{esc(c)}</td>' for i, c in enumerate(cells)) + "</tr>"
    )
