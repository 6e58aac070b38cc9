"""All maps of a layer as a figure for an article."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sauron_train.errors import RunError
from sauron_train.runlog import Run
from sauron_viz.cli import app
from sauron_viz.figures import second_to_last
from sauron_viz.figures.gallery import CELL, as_svg, gallery

SVG = "{http://www.w3.org/2000/svg}"


def test_the_second_to_last_convolution_at_the_last_epoch(runs: Path) -> None:
    one = gallery(runs / "rats")
    assert one.title.startswith("rats: dec_conv_3, ")
    assert "epoch 12, image rat_031" in one.caption
    figure = second_to_last(runs / "off", Run(runs / "rats"))
    assert len(figure.layout.images) == 2
    assert [len(trace.text) for trace in figure.data] == [8, 8]
    assert "rats: dec_conv_3" in figure.layout.annotations[2].text


def test_the_drawing_holds_every_map_and_crosses_out_what_went(runs: Path) -> None:
    one = gallery(runs / "rats", "enc_conv_6")
    tree = ElementTree.fromstring(as_svg([one]))
    texts = [node.text for node in tree.iter(f"{SVG}text")]
    assert texts[0] == one.title
    assert texts[2:] == [str(number) for number in range(32)]
    gone = int((one.frame.stats.gone != 0).sum())
    assert len(list(tree.iter(f"{SVG}path"))) == gone > 0
    picture = next(tree.iter(f"{SVG}image")).get("href")
    assert picture is not None
    image = Image.open(io.BytesIO(base64.b64decode(picture.split(",")[1])))
    assert image.size == (one.size[0], one.size[1] - 48)
    assert len(image.getcolors(100_000) or []) > 50


def test_a_volume_is_cut_where_most_is_labelled(runs: Path) -> None:
    one = gallery(runs / "kits", image=1)
    assert one.frame.pixels.ndim == 3
    assert one.tall != CELL or one.aspect == 1
    with pytest.raises(RunError, match="probe images 0 to 1, not 7"):
        gallery(runs / "kits", image=7)


@pytest.mark.parametrize(
    ("run", "words", "sentence"),
    [
        ("rats", ["--layer", "enc"], "has no maps of enc; it has enc_conv_1"),
        ("rats", ["--epoch", "3"], "has no maps of epoch 3, only of 1, 4, 8, 12"),
        ("bare", [], "holds no feature maps"),
        ("damaged", [], "not valid JSON"),
        ("nowhere", [], "is not there"),
    ],
)
def test_what_cannot_be_drawn_is_said(runs: Path, tmp_path: Path, run: str, words: list[str], sentence: str) -> None:
    told = CliRunner().invoke(app, ["figures", str(runs / run), "--out", str(tmp_path / "x.svg"), *words])
    assert sentence in str(told.exception)
    assert list(tmp_path.iterdir()) == []


def test_command(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["figures", str(runs / "off"), str(runs / "rats")]
    assert CliRunner().invoke(app, words).exit_code == 0
    drawn = (tmp_path / "off-dec_conv_3.svg").read_text()
    assert drawn.count("<image") == 2
    assert "exists already" in str(CliRunner().invoke(app, words).exception)
    paper = [*words, "--out", "maps.pdf"]
    assert "neither .svg nor .html" in str(CliRunner().invoke(app, paper).exception)
    assert CliRunner().invoke(app, [*words, "--out", "page.html"]).exit_code == 0
    page = (tmp_path / "page.html").read_text()
    assert "rats: dec_conv_3" in page
    assert not re.search(r"<script[^>]+src=", page)


def test_maps_smaller_than_they_are_drawn_keep_their_pixels(runs: Path) -> None:
    one = gallery(runs / "rats", "enc_conv_6")
    tree = ElementTree.fromstring(as_svg([one]))
    picture = str(next(tree.iter(f"{SVG}image")).get("href"))
    mosaic = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.split(",")[1]))))
    place = int(one.frame.left[0])
    x, y = one.corner(place)
    tile = mosaic[y - 48 : y - 48 + one.tall, x : x + CELL]
    side = one.frame.pixels.shape[1]
    assert len({tuple(colour) for colour in tile.reshape(-1, 3)}) <= side * side


def test_a_dashboard_loads_no_pillow() -> None:
    code = "import sys, sauron_viz.apps; print('PIL' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
