"""Why a file is no image that can be read, told from what it is and how it begins."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from sauron_train.errors import DataError

_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"
_LFS = b"version https://git-lfs"
# The size of the header, with which every NIfTI file begins: of version 1 and 2.
_NIFTI = (348, 540)
_LOOKED_AT = 512


def unreadable(path: Path, error: Exception) -> DataError:
    """What to say of a file that is there and cannot be read.

    Args:
        path: the file.
        error: what reading it raised; told where nothing better is known.
    """
    return DataError(f"{path} {_reason(path, error)}")


def absent(path: Path) -> DataError:
    """What to say of a file that is not there, or of a link that leads nowhere."""
    return DataError(f"{path} {no_file(path) or 'does not exist'}")


def no_file(path: Path) -> str:
    """What stands in the place of a file, as a link to nothing or a folder; "" where there is a file, or nothing."""
    if path.is_symlink() and not path.exists():
        return f"is a link to {os.readlink(path)}, where nothing is; correct the link, or put the file itself there"
    if path.is_dir():
        return "is a folder, where an image file should be; put the file itself there"
    return ""


def _reason(path: Path, error: Exception) -> str:
    if instead := no_file(path):
        return instead
    try:
        with path.open("rb") as file:
            start = file.read(_LOOKED_AT)
    except PermissionError:
        return "cannot be read, because you may not; change its permissions"
    except OSError as failure:
        return f"cannot be read ({failure.strerror or failure}); look at the disk, or fetch it again"
    return (
        _content(path, start)
        or f"cannot be read ({' '.join(str(error).split())}); it is damaged or incomplete, fetch it again"
    )


def _content(path: Path, start: bytes) -> str:
    """What the first bytes give away; "" where they could be those of an image."""
    packed = path.name.endswith(".gz")
    if not start:
        return "cannot be read, because it is empty; fetch it again"
    if start.startswith(_GZIP):
        return (
            "" if packed else "is compressed although its name does not end in .gz; rename it to .nii.gz, or unpack it"
        )
    if start.startswith(_LFS):
        return "is only a pointer of Git LFS to the image; get the image with `git lfs pull`"
    if start.startswith(_ZIP):
        return "is a ZIP archive, not an image; unpack it"
    if _is_nifti(start):
        wrong = "is not compressed although its name ends in .gz; rename it to .nii, or compress it with gzip"
        return wrong if packed else ""
    return _text(start)


def _is_nifti(start: bytes) -> bool:
    return len(start) >= 4 and any(struct.unpack(f"{order}i", start[:4])[0] in _NIFTI for order in "<>")


def _text(start: bytes) -> str:
    try:
        # The last character may be cut in its middle.
        words = start[:-3].decode() if len(start) == _LOOKED_AT else start.decode()
    except UnicodeDecodeError:
        return ""
    if not all(sign.isprintable() or sign.isspace() for sign in words):
        return ""
    if words.lstrip("\ufeff \t\r\n").lower().startswith(("<!doctype html", "<html", "<?xml")):
        return "is a web page, not an image, as a server sends in place of a file; fetch it again, logged in if need be"
    return f"is a text file, not an image (it begins with {words.strip()[:20]!r}); fetch it again"
