"""Damaged and hostile NIfTI files are refused in a sentence, from their header where that tells, in bounded memory."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sauron_train.data.nifti import read_grid, read_header, read_voxels
from sauron_train.errors import DataError

EASY = settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
GOOD = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.diag([1.0, 2.0, 3.0, 1.0])).to_bytes()
GOOD_2 = nib.Nifti2Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4)).to_bytes()


def read(path: Path) -> None:
    """As a data set and an upload are read; any other error than Sauron's own goes through."""
    for reading in (read_header, read_voxels, read_grid):
        try:
            reading(path)
        except DataError as error:
            assert str(path) in str(error), "the file is named"
            assert "\n" not in str(error)


def write(folder: Path, content: bytes, packed: bool) -> Path:
    path = folder / ("image.nii.gz" if packed else "image.nii")
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


@EASY
@given(
    good=st.sampled_from([GOOD, GOOD_2]),
    changes=st.lists(st.tuples(st.integers(0, 551), st.integers(0, 255)), min_size=1, max_size=8),
    packed=st.booleans(),
)
@example(good=GOOD, changes=[(40, 0)], packed=False)
@example(good=GOOD, changes=[(43, 128)], packed=False)
def test_headers_with_other_bytes(tmp_path: Path, good: bytes, changes: list[tuple[int, int]], packed: bool) -> None:
    content = bytearray(good)
    for place, value in changes:
        content[place % len(content)] = value
    read(write(tmp_path, bytes(content), packed))


@EASY
@given(content=st.binary(max_size=600), packed=st.booleans(), headed=st.booleans())
def test_files_of_anything(tmp_path: Path, content: bytes, packed: bool, headed: bool) -> None:
    read(write(tmp_path, GOOD[:352] + content if headed else content, packed))


@EASY
@given(length=st.integers(0, 200), flip=st.integers(0, 10_000))
def test_packed_bodies_that_were_cut_or_changed(tmp_path: Path, length: int, flip: int) -> None:
    path = write(tmp_path, GOOD, packed=True)
    whole = bytearray(path.read_bytes())
    whole[flip % len(whole)] ^= 1 << flip % 8
    path.write_bytes(whole[: len(whole) - length] or b"")
    read(path)


def claiming(*sides: int) -> bytes:
    """A file of sixty voxels that says it has more."""
    content = bytearray(GOOD_2)
    struct.pack_into("<8q", content, 16, 3, *sides, 1, 1, 1, 1)
    return bytes(content)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("sides", [(10_000, 10_000, 10_000), (2**31, 2**31, 4), (2**62, 2, 2)])
def test_a_header_that_claims_too_much_is_refused_from_the_header(
    tmp_path: Path, sides: tuple[int, int, int], packed: bool
) -> None:
    path = write(tmp_path, claiming(*sides), packed)
    if packed:
        # What closes the file agrees with the claim, as in one that was made to deceive.
        size = (nib.load(path).dataobj.offset + 2 * sides[0] * sides[1] * sides[2]) % 2**32
        path.write_bytes(path.read_bytes()[:-4] + struct.pack("<I", size))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"ends before its last voxel|cannot be read|holds no voxels"):
        read_header(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_a_file_that_unpacks_to_far_more_than_its_header_says_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + bytes(200_000_000), packed=True)
    tracemalloc.start()
    with pytest.raises(DataError, match="unpacks to far more than the 472 bytes that its header says"):
        read_voxels(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


@pytest.mark.parametrize(("value", "place"), [(np.nan, 284), (np.inf, 284), (np.nan, 292), (np.inf, 292)])
def test_an_orientation_that_is_no_number_is_refused(tmp_path: Path, value: float, place: int) -> None:
    content = bytearray(GOOD)
    struct.pack_into("<f", content, place, value)
    with pytest.raises(DataError, match="an orientation matrix with a number that is none"):
        read_header(write(tmp_path, bytes(content), packed=False))
