"""Sample runs, a served dashboard and a real browser."""

from __future__ import annotations

import asyncio
import importlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_search import find_browser, without_browser
from browsing import Served, clean_page
from sample import Spec, write_run

from sauron_viz.training.jobs import Jobs

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session", autouse=True)
def _own_runtime_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Logs and connection files stay out of the user's own folders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path_factory.mktemp("jupyter")))
        yield


@pytest.fixture(autouse=True)
def _no_loop_of_a_browser(request: pytest.FixtureRequest) -> Iterator[None]:
    """Playwright keeps an event loop running in this process, which a test that needs no browser must not see."""
    if "chromium" in request.fixturenames:
        yield
        return
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    yield
    asyncio._set_running_loop(loop)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one run of every kind; tests only read it."""
    root = tmp_path_factory.mktemp("runs")
    write_run(root / "rats", Spec())
    write_run(root / "kits", Spec(dim=3, side=32, init=4, epochs=6, every=3, dataset="KiTS19"))
    write_run(root / "off", Spec(pruning=False, epochs=4))
    write_run(root / "bare", Spec(maps=False), "running", until=2)
    write_run(root / "broken", Spec(epochs=3), "failed", until=2)
    damaged = write_run(root / "damaged", Spec(epochs=2))
    (damaged / "run.json").write_text("{ not json")
    return root


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one run that was really trained, small as it is, for what needs weights and data."""
    # Only here: the other tests of views show that they do without torch.
    return importlib.import_module("training").train(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def root(trained: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "runs"))


@pytest.fixture
def image(trained: Path) -> Path:
    """An image like those that run was trained on."""
    return next((trained.parent / "phantom" / "imagesTr").glob("*.nii.gz"))


@pytest.fixture
def data(trained: Path, tmp_path: Path) -> Path:
    """A folder with one data set, `phantom`."""
    folder = tmp_path / "data"
    shutil.copytree(trained.parent / "phantom", folder / "phantom")
    return folder


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    """A folder of runs; what still trains in it at the end is killed."""
    (tmp_path / "runs").mkdir()
    made = Jobs(tmp_path / "runs")
    yield made
    for job in Jobs(tmp_path / "runs").all():
        if job.alive:
            job.stop(at_once=True)


@pytest.fixture(scope="session")
def dashboard(runs: Path) -> Iterator[Served]:
    served = Served(runs)
    yield served
    served.stop()


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    started: list[Served] = []

    def start(root: Path, view: str = "dashboard", *options: str, **variables: str) -> Served:
        started.append(Served(root, view, *options, **variables))
        return started[-1]

    yield start
    for served in started:
        served.stop()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    try:
        playwright = importlib.import_module("playwright.sync_api")
    except ImportError:
        without_browser("playwright is missing; install it with pip install playwright")
    with playwright.sync_playwright() as driver:
        path = find_browser(driver.chromium.executable_path)
        if not path:
            without_browser(
                "Chromium is missing; install it with apt-get install chromium or playwright install chromium, "
                "or name it in SAURON_CHROMIUM"
            )
        browser = driver.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A page that must end without an error, a failed response or a request to another host."""
    with clean_page(chromium) as opened:
        yield opened
