"""The explorer in JupyterLab, where a researcher has it: the notebook as it comes, run cell by cell."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sauron_viz.serve import views

pytestmark = pytest.mark.browser

GRID = ".sauron-grid[data-ready*='|']"


@pytest.fixture
def lab(root: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a notebook in JupyterLab, which knows the runs as a user would tell it."""
    shutil.copy(views()["feature_maps"], tmp_path / "feature_maps.ipynb")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {"ip": "127.0.0.1", "port": port, "open_browser": False, "root_dir": tmp_path, "allow_root": True}
    command = [sys.executable, "-m", "jupyterlab", *(f"--ServerApp.{key}={value}" for key, value in options.items())]
    with (tmp_path / "lab.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--IdentityProvider.token=abc"],
            stdout=log,
            stderr=log,
            # Settings of the user's own, and what an earlier session has left open, are none of this test.
            env=os.environ | {"SAURON_RUNS": str(root), "JUPYTER_CONFIG_DIR": str(tmp_path / "config")},
        )
        try:
            end = time.monotonic() + 120
            while time.monotonic() < end and process.poll() is None:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.2)
            else:
                pytest.fail((tmp_path / "lab.log").read_text())
            yield f"http://127.0.0.1:{port}/lab/workspaces/new/tree/feature_maps.ipynb?reset&token=abc"
        finally:
            process.terminate()
            process.wait(30)


def test_the_notebook_explores_a_run_and_an_image(lab: str, page: Any, image: Path) -> None:
    page.goto(lab)
    page.wait_for_selector(".jp-Cell .cm-content")
    page.wait_for_selector("#jp-main-statusbar >> text=Idle")
    page.locator(".jp-Cell .cm-content").first.click()
    page.keyboard.press("Shift+Enter")
    page.wait_for_selector(GRID)
    page.press(".sauron-grid-canvas >> nth=0", "End")
    page.wait_for_selector(".sauron-strip button")
    page.get_by_label("Order").select_option("clusters")
    page.get_by_role("tab", name="Distances").click()
    page.wait_for_selector(".sauron-matrix[data-order=clusters]")
    page.get_by_role("tab", name="Your image").click()
    page.get_by_label("Your image").set_input_files(image)
    page.wait_for_selector(".sauron-origin >> text=Not saved")
    page.wait_for_selector(".sauron-grid[data-ready^='small: phantom_']")
