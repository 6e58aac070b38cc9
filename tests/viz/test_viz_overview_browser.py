"""The list of all runs in a real browser: sorted, searched, ticked, opened, followed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsing import Served, barriers, clean_page
from sample import SampleRun, Spec, write_run

pytestmark = pytest.mark.browser

CHART = ".sauron-chart[data-ready=yes] >> visible=true"
IDS = "[...document.querySelectorAll('.sauron-data tbody tr')].map((row) => row.dataset.id)"


def test_runs_are_sorted_searched_ticked_and_opened(page: Any, dashboard: Served, chromium: Any) -> None:
    page.goto(dashboard.url)
    page.wait_for_selector(CHART)
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_function(f"{IDS}.join() === 'bare,broken,damaged,kits,off,rats'")
    page.get_by_role("button", name="FLOPs left").click()
    page.wait_for_selector("th[aria-sort=descending] >> text=FLOPs left")
    falling = page.evaluate(IDS)
    assert falling[-1] == "damaged"
    page.get_by_role("button", name="FLOPs left").click()
    page.wait_for_selector("th[aria-sort=ascending] >> text=FLOPs left")
    rising = page.evaluate(IDS)
    # The others have all their FLOPs, and stay in the order of their names.
    assert (rising[:2], rising[-1]) == (falling[4:2:-1], "damaged")
    with page.expect_download() as taken:
        page.get_by_role("button", name="Save Runs as CSV").click()
    lines = Path(taken.value.path()).read_text().splitlines()
    assert lines[0].startswith("Run,Status,Data set")
    assert [line.split(",")[0] for line in lines[1:]] == page.evaluate(IDS)
    search = page.get_by_role("searchbox", name="Find runs")
    search.fill("kits finished")
    page.wait_for_selector(".sauron-datatable[data-rows='1']")
    search.fill("no such")
    page.wait_for_selector("text=None of 6 runs has")
    search.fill("")
    for name in ("rats", "off"):
        page.get_by_label(f"Compare {name}", exact=True).check()
    page.wait_for_function("location.search.includes('with=rats&with=off')")
    page.get_by_role("button", name="kits", exact=True).click()
    page.wait_for_selector("tr[data-id=kits][aria-current]")
    page.wait_for_selector(".sauron-numbers >> text=KiTS19")
    with clean_page(chromium) as other:
        other.goto(page.url)
        other.wait_for_selector("tr[data-id=kits][aria-current]")
        assert other.get_by_label("Compare off", exact=True).is_checked()
        assert not other.get_by_label("Compare kits", exact=True).is_checked()
        assert barriers(other) == []


def test_the_list_follows_its_runs(serve: Callable[..., Served], page: Any, tmp_path: Path) -> None:
    write_run(tmp_path / "done", Spec(epochs=1))
    run = SampleRun(tmp_path / "live", Spec()).run(until=1)
    page.goto(f"{serve(tmp_path).url}?tab=runs&run=done")
    page.wait_for_selector("tr[data-id=live] >> text=1 of 12")
    page.wait_for_selector("tr[data-id=live] .sauron-status.running")
    run.step()
    page.wait_for_selector("tr[data-id=live] >> text=2 of 12")
    run.writer.finish("stopped")
    page.wait_for_selector("tr[data-id=live] .sauron-status.stopped")
    write_run(tmp_path / "deep" / "new", Spec(epochs=1))
    page.wait_for_selector("tr[data-id='deep/new']")
