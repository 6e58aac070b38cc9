"""The head of every dashboard: which run, how it stands, and its key numbers."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import ClassVar

import numpy as np

from sauron_train.runlog.files import INFO, LAYERS
from sauron_viz.runs import RunView
from sauron_viz.widgets.base import box, esc, show, text
from sauron_viz.widgets.controls import Select
from sauron_viz.widgets.origin import Origin
from sauron_viz.widgets.panel import Panel
from sauron_viz.words import HEADER, LIVE, STATUS, duration

_LATELY = 5
# Bytes, in which the last row of a table lies.
_TAIL = 2**14


class Header(Panel):
    """Run picker, status and key numbers."""

    watches: ClassVar[tuple[str, ...]] = ("version", "runs", "listed", "problem")

    def build(self) -> None:
        """Make the picker and the lines beside it."""
        self.title = text("")
        self.run = Select(label="Run")
        self.status = text("")
        self.numbers = text("")
        self.problem = text("")
        self.origin = Origin(self.viewer)
        self.run.observe(self.viewer.guard(self._picked), "value")
        self.bar = box(self.title, self.run, self.status, self.numbers, css="sauron-toolbar sauron-head")
        self.children = (
            self.bar,
            self.origin,
            self.viewer.notice,
            self.problem,
        )
        self._busy = False
        self.trains = False

    def name(self, title: str) -> None:
        """Give the page its heading."""
        self.title.value = f"<h1>{esc(title)}</h1>"

    def below_is_training(self) -> None:
        """Do not tell how a first run is trained in a terminal: it can be trained below."""
        self.trains = True
        self.update()

    def update(self) -> None:
        """Show the open run as it stands."""
        state, view = self.viewer.state, self.viewer.view
        self._busy = True
        with self.run.hold_sync():
            self.run.options = [[name, self._name(name)] for name in state.runs]
            self.run.value = state.run
        self._busy = False
        show(self.bar, bool(state.runs) or self.trains)
        show(self.run, bool(state.runs))
        status = view.status if view else ("damaged" if state.run else "")
        word = STATUS.get(status, status)
        left = _time_left(view) if view and status == "running" else ""
        hint = f' title="{esc(LIVE)}"' if status == "running" else ""
        shown = f'<span class="sauron-status {esc(status)}" data-status="{esc(status)}"{hint}>{esc(word)}{left}</span>'
        self.status.value = shown if word else ""
        self.numbers.value = key_numbers(view) if view else ""
        self.problem.value = self._problem(view)

    def _picked(self, change: object) -> None:
        if not self._busy:
            self.viewer.state.run = self.run.value

    def _name(self, name: str) -> str:
        if name in self.viewer.folder.guests:
            return f"{name} (not saved)"
        status = self.viewer.folder.status(name)
        title = self.viewer.folder.root.resolve().name if name == "." else name
        return title if status == "finished" else f"{title} ({status})"

    def _problem(self, view: RunView | None) -> str:
        state = self.viewer.state
        if not state.runs and self.trains:
            return (
                f'<p class="sauron-note" data-problem="yes">{esc(state.problem)} The first one can be trained here.</p>'
            )
        if not state.runs:
            return _no_runs(state.problem, str(self.viewer.folder.root))
        if state.problem:
            return f'<p class="sauron-alert" data-problem="yes">{esc(state.problem)}{self._what_to_do(view)}</p>'
        return "" if view is None else _about(view)

    def _what_to_do(self, view: RunView | None) -> str:
        """What is left of a run that cannot be shown, and where to go on."""
        state = self.viewer.state
        path = self.viewer.folder.root / state.run
        if view is not None or not state.run or not (path / INFO).is_file():
            return ""
        stop = "" if state.problem.endswith(("?", ".")) else "."
        others = "Choose another run above. " if len(state.runs) > 1 else ""
        return f"{stop} {others}What is left of it: <code>{esc(_check(path))}</code>"


def _about(view: RunView) -> str:
    """What of a run is gone, how it ended if not well, or what is odd about its data."""
    told, layers = (
        (int(view.epochs["epoch"].iloc[-1]), _last_epoch(view.run.path / LAYERS)) if len(view.epochs) else (0, 0)
    )
    if layers < told:
        until = f"ends at epoch {layers} of {told}" if layers else "has no rows"
        return (
            f'<p class="sauron-alert">layers.csv {until}, so what is shown of layers lacks the rest. '
            f"<code>{esc(_check(view.run.path))}</code> tells what else is damaged.</p>"
        )
    if view.status == "failed" and view.info.message:
        return f'<p class="sauron-alert">Training failed: {esc(view.info.message)}</p>'
    if view.status == "lost":
        return (
            '<p class="sauron-alert">The process that trained this run is gone. '
            "The epochs it had finished are shown. Go on with them: "
            f"<code>sauron-train resume {esc(shlex.quote(str(view.run.path)))}</code>; "
            "<code>sauron-train check</code> tells whether anything is damaged.</p>"
        )
    if view.info.remarks:
        remarks = " ".join(remark if remark.endswith("?") else f"{remark}." for remark in view.info.remarks)
        return f'<p class="sauron-note">About the data: {esc(remarks)}</p>'
    return ""


def _last_epoch(table: Path) -> int:
    """Of the last whole row; 0 where there is none. The whole table is only read where it is shown."""
    try:
        with table.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            row = file.read().rpartition(b"\n")[0].rpartition(b"\n")[2]
    except OSError:
        return 0
    first = row.partition(b",")[0]
    return int(first) if first.isdigit() else 0


def _check(path: Path) -> str:
    return f"sauron-train check {shlex.quote(str(path))}"


def _time_left(view: RunView) -> str:
    """How long the epochs that are left will take, if they take as long as the last ones did."""
    seconds, left = view.epochs["seconds"].tail(_LATELY).mean(), view.info.epochs_planned - len(view.epochs)
    return f" <small>about {duration(left * seconds)} left</small>" if left > 0 and seconds > 0 else ""


def _no_runs(problem: str, root: str) -> str:
    train = f"sauron-train run --recipe phantom2d --data data/phantom --out {root}/first"
    command = esc(f"sauron-train phantom data/phantom && {train}")
    return (
        '<div class="sauron-card sauron-empty" data-problem="yes"><h2>No runs to show</h2>'
        f"<p>{esc(problem)}</p><p>Train one with <code>{command}</code></p>"
        "<p>It appears here by itself, and is followed while it trains.</p></div>"
    )


def key_numbers(view: RunView) -> str:
    """What a run is and how it ended, as markup."""
    info, epochs = view.info, view.epochs
    cells = [("Data set", f"{esc(info.dataset)} <small>{esc(view.config.network.dim)}D</small>")]
    done = int(epochs["epoch"].iloc[-1]) if len(epochs) else 0
    cells.append(("Epoch", f"{done} <small>of {esc(info.epochs_planned)}</small>"))
    if done:
        last = epochs.iloc[-1]
        start = sum(layer.filters for layer in info.layers)
        dice = last["val_dice"]
        cells += [
            ("Dice", "–" if np.isnan(dice) else f"{dice:.3f}"),
            ("Filters left", f"{int(last['filters'])} <small>of {esc(start)}</small>"),
            ("Parameters left", _percent(last["parameters"], info.parameters)),
            ("FLOPs left", _percent(last["flops"], info.flops)),
        ]
    loss = view.config.loss
    mode = "off" if loss.normalization == "off" else f"{esc(loss.normalization)} <small>λ = {loss.lambda_:g}</small>"
    cells.append(("δ_opt", mode))
    items = "".join(
        f'<div title="{esc(HEADER[name])}"><dt>{esc(name)}</dt><dd>{value}</dd></div>' for name, value in cells
    )
    return f'<dl class="sauron-numbers" data-epoch="{esc(done)}">{items}</dl>'


def _percent(now: float, whole: float) -> str:
    return f"{100 * now / whole:.1f} <small>%</small>" if whole else "–"
