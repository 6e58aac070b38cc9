"""Takes in files that a browser sends piece by piece: only images, only as much as was said, only into one folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from sauron_train.errors import SauronError

ENDINGS = (".nii.gz", ".nii")
MOST_FILES = 32
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


class IntakeError(SauronError):
    """A file that is not taken."""


class Intake:
    """Files that come in, in the order of their names.

    Args:
        folder: where they are written.
        files: their names and sizes in bytes, as the sender says.
        limit: bytes of all of them together.

    Raises:
        IntakeError: none, too many or too large, not named like NIfTI, or two of one name.
    """

    def __init__(self, folder: Path, files: Sequence[tuple[str, int]], limit: int) -> None:
        if not 0 < len(files) <= MOST_FILES:
            raise IntakeError(f"choose one to {MOST_FILES} files")
        wrong = [name for name, _ in files if not name.lower().endswith(ENDINGS)]
        if wrong:
            raise IntakeError(f"{wrong[0]} is no NIfTI file by its name; choose files that end in .nii.gz or .nii")
        if any(size <= 0 for _, size in files):
            raise IntakeError("the file is empty")
        total = sum(size for _, size in files)
        if total > limit:
            raise IntakeError(f"{megabytes(total)} are more than the {megabytes(limit)} that may be sent")
        self.paths = [folder / _safe(name) for name, _ in files]
        # On some disks A.nii and a.nii are one file.
        if len({path.name.casefold() for path in self.paths}) < len(files):
            raise IntakeError("two of the files have the same name; rename one")
        self._sizes = [size for _, size in files]
        self._place, self._offset = 0, 0

    @property
    def wanted(self) -> tuple[int, int] | None:
        """Which file, by its place, and from which byte on it should go on; None when all is there."""
        return None if self._place == len(self.paths) else (self._place, self._offset)

    @property
    def images(self) -> list[Path]:
        """The files, by name: those of channels are numbered in the usual layouts."""
        return sorted(self.paths)

    def take(self, place: int, offset: int, piece: bytes) -> None:
        """Write the next piece.

        Raises:
            IntakeError: it is not the one that is wanted, it is longer than was said, or the disk does not take it.
        """
        if (place, offset) != self.wanted or not piece or offset + len(piece) > self._sizes[place]:
            raise IntakeError("the file did not arrive in order; send it again")
        try:
            with self.paths[place].open("ab" if offset else "wb") as file:
                file.write(piece)
        except OSError as error:
            raise IntakeError(f"the file cannot be stored: {error.strerror}") from None
        self._offset += len(piece)
        if self._offset == self._sizes[place]:
            self._place, self._offset = self._place + 1, 0


def megabytes(size: int) -> str:
    """A number of bytes in words."""
    return f"{size / 2**20:.0f} MB" if size >= 10 * 2**20 else f"{size / 2**20:.1f} MB"


def _safe(name: str) -> str:
    """A file name that means nothing but itself; its ending is kept."""
    plain = _UNSAFE.sub("_", name.replace("\\", "/").rpartition("/")[2]).lstrip(".-")
    ending = next(end for end in ENDINGS if name.lower().endswith(end))
    return f"{plain[: -len(ending)][:80] or 'image'}{ending}"
