"""An image of the reader's own: a network of the run sees it, then it is explored like a probe image."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from sauron_train.errors import RunError, SauronError
from sauron_viz.intake import megabytes
from sauron_viz.runs import RunView
from sauron_viz.scratch import throw_away
from sauron_viz.widgets.base import box, esc, show, text
from sauron_viz.widgets.controls import Actions, Select
from sauron_viz.widgets.explorer.scene import Scene
from sauron_viz.widgets.upload import Upload
from sauron_viz.worker import Job

LIMIT = 200 * 2**20


class OwnImageCard:
    """Chooses the network and takes the image; what is made of it is opened as a run that is not saved.

    `on_open` is called when that has happened.
    """

    def __init__(self, scene: Scene, on_open: Callable[[], None]) -> None:
        self.scene = scene
        self._on_open = on_open
        self._made: set[str] = set()
        self.job: Job | None = None
        self.about = text("")
        self.epoch = Select(label="Network of epoch")
        self.upload = Upload(self._taken, self._say, self._dropped, label="Your image", limit=LIMIT)
        self.progress = text("")
        self.cancel = Actions(scene.viewer.guard(lambda _: self._cancel()), options=[["cancel", "Cancel"]])
        self.said = text("")
        self.widget = box(
            self.about,
            self.epoch,
            self.upload,
            self.progress,
            self.cancel,
            self.said,
            css="sauron-stack sauron-tight sauron-own",
        )
        show(self.cancel, False)

    def update(self) -> None:
        """Offer the networks of the run, also where an image that was shown to one of them is looked at."""
        try:
            self._offer(self._source())
        except SauronError as error:
            for part in (self.epoch, self.upload):
                show(part, False)
            self.about.value = f'<p class="sauron-note">{esc(error)}</p>'

    def _offer(self, view: RunView) -> None:
        kept = view.run.checkpoints()
        shown = self.scene.epoch if self.scene.epoch in kept else (kept[-1] if kept else 0)
        with self.epoch.hold_sync():
            self.epoch.options = [[str(epoch), str(epoch)] for epoch in reversed(kept)]
            if self.epoch.value not in {str(epoch) for epoch in kept}:
                self.epoch.value = str(shown) if kept else ""
        channels = view.info.channels
        self.upload.multiple = len(channels) > 1
        self.upload.count, self.upload.needs = len(channels), _needs(channels)
        self.upload.hint = f"NIfTI (.nii.gz, .nii), at most {megabytes(LIMIT)}{_files(channels)}. Or drop it here."
        none = f"No weights of run {view.title} are kept, so no image can be shown to its network."
        self.about.value = _about(view) if kept else f'<p class="sauron-note">{esc(none)}</p>'
        for part in (self.epoch, self.upload):
            show(part, bool(kept))
        self._draw()

    def run(self, images: Sequence[Path], epoch: int | None = None, scratch: Path | None = None) -> None:
        """Show images, one per channel, to the network of an epoch, and look at what it makes of them.

        Args:
            images: NIfTI files in the order of the channels.
            epoch: whose weights; None = the one that is chosen in the card.
            scratch: a folder to throw away when the images have been read.

        Raises:
            RunError: an image is on the way already, or there are no weights.
        """
        view = self._source()
        if self.job is not None:
            raise RunError("another image is on its way through the network; wait for it or cancel it")
        at = str(epoch) if epoch is not None else self.epoch.value or str(max(view.run.checkpoints(), default=""))
        if not at:
            raise RunError(f"no weights of run {view.title} are kept, so no image can be shown to its network")
        self._say("")
        name = f"{view.title}: {_case(images[0])}, epoch {at}"
        words = ["maps", str(view.run.path), *map(str, images), "--epoch", at]
        begun = (view.name, self.scene.view.name)
        job = Job(words, self._advance, lambda made, why: self._ended(made, why, begun, scratch), name)
        job.start()
        self.job = job
        self._advance(0, 1, "starting")
        self._draw()

    def _source(self) -> RunView:
        """The run whose networks are offered: of an image of one's own the one that it was shown to."""
        folder, view = self.scene.viewer.folder, self.scene.view
        guest = folder.guests.get(view.name)
        if guest is None or view.name not in self._made or not folder.has(guest.origin):
            return view
        return folder.open(guest.origin)

    def _taken(self, images: list[Path], folder: Path) -> None:
        taken = False
        try:
            self.run(images, scratch=folder)
            taken = True
        except SauronError as error:
            self._say(str(error))
        finally:
            if not taken:
                throw_away(folder)

    def _advance(self, done: int, total: int, what: str) -> None:
        self.progress.value = (
            f'<label class="sauron-note">{esc(what)}<progress max="{total}" value="{done}"></progress></label>'
        )

    def _cancel(self) -> None:
        if self.job is not None:
            self.job.cancel()

    def _ended(self, made: Path | None, why: str, begun: tuple[str, str], scratch: Path | None) -> None:
        """`begun`: the run whose network it is, and the one that was looked at when the work began."""
        job, self.job = self.job, None
        if scratch is not None:
            throw_away(scratch)
        self.progress.value = ""
        self._draw()
        if made is None or job is None:
            # Where a file that was sent lay for a while means nothing to its sender.
            self._say(why.replace(f"{scratch}/", "") if why else "Cancelled.", wrong=bool(why))
            return
        viewer = self.scene.viewer
        try:
            view = viewer.welcome(made, job.name, begun[0], job.discard)
            self._made.add(view.name)
            if viewer.state.run not in begun:
                # Who has gone on to another run is not called back.
                self._say(f"{view.name} is ready: it is in the list of runs.", wrong=False)
                return
            viewer.state.run = view.name
            self._on_open()
        except SauronError as error:
            self._say(str(error))

    def _dropped(self) -> None:
        self._say("Cancelled.", wrong=False)

    def _say(self, sentence: str, wrong: bool = True) -> None:
        look = 'class="sauron-alert" role="alert"' if wrong else 'class="sauron-note" role="status"'
        self.said.value = f"<p {look}>{esc(sentence)}</p>" if sentence else ""

    def _draw(self) -> None:
        show(self.cancel, self.job is not None)
        self.upload.disabled = self.job is not None or not self.epoch.value


def _about(view: RunView) -> str:
    config = view.config
    patch = " × ".join(map(str, config.data.patch))
    flat = config.network.dim == 2
    part = f"of slices spread over it the middle {patch} pixels" if flat else f"of it the middle {patch} voxels"
    return (
        '<p class="sauron-note">What does this network make of an image of yours? It is prepared as those of '
        f"{esc(view.info.dataset)} were, and {part} are shown. It needs no label, and is thrown away with this page "
        "unless you save what was made of it.</p>"
    )


def _case(image: Path) -> str:
    """A file's name without its ending and the number of its channel."""
    name = image.name.removesuffix(".gz").removesuffix(".nii")
    return re.sub(r"_\d{4}$", "", name) or name


def _files(channels: Sequence[str]) -> str:
    return f"; {_needs(channels)}" if len(channels) > 1 else ""


def _needs(channels: Sequence[str]) -> str:
    """How many files, and in which order."""
    if len(channels) == 1:
        return f"one file ({channels[0]})"
    return f"{len(channels)} files together, whose names sort as {', '.join(channels)}"
