"""Files that a browser sends: what is taken, what is refused, and what is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sauron_viz.intake import MOST_FILES, Intake, IntakeError
from sauron_viz.scratch import scratch_folder, throw_away
from sauron_viz.widgets.upload import Upload

LIMIT = 1000


def test_pieces_become_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    intake = Intake(tmp_path, [("b_0001.nii", 5), ("b_0000.nii.gz", 3)], LIMIT)
    assert intake.wanted == (0, 0)
    intake.take(0, 0, b"abc")
    assert intake.wanted == (0, 3)
    intake.take(0, 3, b"de")
    assert intake.wanted == (1, 0)
    intake.take(1, 0, b"xyz")
    assert intake.wanted is None
    assert [path.name for path in intake.images] == ["b_0000.nii.gz", "b_0001.nii"]
    assert [path.read_bytes() for path in intake.images] == [b"xyz", b"abcde"]


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ([], "choose one to"),
        ([("a.nii", 1)] * (MOST_FILES + 1), "choose one to"),
        ([("a.png", 1)], "no NIfTI file by its name"),
        ([("a.nii", 0)], "empty"),
        ([("a.nii", -1)], "empty"),
        ([("a.nii", LIMIT), ("b.nii", 1)], "more than"),
        ([("x/a.nii", 1), ("y/A.nii", 1)], "same name"),
    ],
)
def test_what_is_not_taken(tmp_path: Path, files: list[tuple[str, int]], sentence: str) -> None:
    with pytest.raises(IntakeError, match=sentence):
        Intake(tmp_path, files, LIMIT)


@pytest.mark.parametrize("piece", [(0, 1, b"a"), (1, 0, b"a"), (0, 0, b""), (0, 0, b"abcdef"), (-1, 0, b"a")])
def test_a_piece_out_of_order_is_refused(tmp_path: Path, piece: tuple[int, int, bytes]) -> None:
    intake = Intake(tmp_path, [("a.nii", 5), ("b.nii", 5)], LIMIT)
    with pytest.raises(IntakeError, match="in order"):
        intake.take(*piece)
    assert list(tmp_path.iterdir()) == []


@given(name=st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "in"
        folder.mkdir()
        intake = Intake(folder, [(f"{name}.nii.gz", 1)], LIMIT)
        intake.take(0, 0, b"x")
        assert [path.name for path in Path(place).iterdir()] == ["in"]
        assert intake.images[0].parent == folder
        assert intake.images[0].read_bytes() == b"x"
        assert intake.images[0].name.endswith(".nii.gz")


def uploading() -> tuple[Upload, list[Any], list[Any], list[str]]:
    taken: list[Any] = []
    said: list[str] = []
    sent: list[Any] = []
    upload = Upload(
        lambda images, folder: taken.append((images, folder)), said.append, lambda: said.append("dropped"), limit=LIMIT
    )
    upload.send = lambda content, buffers=None: sent.append(content)
    return upload, taken, sent, said


def test_the_browser_is_told_what_to_send_next() -> None:
    upload, taken, sent, said = uploading()
    upload._answer(None, {"begin": 1, "files": [["a.nii", 4]]}, [])
    assert sent[-1] == {"turn": 1, "wanted": (0, 0)}
    upload._answer(None, {"piece": 1, "place": 0, "offset": 0}, [memoryview(b"abcd")])
    assert sent[-1] == {"turn": 1, "wanted": None}
    images, folder = taken[0]
    assert images[0].read_bytes() == b"abcd"
    assert said == [""]
    throw_away(folder)


@pytest.mark.parametrize(
    "message",
    [
        {"begin": 1, "files": [["a.txt", 4]]},
        {"begin": 1, "files": [["a.nii", "many"]]},
        {"begin": 1, "files": 3},
        {"begin": 1},
    ],
)
def test_nonsense_is_refused_in_a_sentence(message: dict[str, Any]) -> None:
    upload, taken, sent, said = uploading()
    upload._answer(None, message, [])
    assert sent == [{"turn": 1, "wanted": None}]
    assert said[-1]
    assert taken == []
    assert upload._folder is None


def test_what_was_given_up_is_removed() -> None:
    upload, taken, _, said = uploading()
    upload._answer(None, {"begin": 1, "files": [["a.nii", 4]]}, [])
    folder = upload._folder
    assert folder is not None
    upload._answer(None, {"piece": 1, "place": 0, "offset": 0}, [b"ab"])
    upload._answer(None, {"drop": 1, "unreadable": "a.nii"}, [])
    assert not folder.exists()
    assert "a.nii cannot be read" in said[-1]
    upload._answer(None, {"piece": 1, "place": 0, "offset": 2}, [b"cd"])
    assert taken == []


def test_a_closed_field_takes_nothing() -> None:
    upload, taken, _, said = uploading()
    upload.disabled = True
    upload._answer(None, {"begin": 1, "files": [["a.nii", 4]]}, [])
    assert taken == []
    assert "no file can be taken now" in said[-1]


def test_the_number_of_files_is_looked_at_before_any_is_sent() -> None:
    upload, taken, sent, said = uploading()
    upload.count, upload.needs = 2, "2 files together"
    upload._answer(None, {"begin": 1, "files": [["a.nii", 4]]}, [])
    assert sent == [{"turn": 1, "wanted": None}]
    assert said[-1] == "1 files were chosen; this network needs 2 files together"
    assert taken == []


def test_two_views_of_the_field_do_not_mix_their_files() -> None:
    upload, taken, sent, _ = uploading()
    upload._answer(None, {"begin": 0.1, "files": [["a.nii", 4]]}, [])
    upload._answer(None, {"begin": 0.2, "files": [["b.nii", 4]]}, [])
    assert {"turn": 0.1, "wanted": None} in sent
    upload._answer(None, {"piece": 0.1, "place": 0, "offset": 0}, [b"aaaa"])
    upload._answer(None, {"drop": 0.1}, [])
    assert taken == []
    upload._answer(None, {"piece": 0.2, "place": 0, "offset": 0}, [b"bbbb"])
    images, folder = taken[0]
    assert [path.read_bytes() for path in images] == [b"bbbb"]
    throw_away(folder)


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = "import os; from sauron_viz.scratch import scratch_folder as s; print(s(), flush=True); os._exit(1)"
    told = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(tmp_path)}, capture_output=True, check=False
    )
    left = Path(told.stdout.decode().strip())
    assert left.is_dir()
    being_made = tmp_path / "sauron-scratch-x"
    being_made.mkdir()
    first, second = scratch_folder(), scratch_folder()
    assert not left.exists()
    assert being_made.exists()
    assert first.is_dir()
    alive = (
        "import sys; from pathlib import Path; from sauron_viz.scratch import scratch_folder; scratch_folder(); "
        f"sys.exit(not Path({str(first)!r}).is_dir())"
    )
    held = subprocess.run([sys.executable, "-c", alive], env=os.environ | {"TMPDIR": str(tmp_path)}, check=False)
    assert held.returncode == 0
    throw_away(first)
    assert not first.exists()
    throw_away(second)
