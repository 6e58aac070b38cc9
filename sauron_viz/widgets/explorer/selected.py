"""One map in detail: its values over the input, its nearest maps, its history, and a second map beside it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sauron_train.runlog.schema import Array
from sauron_viz.figures.history import filter_history, value_histogram
from sauron_viz.frames import Bytes, Frame, take_slice, to_bytes
from sauron_viz.theme import class_colours, palette
from sauron_viz.widgets.base import box, esc, show, text
from sauron_viz.widgets.chart import PlotlyChart
from sauron_viz.widgets.controls import Actions
from sauron_viz.widgets.explorer.scene import Scene
from sauron_viz.widgets.grid import ImageView, Strip
from sauron_viz.words import explain

_NEAREST = 6
_PLANES = ("Axis 1", "Axis 2", "Axis 3")


class SelectedCard:
    """What is known of the chosen filter; without one, the input alone. `below` are charts that need more room."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.common = False
        self.pinned = -1
        guard = scene.viewer.guard
        self.picture = ImageView()
        self.legend = text("")
        self.numbers = text("")
        self.actions = Actions(guard(self._pin))
        self.nearest = Strip(guard(scene.viewer.choose_filter), label="Nearest maps, and how far they are")
        self.planes = [ImageView(palette=palette("cividis")) for _ in _PLANES]
        self.pair = [ImageView(palette=palette(name)) for name in ("cividis", "cividis", "difference")]
        self.plane_box = box(*self.planes, css="sauron-trio")
        self.pair_note = text("")
        self.pair_box = box(self.pair_note, box(*self.pair, css="sauron-trio"), css="sauron-stack sauron-tight")
        self.below = box(css="sauron-columns")
        self.more = box(self.actions, self.pair_box, self.plane_box, self.nearest, css="sauron-stack sauron-tight")
        self.widget = box(self.picture, self.legend, self.numbers, self.more, css="sauron-stack sauron-tight")
        self._history: PlotlyChart | None = None
        self._histogram: PlotlyChart | None = None

    def update(self) -> None:
        """Show the chosen filter at the place of the scene."""
        scene = self.scene
        number = scene.viewer.state.filter
        # Without a choice the maps themselves are not needed, and a page need not wait for them.
        frame = scene.frame_or_none() if number >= 0 else None
        row = None if frame is None or number < 0 else frame.index(number)
        seen = frame is not None and row is not None and frame.stats.seen[row] != 0
        self._draw_picture(frame, row if seen else None)
        show(self.more, frame is not None and row is not None)
        if frame is None or row is None:
            sentence = "Choose a map to see it over the input." if number < 0 else f"This layer has no filter {number}."
            self.numbers.value = f'<p class="sauron-note">{esc(sentence)}</p>'
            return
        self.numbers.value = _numbers(frame, row)
        self._draw_actions(number)
        self._draw_nearest(frame, row)
        self._draw_planes(frame, row)
        self._draw_pair(frame, row)

    def update_below(self) -> None:
        """Draw the charts of the chosen filter, which stand under the grid whichever card is beside it."""
        number = self.scene.viewer.state.filter
        frame = self.scene.frame_or_none() if number >= 0 else None
        row = None if frame is None else frame.index(number)
        show(self.below, row is not None)
        if frame is not None and row is not None:
            self._draw_charts(frame, row)

    def _pin(self, _value: str) -> None:
        number = self.scene.viewer.state.filter
        self.pinned = -1 if self.pinned == number else number
        self.update()

    def _draw_picture(self, frame: Frame | None, row: int | None) -> None:
        scene = self.scene
        view, name = scene.view, scene.view.probe().names[scene.image]
        labels = view.info.labels
        predicted = scene.prediction()
        filter_name = "" if frame is None or row is None else f"Filter {frame.stats.filters[row]} over {name}"
        over = None if frame is None or row is None else self._coloured(frame, row)
        low, high = self._ends(frame, row)
        self.picture.put(
            to_bytes(scene.input()),
            filter_name or f"Input: {name}",
            label=scene.label().tobytes(),
            prediction=b"" if predicted is None else predicted.tobytes(),
            class_colours=class_colours(list(labels.values())),
            aspect=scene.aspect,
            over=over,
            low=low,
            high=high,
            alt=f"{filter_name or f'Input {name}'}, with the outlines of its label and of the prediction at epoch "
            f"{scene.epoch}",
        )
        self.legend.value = _legend(labels, predicted is not None)

    def _ends(self, frame: Frame | None, row: int | None) -> tuple[str, str]:
        if frame is None or row is None:
            return "", ""
        ends = frame.whole_range if self.common else (float(frame.stats.low[row]), float(frame.stats.high[row]))
        low, high = (f"{value:.3g}".replace("-", "−") for value in ends)
        return low, high

    def _coloured(self, frame: Frame, row: int) -> Bytes:
        return frame.on_common_scale(row) if self.common else frame.pixels[row]

    def _draw_actions(self, number: int) -> None:
        pinned = self.pinned == number
        hint = "Keep this map in sight and choose another, to see both and their difference"
        self.actions.options = [["pin", "Unpin" if pinned else f"Pin filter {number}", hint]]
        self.actions.pressed = ["pin"] if pinned else []

    def _draw_nearest(self, frame: Frame, row: int) -> None:
        stats = frame.stats
        if not frame.is_left(row):
            rows = [r for r in [frame.index(int(stats.nearest[row]))] if r is not None]
            far = [stats.nearest_distance[row]]
        else:
            place = int(np.flatnonzero(frame.left == row)[0])
            distances = self.scene.view.shelf.distances(self.scene.epoch, self.scene.layer, self.scene.image)[place]
            others = [i for i in np.argsort(distances, kind="stable") if i != place and np.isfinite(distances[i])]
            rows = [int(frame.left[i]) for i in others[:_NEAREST]]
            far = [distances[i] for i in others[:_NEAREST]]
        maps = frame.pixels[rows] if rows else np.zeros((0, *frame.pixels.shape[1:]), np.uint8)
        numbers = [int(stats.filters[r]) for r in rows]
        self.nearest.put(maps, numbers, [f"{value:.3f}" for value in far[: len(rows)]], self.scene.aspect)

    def _draw_planes(self, frame: Frame, row: int) -> None:
        scene = self.scene
        seen = int(frame.stats.seen[row])
        show(self.plane_box, scene.solid and seen != 0)
        if not scene.solid or not seen:
            return
        volume = scene.view.shelf.map_of(seen, scene.layer, scene.image, int(frame.stats.filters[row]))
        low, high = float(volume.min()), float(volume.max())
        for axis, (name, picture) in enumerate(zip(_PLANES, self.planes, strict=True)):
            at = scene.cut(volume.shape)[1] if axis == scene.axis else _brightest(volume, axis)
            flat = take_slice(volume[None], axis, at)[0].astype(np.float32)
            shown = np.clip(255 * (flat - low) / max(high - low, 1e-12), 0, 255).astype(np.uint8)
            alt = f"Filter {frame.stats.filters[row]}, slice {at} along {name}"
            picture.put(shown, f"{name}, {at}", aspect=scene.aspect_along(axis), alt=alt)

    def _draw_pair(self, frame: Frame, row: int) -> None:
        other = frame.index(self.pinned) if self.pinned >= 0 else None
        both = other is not None and other != row and frame.stats.seen[other] != 0 and frame.stats.seen[row] != 0
        show(self.pair_box, both)
        if not both or other is None:
            return
        names = [int(frame.stats.filters[other]), int(frame.stats.filters[row])]
        a, b = (frame.pixels[r].astype(np.float32) / 255 for r in (other, row))
        apart = np.sqrt(np.mean((a - b) ** 2))
        self.pair_note.value = (
            f'<h3 class="sauron-minor">Filters {names[0]} and {names[1]}: {apart:.3f} apart in this picture, each over '
            "its own range</h3>"
        )
        difference = np.clip(np.rint(127.5 * (1 + b - a)), 0, 255).astype(np.uint8)
        aspect = self.scene.aspect
        for picture, pixels, name in zip(
            self.pair,
            (frame.pixels[other], frame.pixels[row], difference),
            (f"{names[0]} (pinned)", f"{names[1]}", f"{names[1]} − {names[0]}"),
            strict=True,
        ):
            picture.put(pixels, name, aspect=aspect, alt=f"Map {name}")

    def _draw_charts(self, frame: Frame, row: int) -> None:
        if self._history is None or self._histogram is None:
            library = self.scene.viewer.plotly
            self._history = PlotlyChart(library=library, empty="No distances are stored for this filter.")
            self._histogram = PlotlyChart(library=library, empty="There is no picture of this map.")
            self._history.observe(
                self.scene.viewer.guard(lambda c: self.scene.viewer.choose_epoch(c.new.get("x"))), "clicked"
            )
            self.below.children = (self._history, self._histogram)
        self._draw_history(self._history, frame, row)
        number, seen = int(frame.stats.filters[row]), int(frame.stats.seen[row])
        self._histogram.title = f"Values of filter {number}"
        self._histogram.source = self.scene.view.title
        values = self.scene.view.shelf.map_of(seen, self.scene.layer, self.scene.image, number) if seen else None
        self._histogram.draw(None if values is None else value_histogram(values.astype(np.float32)))

    def _draw_history(self, chart: PlotlyChart, frame: Frame, row: int) -> None:
        view, layer = self.scene.view, self.scene.layer
        number, gone = int(frame.stats.filters[row]), int(frame.stats.gone[row])
        lies = view.shelf.history(layer, number)
        chart.title = f"Filter {number} over the epochs"
        chart.source = view.title
        chart.hint = explain("δ_prune τ")
        log = view.layers[view.layers["layer"] == layer].set_index("epoch")
        threshold = log["threshold"] if view.pruned and "threshold" in log else None
        record = view.shelf.removal(layer, number)
        when = record.epoch if record else gone or None
        shown = None if lies.empty else filter_history(lies, view.epochs["epoch"], threshold, when)
        chart.mark = self.scene.epoch
        chart.draw(shown, "Mean over the probe images, in units of a map's range.")


def _brightest(volume: Array, axis: int) -> int:
    """The slice with the most of the map in it."""
    others = tuple(a for a in range(volume.ndim) if a != axis)
    return int(np.argmax(volume.astype(np.float32).var(axis=others)))


def _numbers(frame: Frame, row: int) -> str:
    stats = frame.stats
    items = []
    if np.isfinite(stats.low[row]):
        items.append(("Values", f"{stats.low[row]:.3g} to {stats.high[row]:.3g}".replace("-", "−")))
    elif stats.seen[row]:
        items.append(("Values", "not all are numbers"))
    if frame.is_left(row):
        if row != frame.left[0]:
            items.append(("δ to the reference", f"{stats.to_reference[row]:.3f}"))
        if np.isfinite(stats.nearest_distance[row]):
            items.append((f"δ to the nearest, {stats.nearest[row]}", f"{stats.nearest_distance[row]:.3f}"))
        if np.isfinite(stats.delta_prune[row]):
            items.append(("δ_prune", f"{stats.delta_prune[row]:.3f}"))
    elif stats.gone[row] < 0:
        items.append(("Removed", "before this run began"))
    else:
        items.append(("Removed at epoch", f"{stats.gone[row]}"))
        items.append(("δ_prune", f"{stats.delta_prune[row]:.3f} < τ {stats.threshold[row]:.3f}"))
        items.append(("Nearest survivor", f"{stats.nearest[row]}, at {stats.nearest_distance[row]:.3f}"))
        items.append(("Picture", f"of epoch {stats.seen[row]}" if stats.seen[row] else "none was stored before"))
    cells = "".join(
        f'<tr title="{esc(explain(name))}"><td>{esc(name)}</td><td class="num">{esc(value)}</td></tr>'
        for name, value in items
    )
    return f'<table class="sauron-table"><tbody>{cells}</tbody></table>'


def _legend(labels: Mapping[str, int], predicted: bool) -> str:
    colours = class_colours(list(labels.values()))
    items = [
        f'<span><i style="--swatch:{esc(colours[str(value)])}"></i>{esc(name)}</span>'
        for name, value in labels.items()
        if value
    ]
    if predicted:
        items.append('<span><i class="dashed"></i>prediction</span>')
    return f'<div class="sauron-legend">{"".join(items)}</div>'
