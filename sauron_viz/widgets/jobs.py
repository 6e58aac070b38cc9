"""Trainings as they stand: one entry each, with its progress, what can be done with it, and its log."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import anywidget
from traitlets import List, Unicode

from sauron_viz.summaries import Summary
from sauron_viz.training.jobs import Job
from sauron_viz.training.progress import Progress, Tail
from sauron_viz.widgets.base import script
from sauron_viz.words import STATUS

_LOG_LINES = 300
_LARGEST_LOG = 8 * 2**20
_RESUMABLE = ("stopped", "failed", "lost")
_WORDS = STATUS | {"running": "training", "stopping": "stopping", "elsewhere": "training on another machine"}
_AGAIN = "From its beginning, with the same settings"
_STOP = "The epochs that are finished stay, and it can be resumed"
_KILL = "It has been asked to stop; this ends it in the middle of what it does. The epochs that are finished stay"
_RESUME = "Go on from the last finished epoch"
_STOPPING = "Asked to stop; it ends after what it is doing."
_ELSEWHERE = "Not started from here, so it cannot be stopped from here: press Ctrl-C where it runs."
_LOOK = "Open the run in all tabs"


class JobsView(anywidget.AnyWidget):
    """The list.

    `jobs` are tables made by `job_entry`; `opened` is the one whose log is shown, `tail` the end of that log. `problem`
    says why what was pressed could not be done.

    Args:
        on_press: told what was pressed and for which training.
    """

    _esm = script("jobs.js")
    jobs = List().tag(sync=True)
    opened = Unicode().tag(sync=True)
    tail = Unicode().tag(sync=True)
    empty = Unicode().tag(sync=True)
    problem = Unicode().tag(sync=True)

    def __init__(self, on_press: Callable[[str, str], None], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._on_press = on_press
        self._reader: Tail | None = None
        self._lines: deque[str] = deque(maxlen=_LOG_LINES)
        self.on_msg(self._answer)

    def fill(self, entries: Sequence[dict[str, Any]]) -> None:
        """Show these; nothing is sent where nothing has changed."""
        if self.jobs != list(entries):
            self.jobs = list(entries)

    def show_log(self, job: Job | None) -> None:
        """Open the log of a training, or close it."""
        self._reader = Tail(job.log) if job else None
        self._lines.clear()
        with self.hold_sync():
            self.opened = job.run if job else ""
            self.tail = ""
            self.follow()

    def follow(self) -> None:
        """Add what the open log has grown by."""
        new = self._reader.read() if self._reader else []
        if new:
            self._lines.extend(new)
            self.tail = "\n".join(self._lines)

    def save(self, job: Job) -> None:
        """Send a whole log to the browser, of a very long one the end."""
        try:
            with job.log.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - _LARGEST_LOG))
                content = file.read()
        except OSError:
            content = b""
        self.send({"save": f"{job.run.replace('/', '-')}.log"}, buffers=[content])

    def _answer(self, _widget: Any, content: dict[str, Any], _buffers: Any) -> None:
        value, wanted = content.get("press"), content.get("id")
        entry = next((entry for entry in self.jobs if entry["id"] == wanted), None)
        offered = [action[0] for action in entry["actions"]] if entry else []
        if value in offered or (value == "download" and "log" in offered):
            self._on_press(str(value), str(wanted))


def standing(job: Job | None, run: Summary | None) -> str:
    """How a training stands: what its process does, else what the run folder says, else its last word.

    Returns:
        running, stopping, finished, stopped, failed, lost, damaged, or elsewhere for another machine.
    """
    if job is not None and job.alive:
        return "stopping" if job.record.stopping else "running"
    killed = job is not None and job.record.stopping
    if run is not None:
        return "stopped" if killed and run.status == "lost" else run.status
    if job is None:
        return "lost"
    if ended := job.progress().ended:
        return ended
    if not job.here:
        return "elsewhere"
    return "stopped" if killed else "lost"


def job_entry(job: Job | None, run: Summary | None, opened: bool) -> dict[str, Any]:
    """What the list shows of a training.

    Args:
        job: None for a run that was not started from a view.
        run: its run folder; None while there is none.
        opened: whether its log is shown.
    """
    name = job.run if job else run.name if run else ""
    status = standing(job, run)
    live = job is not None and job.alive
    progress = job.progress() if job else Progress()
    note, wrong = _note(status, progress, run, ours=job is not None)
    return {
        "id": name,
        "name": name,
        "status": {"stopping": "stopped", "elsewhere": "running"}.get(status, status),
        "word": progress.phase if status == "running" and live else _WORDS.get(status, status),
        "share": _share(progress) if live else None,
        "numbers": _live(progress) if live else _ended(run),
        "note": note,
        "wrong": wrong,
        "actions": _actions(status, job, run, opened),
    }


def _share(progress: Progress) -> float:
    """For the bar; -1 while nothing can be told."""
    if progress.phase == "reading cases":
        return progress.step / progress.steps if progress.steps else -1.0
    share = progress.share
    return -1.0 if share is None or progress.phase == "starting" else round(share, 4)


def _live(progress: Progress) -> list[list[str]]:
    if progress.phase == "reading cases":
        return [["Cases", str(progress.step), f"of {progress.steps}"]]
    if not progress.epochs:
        return []
    left = progress.left_s
    cells = [["Epoch", str(progress.epoch or progress.done), f"of {progress.epochs}"]]
    if progress.phase == "training" and progress.steps:
        cells.append(["Step", str(progress.step), f"of {progress.steps}"])
    if progress.loss is not None:
        cells.append(["Loss", f"{progress.loss:.3f}", ""])
    if progress.dice is not None:
        cells.append(["Dice", f"{progress.dice:.3f}", ""])
    if progress.flops is not None:
        cells.append(["FLOPs left", f"{100 * progress.flops:.1f}", "%"])
    cells.append(["Time left", *(duration(left) if left is not None else ("–", ""))])
    if progress.device:
        cells.append(["On", progress.device, ""])
    return cells


def _ended(run: Summary | None) -> list[list[str]]:
    if run is None or not run.planned:
        return []
    cells = [["Epoch", str(run.epochs), f"of {run.planned}"]]
    if run.dice is not None:
        cells.append(["Dice", f"{run.dice:.3f}", ""])
    if run.flops is not None:
        cells.append(["FLOPs left", f"{100 * run.flops:.1f}", "%"])
    if run.seconds:
        cells.append(["Trained for", *duration(run.seconds)])
    return cells


def _note(status: str, progress: Progress, run: Summary | None, ours: bool) -> tuple[str, bool]:
    """A sentence, and whether it is one of something that went wrong."""
    if progress.ended == "failed" and status in _RESUMABLE:
        return (progress.why[:1].upper() + progress.why[1:]) or "It failed; the log says why.", True
    if status == "lost":
        kept = "The epochs that were finished are whole." if run and run.epochs else "No epoch was finished."
        return f"Its process is gone without a word. {kept} The log may say why; was memory short?", True
    if status == "damaged":
        return (run.problem if run else ""), True
    if status == "stopped" and (run is None or not run.epochs):
        return f"Stopped before {'its first epoch was finished' if run else 'anything was written'}.", False
    if status == "running":
        return "" if ours else _ELSEWHERE, False
    return _STOPPING if status == "stopping" else "", False


def _actions(status: str, job: Job | None, run: Summary | None, opened: bool) -> list[list[str]]:
    trained = run is not None and run.epochs > 0
    actions = []
    if status in _RESUMABLE and run is not None:
        actions.append(["resume", "Resume" if trained else "Start again", _RESUME if trained else _AGAIN, "main"])
    if status == "running" and job is not None and job.alive:
        actions.append(["stop", "Stop", _STOP, ""])
    if status == "stopping":
        actions.append(["kill", "Stop at once", _KILL, ""])
    if trained:
        actions.append(["look", "Look at it", _LOOK, ""])
    if job is not None:
        actions.append(["log", "Log", "What it has printed", "pressed" if opened else ""])
    return actions


def duration(seconds: float) -> tuple[str, str]:
    """A time in words: the number and its unit."""
    if seconds < 90:
        return f"{seconds:.0f}", "s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return str(minutes), "min"
    hours, rest = divmod(minutes, 60)
    return (f"{hours} h {rest:02d}", "min") if hours < 48 else (f"{hours / 24:.1f}", "days")
