"""What to train, with which settings, and how the trainings stand that are on their way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from sauron_train.errors import SauronError
from sauron_train.runlog import Run
from sauron_viz.summaries import Summary
from sauron_viz.training.allowed import Allowed
from sauron_viz.training.jobs import Job, Jobs
from sauron_viz.widgets.base import box, esc, text
from sauron_viz.widgets.controls import Actions
from sauron_viz.widgets.jobs import JobsView, job_entry
from sauron_viz.widgets.panel import Panel
from sauron_viz.widgets.samples import SamplesCard
from sauron_viz.widgets.training_form import TrainingForm, capital
from sauron_viz.widgets.viewer import Viewer

_MOST_ENDED = 12
_LOOK_FOR_DATA_EVERY = 10
_EMPTY = "Nothing is being trained. What is started here goes on when this page is closed, and is found again by it."


class TrainingPanel(Panel):
    """Starts trainings in processes of their own, and follows, stops and resumes them.

    Args:
        viewer: what shows the runs.
        allowed: what may be trained.
    """

    watches: ClassVar[tuple[str, ...]] = ("runs",)

    def __init__(self, viewer: Viewer, allowed: Allowed) -> None:
        self.allowed = allowed
        self._beats = 0
        super().__init__(viewer)
        viewer.followers.append(self._follow)

    def build(self) -> None:
        """Make the form, the preview and the list."""
        guard = self.viewer.guard
        self.jobs = Jobs(self.viewer.folder.root)
        self.form = TrainingForm(self.allowed, self.jobs, guard)
        self.start_button = Actions(
            guard(lambda _: self._pressed_start()), options=[["start", "Start training"]], main="start"
        )
        self.form.on_change = self._draw_button
        self.samples = SamplesCard(self._words, guard)
        self.said = text("")
        self.list = JobsView(guard(self._pressed), empty=_EMPTY)
        left = box(
            self.form.widget,
            box(self.start_button, self.samples.button, css="sauron-row"),
            self.said,
            css="sauron-card sauron-stack sauron-tight",
        )
        self.asking = box(box(left, self.form.preview, css="sauron-training"), self.samples.card, css="sauron-stack")
        self.children = (self.asking, self.list)
        self._draw_button()

    def update(self) -> None:
        """List the trainings as they stand."""
        self.refresh()

    def refresh(self) -> None:
        """Look how the trainings stand; file times only where nothing has happened."""
        self.list.fill([job_entry(job, run, self.list.opened == name) for name, job, run in self._entries()])
        self.list.follow()

    def start(self, recipe: str, data: Path, name: str, changes: Sequence[str] = ()) -> Job:
        """Train a new run, and list it.

        Raises:
            RunError: a name that is none or is taken, or no process can be started.
        """
        job = self.jobs.start(name, recipe, data, changes)
        self.form.name.value = ""
        self.form.check()
        self.list.show_log(job)
        self.refresh()
        return job

    def seen(self, yes: bool) -> None:
        """Follow only while somebody looks."""
        super().seen(yes)
        if yes:
            self.refresh()

    def _follow(self) -> None:
        if not self._seen:
            return
        self._beats += 1
        if self._beats % _LOOK_FOR_DATA_EVERY == 0:
            self.form.offer()
        self.refresh()

    def _entries(self) -> list[tuple[str, Job | None, Summary | None]]:
        """Those that run, then those that ended, the latest first; of runs from elsewhere those that are not done."""
        viewer, folder = self.viewer, self.viewer.folder
        runs = {name: folder.summaries.of(name) for name in viewer.state.runs if name not in folder.guests}
        jobs = self.jobs.all()
        for job in jobs:
            # A run appears here as soon as its folder does, and not with the next look for runs.
            if job.run not in runs and folder.has(job.run):
                runs[job.run] = folder.summaries.of(job.run)
        found: list[tuple[bool, str, str, Job | None, Summary | None]] = [
            (job.alive, job.record.started, job.run, job, runs.get(job.run)) for job in jobs
        ]
        started = {job.run for job in jobs}
        found += [
            (run.status == "running", run.created, name, None, run)
            for name, run in runs.items()
            if name not in started and run.status in ("running", "stopped", "failed", "lost")
        ]
        found.sort(key=lambda each: each[:3], reverse=True)
        live = sum(each[0] for each in found)
        return [each[2:] for each in found[: live + _MOST_ENDED]]

    def _pressed_start(self) -> None:
        self._say("")
        try:
            asked = self.form.request()
            job = self.start(asked.recipe, asked.data, asked.name, asked.changes)
        except SauronError as error:
            # Beside the button: the top of the page may be out of sight.
            self._say(str(error), wrong=True)
            return
        self._say(f"{job.run} was started; it goes on when this page is closed.")

    def _pressed(self, what: str, name: str) -> None:
        self.list.problem = ""
        try:
            self._do(what, name, self.jobs.of(name))
        except SauronError as error:
            self.list.problem = capital(str(error))
        self.refresh()

    def _do(self, what: str, name: str, job: Job | None) -> None:
        match what:
            case "stop" | "kill" if job is not None:
                job.stop(at_once=what == "kill")
            case "resume":
                data = self.allowed.data_of(Run(self.jobs.root / name).info)
                self.list.show_log(self.jobs.resume(name, data))
            case "look":
                self.viewer.look_at(name)
            case "log" if job is not None:
                self.list.show_log(None if self.list.opened == name else job)
            case "download" if job is not None:
                self.list.save(job)

    def _words(self) -> list[str]:
        asked = self.form.unnamed()
        words = [f"--recipe={asked.recipe}", f"--data={asked.data}"]
        return [*words, *(f"--set={change}" for change in asked.changes)]

    def _draw_button(self) -> None:
        self.start_button.disabled = [] if self.form.ready else ["start"]

    def _say(self, sentence: str, wrong: bool = False) -> None:
        look = 'class="sauron-alert" role="alert"' if wrong else 'class="sauron-note" role="status"'
        self.said.value = f"<p {look}>{esc(sentence)}</p>" if sentence else ""
