"""Training from the dashboard as its users do it: filled in, started, left alone, found again, stopped, resumed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import Served, barriers, clean_page
from sample import Spec, write_run

from sauron_train.runlog import Run
from sauron_viz.training.jobs import Jobs

pytestmark = pytest.mark.browser

TINY = """data.steps_per_epoch=3
data.workers=0
network.init_filters=4
network.levels=3
probe.images=1
maps.every=50
hardware.accelerator=cpu"""
JOB = ".sauron-job[data-id=tiny]"


@pytest.fixture
def place(trained: Path, tmp_path: Path) -> Iterator[Path]:
    """An empty folder `runs` beside the data set `data/phantom`."""
    shutil.copytree(trained.parent / "phantom", tmp_path / "data" / "phantom")
    yield tmp_path
    for job in Jobs(tmp_path / "runs").all():
        if job.alive:
            job.stop(at_once=True)


def fill(page: Any, epochs: str) -> None:
    page.get_by_label("Name of the run").fill("tiny")
    page.get_by_label("Epochs", exact=True).fill(epochs)
    page.get_by_label("Batch size").fill("2")
    page.get_by_label("Patch").fill("32 32")
    page.get_by_label("Pruning").select_option("false")
    page.get_by_label("Other keys").fill(TINY)


def test_a_network_is_trained_from_the_dashboard(
    serve: Callable[..., Served], page: Any, chromium: Any, place: Path
) -> None:
    served = serve(place / "runs", "dashboard", "--allow-training", str(place / "data"))
    page.goto(served.url)
    # Nothing is trained yet: the page opens where something can be done about it.
    page.wait_for_selector("[role=tab][aria-selected=true] >> text=Training")
    page.wait_for_selector("text=8 cases; 1 channel: MRI; 2 structures: ventricle, lesion")
    start = page.get_by_role("button", name="Start training")
    fill(page, "3x")
    page.wait_for_selector(".sauron-wrong >> text=epochs must be a whole number (it is")
    assert page.get_by_label("Epochs", exact=True).get_attribute("aria-invalid") == "true"
    assert start.is_disabled()
    assert barriers(page) == []
    page.get_by_label("Epochs", exact=True).fill("5000")
    page.wait_for_selector("text=11 keys differ from the recipe phantom2d")
    assert page.locator(".sauron-yaml .changed").count() == 11
    assert "batch_size: 2 recipe: 4" in " ".join(page.inner_text(".sauron-yaml").split())
    start.click()
    page.wait_for_selector(f"{JOB}[data-status=running]")
    page.wait_for_selector(f"{JOB} .sauron-log >> text=Phantom2D: 6 cases to train on")
    page.wait_for_selector(f"{JOB} >> text=of 5000")
    page.wait_for_selector(f"{JOB} dt:text-is('Dice')")
    page.wait_for_selector(f"{JOB} >> text=Time left")
    assert barriers(page) == []
    seen = int(page.inner_text(f"{JOB} dd >> nth=0").split()[0])
    page.wait_for_function(f"parseInt(document.querySelector('{JOB} dd').textContent) > {seen}")
    page.close()
    assert Jobs(place / "runs").all()[0].alive
    with clean_page(chromium, color_scheme="dark") as other:
        found_again(other, served, Run(place / "runs" / "tiny"), seen)


def found_again(other: Any, served: Served, run: Run, seen: int) -> None:
    """The page was closed; who opens another finds the training as it stands, and it has gone on."""
    other.goto(f"{served.url}?tab=training")
    other.wait_for_selector(f"{JOB}[data-status=running]")
    other.wait_for_function(f"parseInt(document.querySelector('{JOB} dd').textContent) > {seen}")
    other.get_by_role("button", name="Log: tiny", exact=True).click()
    other.wait_for_selector(f"{JOB} .sauron-log >> text=val loss")
    assert barriers(other) == []
    with other.expect_download() as taken:
        other.get_by_role("button", name="Whole log of tiny").click()
    assert "sauron-train run --recipe=phantom2d" in Path(taken.value.path()).read_text()
    other.get_by_role("button", name="Stop: tiny").click()
    other.wait_for_selector(f"{JOB}[data-status=stopped] button >> text=Resume")
    assert run.status == "stopped"
    done = run.last_epoch
    resume = other.get_by_role("button", name="Resume: tiny")
    resume.focus()
    other.keyboard.press("Enter")
    other.wait_for_selector(f"{JOB} .sauron-log >> text=epochs are done; going on")
    other.wait_for_function(f"parseInt(document.querySelector('{JOB} dd').textContent) > {done + 1}")
    other.get_by_role("button", name="Look at it: tiny").click()
    other.wait_for_selector("[role=tab][aria-selected=true] >> text=Feature maps")
    other.wait_for_selector(".sauron-grid[data-ready^=tiny]")
    other.get_by_role("tab", name="Training").click()
    other.get_by_role("button", name="Stop: tiny").click()
    other.wait_for_selector(f"{JOB}[data-status=stopped] button >> text=Resume")


def test_what_does_not_fit_is_said_before_it_is_started(serve: Callable[..., Served], page: Any, place: Path) -> None:
    write_run(place / "runs" / "tiny", Spec(epochs=1))
    served = serve(place / "runs", "dashboard", "--allow-training", str(place / "data"))
    page.goto(f"{served.url}?tab=training")
    page.get_by_label("Name of the run").fill("tiny")
    page.wait_for_selector("text=There is a run tiny already; choose another name")
    page.get_by_label("Name of the run").fill("")
    page.get_by_label("Other keys").fill("data.channels=3")
    page.wait_for_selector(".sauron-alert >> text=has 1 channels but the recipe is made for 3")
    assert page.get_by_role("button", name="Start training").is_disabled()
    page.get_by_label("Other keys").fill("")
    page.get_by_label("Recipe").select_option("hippocampus3d")
    page.wait_for_selector("text=most of each patch would be empty")
    page.wait_for_function("!document.querySelector('button[data-value=start]').disabled")
    assert barriers(page) == []


def test_without_permission_there_is_no_such_tab(page: Any, dashboard: Served) -> None:
    page.goto(f"{dashboard.url}?tab=training")
    page.wait_for_selector("[role=tab][aria-selected=true]")
    assert page.get_by_role("tab", name="Training").count() == 0
    assert page.locator(".sauron-yaml, .sauron-jobs").count() == 0
