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
    """The address of notebooks in JupyterLab, with NAME for theirs; it knows the runs as a user would tell it."""
    for name, notebook in views().items():
        shutil.copy(notebook, tmp_path / f"{name}.ipynb")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {"ip": "127.0.0.1", "port": port, "open_browser": False, "root_dir": tmp_path, "allow_root": True}
    command = [sys.executable, "-m", "jupyterlab", *(f"--ServerApp.{key}={value}" for key, value in options.items())]
    with (tmp_path / "lab.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--IdentityProvider.token=abc", "--LabApp.expose_app_in_browser=True"],
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
            yield f"http://127.0.0.1:{port}/lab/workspaces/new/tree/NAME.ipynb?reset&token=abc"
        finally:
            process.terminate()
            process.wait(30)


def run_notebook(page: Any, lab: str, name: str) -> None:
    """Open a notebook and run its first cell."""
    page.goto(lab.replace("NAME", name))
    page.wait_for_selector(".jp-Cell .cm-content")
    page.wait_for_selector("#jp-main-statusbar >> text=Idle")
    page.locator(".jp-Cell .cm-content").first.click()
    page.keyboard.press("Shift+Enter")


def narrow_and_dark(page: Any) -> None:
    """A small window with Lab's dark theme, as its menu sets it."""
    page.set_viewport_size({"width": 1000, "height": 760})
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })")
    page.wait_for_selector("body[data-jp-theme-light=false]", state="attached")


def assert_it_fits_and_is_dark(page: Any) -> None:
    root = page.locator(".sauron >> nth=0")
    assert root.evaluate("(root) => root.scrollWidth <= root.clientWidth + 1"), "nothing is cut off at the side"
    card = page.locator(".sauron-card >> visible=true").first
    page.wait_for_function(
        "(card) => getComputedStyle(card).backgroundColor.match(/\\d+/g).slice(0, 3).every((part) => part < 80)",
        arg=card.element_handle(),
    )


@pytest.mark.soak
def test_every_panel_works_in_its_notebook(lab: str, page: Any) -> None:
    chart = ".sauron-chart[data-ready=yes]"
    run_notebook(page, lab, "layer_trends")
    page.wait_for_selector(chart)
    page.get_by_text("Heat map", exact=True).click()
    page.wait_for_selector(".sauron-chart[data-traces='2']")
    page.locator(".sauron-changes").get_by_role("button", name="enc_conv_1", exact=True).click()
    page.wait_for_selector(".sauron-changes tr[data-id=enc_conv_1][aria-current]")
    run_notebook(page, lab, "pruning")
    page.wait_for_selector(".sauron-network[data-ready=yes]")
    page.wait_for_selector(chart)
    before = page.get_attribute(".sauron-network", "data-epoch")
    page.get_by_role("slider", name="Epoch").press("Home")
    page.wait_for_selector(f".sauron-network:not([data-epoch='{before}'])")
    page.locator("[data-layer=dec_conv_1]").click()
    page.wait_for_selector("h2:text-is('dec_conv_1')")
    assert not page.get_by_role("button", name="Its trends").is_visible(), "there are no tabs to go to"
    narrow_and_dark(page)
    assert_it_fits_and_is_dark(page)
    run_notebook(page, lab, "compare")
    page.wait_for_selector(chart)
    assert_it_fits_and_is_dark(page)
    page.get_by_label("Curve", exact=True).select_option("flops")
    page.wait_for_selector("h2:text-is('FLOPs left')")
    run_notebook(page, lab, "dashboard")
    page.get_by_role("tab", name="Layer trends").click()
    page.wait_for_selector(f"{chart} >> visible=true")
    assert_it_fits_and_is_dark(page)
    page.get_by_role("tab", name="Pruning").click()
    page.wait_for_selector(".sauron-network[data-ready=yes]")
    assert_it_fits_and_is_dark(page)
    page.get_by_role("button", name="Its maps").click()
    page.wait_for_selector(GRID)
    assert_it_fits_and_is_dark(page)


def test_the_notebook_explores_a_run_and_an_image(lab: str, page: Any, image: Path) -> None:
    run_notebook(page, lab, "feature_maps")
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
