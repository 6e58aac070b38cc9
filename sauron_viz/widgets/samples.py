"""Augmented samples of a recipe that is about to be trained, as `sauron-train preview` draws them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from pathlib import Path

from sauron_train.errors import RunError, SauronError
from sauron_viz.widgets.base import box, esc, show, text
from sauron_viz.widgets.controls import Actions
from sauron_viz.worker import Job

_CASES, _DRAWS = 3, 6
_NOTE = (
    "Pieces of training images as they are and as often augmented, with the outlines of their labels. Structures "
    "should stay what they are, outlines should lie on their edges, and nothing that matters should leave the picture."
)
_ALT = "Rows of pictures: a piece of a training image, and beside it the same piece augmented several times"
_LARGEST = 32 * 2**20


class SamplesCard:
    """A button that draws them, and the picture below it.

    Args:
        asked: the words of the command, of what the form says now; told when the button is pressed.
        guard: see `Notice.guard`.
    """

    def __init__(self, asked: Callable[[], Sequence[str]], guard: Callable[..., Callable[..., None]]) -> None:
        self._asked = asked
        self._job: Job | None = None
        self.button = Actions(guard(self._pressed), options=[["draw", "See augmented samples"]])
        self.said = text("")
        self.picture = text("")
        self.card = box(text(f'<h2>Augmented samples</h2><p class="sauron-note">{_NOTE}</p>'), self.said, self.picture)
        for name in ("sauron-card", "sauron-stack", "sauron-tight"):
            self.card.add_class(name)
        show(self.card, False)

    def draw(self) -> Job:
        """Draw samples of what the form says now.

        Raises:
            SauronError: something that was filled in cannot be used, or no process can be started.
        """
        words = ["preview", *self._asked(), f"--cases={_CASES}", f"--draws={_DRAWS}"]
        if self._job is not None:
            self._job.cancel()
        self._job = Job(words, self._advance, self._ended, "augmented.png")
        self._job.start()
        show(self.card, True)
        self._say("Reading cases …")
        return self._job

    def _pressed(self, _what: str) -> None:
        try:
            self.draw()
        except SauronError as error:
            show(self.card, True)
            self._say(str(error), wrong=True)

    def _advance(self, done: int, total: int, case: str) -> None:
        if done < total:
            self._say(f"Case {done + 1} of {total}: {case} …")

    def _ended(self, made: Path | None, why: str) -> None:
        if made is None:
            # Of one that was cancelled there is nothing to say: another is on its way.
            if why:
                self._say(why, wrong=True)
            return
        try:
            if made.stat().st_size > _LARGEST:
                raise RunError("the picture has become too large to show")
            content = base64.b64encode(made.read_bytes()).decode()
            picture = f'<img alt="{_ALT}" src="data:image/png;base64,{content}">'
            self.picture.value = (
                f'<div class="sauron-sheet" tabindex="0" role="region" aria-label="Augmented samples">{picture}</div>'
            )
            self._say("")
        except (OSError, RunError) as error:
            self._say(str(error), wrong=True)
        finally:
            if self._job is not None and self._job.out == made:
                self._job.discard()

    def _say(self, sentence: str, wrong: bool = False) -> None:
        look = 'class="sauron-alert" role="alert"' if wrong else 'class="sauron-note" role="status"'
        self.said.value = f"<p {look}>{esc(sentence)}</p>" if sentence else ""
