"""Takes files of the reader's own from the browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
from traitlets import Bool, Int, Unicode

from sauron_viz.intake import Intake, IntakeError
from sauron_viz.scratch import scratch_folder, throw_away
from sauron_viz.widgets.base import logger, script


class Upload(anywidget.AnyWidget):
    """A field for NIfTI files, chosen or dropped; they are sent in pieces, so that a server's limit on messages holds.

    `limit` is how many bytes they may have together, `count` how many they must be, as `needs` says in words; 0 = any.
    Several views of it may be on a page: one of them sends at a time.

    Args:
        on_files: told the files, by name, and the folder that is to be thrown away after them.
        on_problem: told in a sentence why a file was not taken; "" when the next one begins.
        on_drop: told that the sending was cancelled.
    """

    _esm = script("upload.js")
    label = Unicode().tag(sync=True)
    hint = Unicode().tag(sync=True)
    accept = Unicode(".nii,.gz").tag(sync=True)
    multiple = Bool(False).tag(sync=True)
    disabled = Bool(False).tag(sync=True)
    limit = Int(0)
    count = Int(0)
    needs = Unicode()

    def __init__(
        self,
        on_files: Callable[[list[Path], Path], None],
        on_problem: Callable[[str], None],
        on_drop: Callable[[], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._on_files, self._on_problem, self._on_drop = on_files, on_problem, on_drop
        self._folder: Path | None = None
        self._intake: Intake | None = None
        self._turn: Any = None
        self.on_msg(self._answer)

    def _answer(self, _widget: Any, content: dict[str, Any], buffers: Any) -> None:
        turn = next((content[key] for key in ("begin", "piece", "drop") if key in content), None)
        if "begin" not in content and turn != self._turn:
            return
        try:
            self._hear(content, buffers)
        except IntakeError as error:
            self._refuse(turn, str(error))
        except Exception:
            # Without an answer the page would wait for ever.
            logger().exception("in an upload")
            self._refuse(turn, "the file could not be taken")

    def _hear(self, content: dict[str, Any], buffers: Any) -> None:
        if "begin" in content:
            if self._intake is not None:
                self.send({"turn": self._turn, "wanted": None})
            self._drop()
            self._turn = content["begin"]
            self._on_problem("")
            files = [(str(name), int(size)) for name, size in content["files"]]
            if self.disabled:
                raise IntakeError("no file can be taken now; wait until the last one is done")
            if self.count and len(files) != self.count:
                raise IntakeError(f"{len(files)} files were chosen; this network needs {self.needs}")
            self._folder = scratch_folder()
            self._intake = Intake(self._folder, files, self.limit)
        elif "piece" in content and self._intake is not None:
            self._intake.take(content["place"], content["offset"], bytes(buffers[0]))
        else:
            self._drop()
            if content.get("unreadable"):
                self._on_problem(f"{content['unreadable']} cannot be read by the browser; choose it again")
            else:
                self._on_drop()
            return
        self._go_on(content.get("begin", content.get("piece")))

    def _go_on(self, turn: Any) -> None:
        if self._intake is None or self._folder is None:
            return
        wanted = self._intake.wanted
        self.send({"turn": turn, "wanted": wanted})
        if wanted is None:
            images, folder = self._intake.images, self._folder
            self._intake = self._folder = None
            self._on_files(images, folder)

    def _refuse(self, turn: Any, sentence: str) -> None:
        self._drop()
        self.send({"turn": turn, "wanted": None})
        self._on_problem(sentence)

    def _drop(self) -> None:
        if self._folder is not None:
            throw_away(self._folder)
        self._intake = self._folder = None
