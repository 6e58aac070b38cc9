"""The package from outside: imports, command, notebooks."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from browser_search import find_browser, without_browser
from browsing import Served
from nbclient import NotebookClient
from typer.testing import CliRunner

import sauron_viz.serve
from sauron_viz.cli import app, main
from sauron_viz.serve import ServeError, application, check, settings, views

NAMES = ["compare", "dashboard", "feature_maps", "layer_trends", "pruning", "quickstart"]
NOTEBOOKS = Path(sauron_viz.serve.__file__).parent / "notebooks"


@pytest.mark.parametrize("module", ["sauron_viz.apps", "sauron_viz.cli"])
def test_views_import_no_torch(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('torch', 'monai', 'voila') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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


@pytest.mark.notebook
@pytest.mark.soak
def test_the_notebook_of_a_network_of_ones_own_runs(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the training part is not installed")
    notebook = nbformat.read(NOTEBOOKS / "your_own_network.ipynb", as_version=4)
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    words = "".join(o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", []))
    assert "the same output: True" in words
    assert "Left whole:\n  final_conv" in words
    counts = [int(n) for n in re.findall(r"(\d+) filters went", words)]
    assert sum(counts) > 0
    code = [line for cell in notebook.cells[:5] if cell.cell_type == "code" for line in cell.source.splitlines()]
    assert len([line for line in code if line.strip()]) < 30


def test_only_notebooks_that_show_runs_are_served() -> None:
    assert sorted(views()) == NAMES
    assert (NOTEBOOKS / "your_own_network.ipynb").is_file()


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
    with pytest.raises(ServeError, match="choose one of compare, dashboard"):
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
    assert values["KernelManager"]["transport"] == "ipc"


def test_the_browser_is_the_named_one_then_the_systems_then_the_bundled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled = tmp_path / "bundled"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SAURON_CHROMIUM", raising=False)
    assert find_browser(str(bundled)) == ""
    bundled.touch()
    assert find_browser(str(bundled)) == str(bundled)
    system = tmp_path / "google-chrome"
    system.touch(mode=0o755)
    assert find_browser(str(bundled)) == str(system)
    monkeypatch.setenv("SAURON_CHROMIUM", "/named")
    assert find_browser(str(bundled)) == "/named"


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_a_missing_browser_is_a_failure_only_where_tests_run_for_everybody(
    ci: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="no browser here"):
        without_browser("no browser here")


@pytest.fixture
def own_signals() -> Iterator[None]:
    """Voila answers SIGTERM once it is set up; the tests after it should not."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("own_signals")
def test_configuration_in_the_working_directory_is_neither_obeyed_nor_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hostile = {"Voila": {"ip": "0.0.0.0", "tornado_settings": {}}, "VoilaConfiguration": {"file_allowlist": [".*"]}}
    Path("voila.json").write_text(json.dumps(hostile))
    Path("voila.py").write_text("open('run', 'w').close()\n")
    monkeypatch.setenv("JUPYTER_PATH", str(Path(sauron_viz.serve.__file__).parent / "templates"))
    made = application(views()["dashboard"], 8866, False)
    assert made.ip == "127.0.0.1"
    assert made.tornado_settings["allow_remote_access"] is False
    assert made.voila_configuration.file_allowlist == ["$^"]
    assert not Path("run").exists()


@pytest.mark.usefixtures("own_signals")
def test_a_server_for_other_machines_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = settings(8866, False)
    wrong["Voila"]["ip"] = "0.0.0.0"
    monkeypatch.setattr(sauron_viz.serve, "settings", lambda *_: wrong)
    with pytest.raises(ServeError, match=r"would listen on '0\.0\.0\.0'"):
        application(views()["dashboard"], 8866, False)


def test_a_request_for_another_host_is_refused(dashboard: Served) -> None:
    def answer(host: str, path: str) -> int:
        line = http.client.HTTPConnection("127.0.0.1", dashboard.port, timeout=60)
        line.request("GET", path, headers={"Host": f"{host}:{dashboard.port}"})
        return line.getresponse().status

    kernel = "/api/kernels/00000000-0000-0000-0000-000000000000/channels"
    assert [answer("evil.example", path) for path in ("/", kernel)] == [403, 403]
    assert [answer(host, "/voila/api/themes/none") for host in ("localhost", "127.0.0.1")] == [404, 404]
