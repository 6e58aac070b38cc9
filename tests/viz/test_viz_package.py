"""The package from outside: imports, command, notebooks."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from typer.testing import CliRunner

from sauron_viz.cli import app, main
from sauron_viz.serve import ServeError, check, settings, views

NAMES = ["dashboard", "feature_maps", "layer_trends", "pruning", "quickstart"]


@pytest.mark.parametrize("module", ["sauron_viz.apps", "sauron_viz.cli"])
def test_views_import_no_torch(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('torch', 'monai', 'voila') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_notebooks_are_short_and_without_outputs() -> None:
    assert set(NAMES) <= set(views())
    for name in NAMES:
        notebook = nbformat.read(views()[name], as_version=4)
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert 1 <= len(cells) <= 5
        assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
        assert "widgets" not in notebook.metadata


@pytest.mark.notebook
@pytest.mark.parametrize("name", NAMES)
def test_notebooks_run(name: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAURON_RUNS", str(runs))
    notebook = nbformat.read(views()[name], as_version=4)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in outputs)
    assert 'class=\\"sauron-alert' not in json.dumps(notebook.metadata.get("widgets", {}))


def test_a_mistake_is_one_sentence_and_exit_code_2(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sauron-viz", "serve", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("sauron-viz: ")
    assert "is not a folder" in message
    assert message.count("\n") == 1
    with pytest.raises(ServeError, match="choose one of dashboard"):
        check(runs, "nothing", 8866)


def test_a_busy_port_is_said(runs: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ServeError, match="is in use; choose another with --port"):
            check(runs, "dashboard", other.getsockname()[1])


def test_help_teaches() -> None:
    text = CliRunner().invoke(app, ["serve", "--help"]).output
    for word in ("RUNS", "--port", "--no-browser", "ssh -L"):
        assert word in text
    assert "quickstart" in CliRunner().invoke(app, ["views"]).output


def test_voila_listens_here_only_and_hands_out_no_files() -> None:
    values = settings(8866, False)
    assert values["Voila"]["ip"] == "127.0.0.1"
    assert values["Voila"]["port_retries"] == 0
    assert values["VoilaConfiguration"]["file_allowlist"] == ["$^"]
    assert values["MappingKernelManager"]["cull_connected"] is False
