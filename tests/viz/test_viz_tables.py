"""Table 4 of any run, in every form."""

from __future__ import annotations

import io
import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console
from sample import SampleRun, Spec
from typer.testing import CliRunner

from sauron_train.analysis.trends import paper_table4
from sauron_train.runlog import Run
from sauron_viz.cli import app, main
from sauron_viz.tables import FORMATS, ChangesTable, as_html, as_latex, as_text, changes_table, percent, print_table

TABLE = pd.DataFrame(
    {
        "layer": ["enc_conv_1", "enc_conv_7", "mine"],
        "filters": [32, 256, 8],
        "dip": [12.34, 688.0, math.nan],
        "delta_opt": [-0.01, -22.04, 5.0],
        "neighbours": [-74.3, math.inf, 0.0],
    }
)


def test_percent() -> None:
    assert [percent(v) for v in (2.1, -46.04, 0.0, -0.04, math.inf, math.nan)] == [
        "+2.1%", "−46.0%", "0.0%", "0.0%", "+∞", "–",
    ]  # fmt: skip


def test_text() -> None:
    lines = as_text(ChangesTable.of(TABLE, "a run")).splitlines()
    assert lines[0].strip() == "a run"
    assert lines[1].split() == ["Conv.", "layer", "Filters", "Dip-test", "Distances", "δ_opt", "Avg.", "neighbours"]
    assert lines[2].split() == ["enc_conv_1", "32", "+12.3%", "0.0%", "−74.3%"]
    assert lines[3].split() == ["enc_conv_7", "256", "■", "+688.0%", "−22.0%", "+∞"]
    assert "dip rose in 1 of 1 layers with 256 filters or more and in 1 of 1 smaller ones" in " ".join(
        " ".join(lines).split()
    )


def test_beside_the_paper() -> None:
    table = ChangesTable.of(TABLE, "a run", beside_paper=True)
    lines = as_text(table).splitlines()
    assert lines[2].split() == ["enc_conv_1", "32", "+12.3%", "≠", "−46.0%", "0.0%", "≠", "+2.1%", "−74.3%", "−74.3%"]
    assert "Same sign as in the paper: 4 of 6 cells" in " ".join(" ".join(lines).split())
    whole = ChangesTable.of(paper_table4(), "the paper", beside_paper=True)
    assert "66 of 66 cells" in " ".join(whole.reading)


def test_a_narrow_pipe_cuts_no_name_and_a_name_is_no_markup() -> None:
    file = io.StringIO()
    print_table(ChangesTable.of(paper_table4(), "exp[lr=0.1]", beside_paper=True), Console(file=file, width=80))
    shown = file.getvalue()
    assert "exp[lr=0.1]" in shown
    assert all(layer in shown for layer in paper_table4()["layer"])
    narrow = io.StringIO()
    print_table(
        ChangesTable.of(paper_table4(), "one", beside_paper=True), Console(file=narrow, width=60, force_terminal=True)
    )
    assert all(layer in narrow.getvalue() for layer in paper_table4()["layer"])


def test_a_change_that_reads_zero_is_counted_as_none() -> None:
    table = paper_table4()
    table["dip"] = 0.03
    assert "dip rose in 0 of 7" in as_text(ChangesTable.of(table, "flat"))


def test_csv_can_be_read_again() -> None:
    again = pd.read_csv(io.StringIO(FORMATS["csv"](ChangesTable.of(TABLE, "a run"))))
    pd.testing.assert_frame_equal(again.rename(columns=lambda name: name.removesuffix("_change_percent")), TABLE)


def test_groups_that_are_not_there_are_not_spoken_of() -> None:
    small = as_text(ChangesTable.of(TABLE[TABLE["filters"] < 256], "a run"))
    assert "dip rose in 1 of 1 layers; δ_opt" in " ".join(small.split())
    assert "No layer has 256 filters or more" in " ".join(small.split())
    empty = TABLE.assign(dip=math.nan, delta_opt=math.nan, neighbours=math.nan)
    assert "it takes three epochs or more" in as_text(ChangesTable.of(empty, "a run"))


def test_html_escapes_and_loads_nothing() -> None:
    page = as_html(ChangesTable.of(TABLE, "a <run> & more", beside_paper=True))
    assert "a &lt;run&gt; &amp; more" in page
    assert "http" not in page
    assert page.count('<tr class="large">') == 1


def test_latex_has_as_many_cells_as_columns() -> None:
    for beside in (False, True):
        text = as_latex(ChangesTable.of(TABLE, "a run", beside_paper=beside))
        columns = len(text.split(r"\begin{tabular}{")[1].split("}")[0])
        rows = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert {row.count("&") for row in rows} == {columns - 1}
        assert text.count(r"\rowcolor") == 1


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(tmp_path: Path) -> None:
    body = as_latex(ChangesTable.of(TABLE, "a run", beside_paper=True))
    page = (
        r"\documentclass{article}\usepackage{booktabs}\usepackage[table]{xcolor}\begin{document}"
        f"\n{body}\n" + r"\end{document}"
    )
    (tmp_path / "table.tex").write_text(page)
    subprocess.run(["pdflatex", "-halt-on-error", "table.tex"], cwd=tmp_path, check=True, capture_output=True)


def test_command(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs / "rats"
    told = CliRunner().invoke(app, ["table4", str(run), "--dip", "reference", "--radius", "0.2"])
    assert told.exit_code == 0, told.output
    assert "dip of distances to channel 0, neighbours within 0.2" in " ".join(told.output.split())
    out = tmp_path / "table.tex"
    assert CliRunner().invoke(app, ["table4", str(run), "--format", "latex", "--out", str(out)]).exit_code == 0
    assert out.read_text().rstrip().splitlines()[-1].startswith("%")
    assert r"\toprule" in out.read_text()
    by_name = tmp_path / "again.tex"
    assert CliRunner().invoke(app, ["table4", str(run), "--out", str(by_name)]).exit_code == 0
    assert r"\toprule" in by_name.read_text()
    for target, sentence in ((out, "exists already"), (tmp_path, "exists already"), (tmp_path / "no" / "t", "make it")):
        told = CliRunner().invoke(app, ["table4", str(run), "--out", str(target)])
        assert sentence in str(told.exception)
    other = CliRunner().invoke(app, ["table4", str(run), "--paper"])
    assert "has other layers than the paper's network" in str(other.exception)


def test_a_folder_that_cannot_be_written_is_said(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    # As root no folder is closed.
    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    for command in ("table4", "figures"):
        told = CliRunner().invoke(app, [command, str(runs / "rats"), "--out", str(tmp_path / f"{command}.svg")])
        assert "cannot be written: Permission denied" in str(told.exception)


def test_what_a_reader_must_know_of_the_run(runs: Path) -> None:
    def reading(name: str, **asked: Any) -> str:
        return " ".join(changes_table(Run(runs / name), **asked).reading)

    assert "Filters were cut in this run" in reading("rats")
    assert "Filters were cut" not in reading("rats", share=True) + reading("off")
    assert "epochs; it is" not in reading("rats")
    assert "2 of 3 epochs; it is failed" in reading("broken")
    assert "told from the distances stored at 4 epochs (1, 4, 8, 12)" in reading("rats", sample="pca")
    few = SampleRun(runs.parent / "few", Spec(init=3, levels=2, epochs=6, pruning=False)).run()
    assert "(fewer than 4 values)" in " ".join(changes_table(Run(few.path)).reading)


def test_no_run_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sauron-viz", "table4", str(tmp_path)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert "is not a run folder" in capsys.readouterr().err
