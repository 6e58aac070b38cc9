"""Files that grow: read piece by piece they say what they say read at once."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sauron_train.errors import RunError
from sauron_train.runlog import Pruning, RemovedFilter
from sauron_train.runlog.growing import GrowingPrunings, GrowingTable
from sauron_train.runlog.schema import LayerRow, layer_columns
from sauron_train.runlog.writer import csv_lines

ROW = LayerRow(1, "enc_conv_1", 8)


@st.composite
def rows(draw: st.DrawFn) -> LayerRow:
    """A line of layers.csv of any kind: with and without pruning, with and without a dip."""
    numbers = st.none() | st.floats(0, 1, allow_nan=False).map(lambda value: float(f"{value:.8g}"))
    flags = st.none() | st.booleans()
    return LayerRow(
        epoch=draw(st.integers(1, 500)),
        layer=draw(st.sampled_from(["enc_conv_1", "dec_trans_1"])),
        filters=draw(st.integers(1, 480)),
        delta_opt=draw(numbers),
        dip=draw(numbers),
        dip_n=draw(st.none() | st.integers(1, 99)),
        dip_method=draw(st.none() | st.sampled_from(["table", "bootstrap"])),
        threshold=draw(numbers),
        patience=draw(st.none() | st.integers(0, 5)),
        raised=draw(flags),
        enough_epochs=draw(flags),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(rows(), max_size=4), min_size=1, max_size=5))
def test_a_table_read_as_it_grows_is_the_table_read_at_once(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[LayerRow]]
) -> None:
    path = tmp_path_factory.mktemp("table") / "layers.csv"
    path.write_text(csv_lines(layer_columns(), []))
    growing = GrowingTable(path)
    for part in parts:
        with path.open("a") as file:
            file.write(csv_lines(layer_columns(), [row.cells() for row in part], header=False))
        whole = pd.read_csv(path)
        found = growing.read()
        assert list(found.columns) == list(whole.columns)
        assert (
            found.reset_index(drop=True)
            .astype(object)
            .where(found.notna(), None)
            .equals(whole.astype(object).where(whole.notna(), None))
        )


def test_a_torn_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "epochs.csv"
    path.write_text("epoch,loss\n1,0.5\n2,0.")
    growing = GrowingTable(path)
    assert growing.read()["epoch"].tolist() == [1]
    with path.open("a") as file:
        file.write("25\n")
    assert growing.read()["loss"].tolist() == [0.5, 0.25]
    assert growing.read() is growing.read()


def test_a_file_that_was_replaced_or_cut_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "epochs.csv"
    path.write_text("epoch,loss\n1,0.5\n2,0.4\n")
    growing = GrowingTable(path)
    assert len(growing.read()) == 2
    path.write_text("epoch,loss\n1,0.5\n")
    assert len(growing.read()) == 1
    (tmp_path / "new").write_text("epoch,other\n1,7\n2,8\n3,9\n")
    os.replace(tmp_path / "new", path)
    assert growing.read()["other"].tolist() == [7, 8, 9]


def test_only_what_is_new_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "epochs.csv"
    path.write_text("epoch,loss\n" + "".join(f"{epoch},0.5\n" for epoch in range(1, 5001)))
    growing = GrowingTable(path)
    growing.read()
    sizes = []
    parse = pd.read_csv
    monkeypatch.setattr(pd, "read_csv", lambda source: sizes.append(len(source.getvalue())) or parse(source))
    with path.open("a") as file:
        file.write("5001,0.5\n")
    assert growing.read()["epoch"].iloc[-1] == 5001
    assert max(sizes) < 40


def test_damage_is_said_and_mended_files_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "epochs.csv"
    growing = GrowingTable(path)
    with pytest.raises(RunError, match="cannot be read"):
        growing.read()
    path.write_text("")
    with pytest.raises(RunError, match="no header"):
        growing.read()
    path.write_text("epoch,loss\n1,2,3,4\n5\n")
    path.write_text("epoch,loss\n1,0.5\n")
    assert len(growing.read()) == 1


def test_records_are_read_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "prunings.jsonl"
    line = (
        '{"epoch": 1, "layer": "enc_conv_1", "threshold": 0.1, "patience": 0, "reference": 2, "filters_before": 8, '
        '"filters_after": 7, "removed": [{"filter": 3, "delta_prune": 0.05, "nearest": 2, "distance": 0.01}]}\n'
    )
    path.write_text(line)
    growing = GrowingPrunings(path)
    first = Pruning(1, "enc_conv_1", 0.1, 0, 2, 8, 7, (RemovedFilter(3, 0.05, 2, 0.01),))
    assert growing.read() == [first]
    with path.open("a") as file:
        file.write(line.replace('"epoch": 1', '"epoch": 2') + line[:20])
    assert growing.read() == [first, replace(first, epoch=2)]
    path.write_text("no record\n")
    for _ in range(2):
        with pytest.raises(RunError, match="damaged"):
            growing.read()
